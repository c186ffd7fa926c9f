"""The blind baseline: can members be told from non-members without any model?

If so, the two sides differ by more than membership (by their preparation, say), and an attack's success proves
nothing (Das et al., arXiv 2406.16201).
"""

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import train_test_split

from mimia.arrays import Bools, Floats, Indices, Pixels
from mimia.images.statistics import pixel_statistics


def blind_scores(pixels: Pixels, members: Bools, seed: int) -> tuple[Floats, Indices]:
    """Fit a classifier on the pixel statistics of one half of the images, and score the other half.

    One half and not cross-validation: the scores of overlapping folds depend on each other, and an interval that takes
    them for independent ones is too narrow.

    Args:
        pixels: uint8, (N, C, H, W).
        members: (N,).
        seed: Seed of halves and classifier.

    Returns:
        Probability of being a member, and which images were scored, both (N / 2,).
    """
    classifier = HistGradientBoostingClassifier(
        max_iter=100, max_leaf_nodes=8, learning_rate=0.05, early_stopping=False, random_state=seed
    )
    features = pixel_statistics(pixels)
    fitted, scored = train_test_split(np.arange(len(pixels)), test_size=0.5, stratify=members, random_state=seed)
    classifier.fit(features[fitted], members[fitted])
    return classifier.predict_proba(features[scored])[:, 1], scored
