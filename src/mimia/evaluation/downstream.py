"""Utility of an encoder: how well its frozen features predict classes, and how well it reconstructs hidden patches.

A defence without cost leaves these figures unchanged.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

from mimia.evaluation.intervals import CONFIDENCE, Estimate, proportion
from mimia.runtime.arrays import Bools, Floats, Ids

_NEIGHBOURS = 20
_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # inverse strengths, as scikit-learn has them
_FOLDS = 3
_RESAMPLES = 2000


@dataclass(frozen=True)
class Utility:
    """Utility of features, on images that their model did not see.

    Attributes:
        linear_probe: Accuracy of a linear classifier of the features on test images.
        nearest_neighbours: Accuracy of a vote of the 20 nearest images with labels.
        explained: Proportion of the squared error of the mean colour that reconstructions of hidden patches save, or of
            the model's loss where it predicts no pixels; None if the model has no decoder.
    """

    linear_probe: Estimate
    nearest_neighbours: Estimate
    explained: Estimate | None = None


def classify(features: Floats, labels: Ids, learning: Bools, seed: int) -> Utility:
    """Compute the accuracy of a linear probe and of the k nearest neighbours by cosine distance (k = 20).

    The probe is a logistic regression of standardised features; its penalty is chosen by cross-validation among the
    training images.

    Args:
        features: (N, D).
        labels: Class of each image, (N,).
        learning: Which images are for training, (N,); the others are for testing.
        seed: Of the folds.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, KFold
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # All components: a rotation, under which the penalty is invariant, to no more dimensions than there are images.
    regression = make_pipeline(StandardScaler(), PCA(), LogisticRegression(max_iter=1000))
    folds = KFold(_FOLDS, shuffle=True, random_state=seed)
    probe = GridSearchCV(regression, {"logisticregression__C": _PENALTIES}, cv=folds)
    neighbours = KNeighborsClassifier(min(_NEIGHBOURS, int(learning.sum())), metric="cosine", weights="distance")
    right = [
        model.fit(features[learning], labels[learning]).predict(features[~learning]) == labels[~learning]
        for model in (probe, neighbours)
    ]
    return Utility(*(proportion(int(hits.sum()), len(hits)) for hits in right))


def explained_proportion(errors: Floats, baseline: Floats, seed: int) -> Estimate:
    """Return the proportion of a baseline's error that a model saves, with its bootstrap interval.

    Args:
        errors: Of the model on each image, (N,).
        baseline: Errors of the baseline, (N,).
        seed: Of the bootstrap over images.
    """

    def saved(errors: Floats, baseline: Floats, axis: int = -1) -> Floats:
        values: Floats = 1 - errors.mean(axis) / baseline.mean(axis)
        return values

    interval = bootstrap(
        (errors, baseline),
        saved,
        paired=True,
        n_resamples=_RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(float(saved(errors, baseline)), float(interval.low), float(interval.high))
