"""What an encoder is good for: how well classes are read from its frozen features, and what it sees of hidden patches.

A defence that costs nothing is one that leaves these figures as they were.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

from mimia.arrays import Bools, Floats, Ids
from mimia.evaluation.estimate import CONFIDENCE, Estimate, share

_NEIGHBOURS = 20
_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # inverse strengths, as scikit-learn has them
_FOLDS = 3
_RESAMPLES = 2000


@dataclass(frozen=True)
class Utility:
    """How useful features are, on images that their model did not see.

    Attributes:
        linear_probe: Share of the test images that a linear classifier of the features gets right.
        nearest_neighbours: The same of a vote of the 20 nearest images with labels.
        explained: Share of the squared error of the mean colour that reconstructions of hidden patches save, or of the
            model's loss where it predicts no pixels; None if the features are not those of a model with a decoder.
    """

    linear_probe: Estimate
    nearest_neighbours: Estimate
    explained: Estimate | None = None


def classify(features: Floats, labels: Ids, learning: Bools, seed: int) -> Utility:
    """Read classes from features: a linear probe, and k nearest neighbours by the cosine (k = 20).

    The penalty of the probe, a logistic regression of standardised features, is chosen by cross-validation among the
    images that it learns from.

    Args:
        features: (N, D).
        labels: Class of each image, (N,).
        learning: Which images are learned from, (N,); the others are tested on.
        seed: Of the folds.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, KFold
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # All components: a mere rotation, which the penalty does not see, to no more numbers than there are images.
    regression = make_pipeline(StandardScaler(), PCA(), LogisticRegression(max_iter=1000))
    folds = KFold(_FOLDS, shuffle=True, random_state=seed)
    probe = GridSearchCV(regression, {"logisticregression__C": _PENALTIES}, cv=folds)
    neighbours = KNeighborsClassifier(min(_NEIGHBOURS, int(learning.sum())), metric="cosine", weights="distance")
    right = [
        model.fit(features[learning], labels[learning]).predict(features[~learning]) == labels[~learning]
        for model in (probe, neighbours)
    ]
    return Utility(*(share(int(hits.sum()), len(hits)) for hits in right))


def explained_share(errors: Floats, ignorant: Floats, seed: int) -> Estimate:
    """Give the share of the error that a model saves against a prediction that knows nothing, with its interval.

    Args:
        errors: Of the model on each image, (N,).
        ignorant: Of that prediction, (N,).
        seed: Of the bootstrap over images.
    """

    def saved(errors: Floats, ignorant: Floats, axis: int = -1) -> Floats:
        values: Floats = 1 - errors.mean(axis) / ignorant.mean(axis)
        return values

    interval = bootstrap(
        (errors, ignorant),
        saved,
        paired=True,
        n_resamples=_RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(float(saved(errors, ignorant)), float(interval.low), float(interval.high))
