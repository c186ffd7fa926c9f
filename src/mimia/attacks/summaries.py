"""What attacks make of the signals of many draws before they compare models."""

import numpy as np
from scipy.special import logsumexp
from scipy.stats import rankdata

from mimia.arrays import Bools, Floats
from mimia.signals.base import Signals

_SMALLEST = np.finfo(np.float32).tiny  # a blank patch-normalised image can have the distance 0


def mean_distance(signals: Signals, kind: str = "distances") -> Floats:
    """Mean over the draws, L: (models, images)."""
    means: Floats = signals[kind].mean(axis=-1, dtype=np.float64)
    return means


def in_order(signals: Signals, kind: str) -> Floats:
    """Numbers of the images in the order of their ids, for what depends on an order: (models, images, numbers)."""
    numbers: Floats = signals[kind][:, np.argsort(signals.images)].astype(np.float64)
    return numbers


def log_distance(signals: Signals, kind: str = "distances") -> Floats:
    """Logarithm of the mean over the draws, log L: (models, images)."""
    logs: Floats = np.log(np.maximum(mean_distance(signals, kind), _SMALLEST))
    return logs


def mean_where(values: Floats, chosen: Bools) -> Floats:
    """Mean over the chosen models, (models, images) -> (images,); NaN where none is chosen.

    >>> mean_where(np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[True, False], [True, False]]))
    array([ 2., nan])
    """
    count = chosen.sum(axis=0)
    total = np.where(chosen, values, 0.0).sum(axis=0)
    means: Floats = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return means


def log_mean_exp_where(logs: Floats, chosen: Bools) -> Floats:
    """Logarithm of the mean of exp over the chosen models, (models, images) -> (images,), without underflow.

    It is NaN where none is chosen.

    >>> log_mean_exp_where(np.array([[-1000.0, -1.0]]), np.array([[True, False]]))
    array([-1000.,    nan])
    """
    count = chosen.sum(axis=0)
    total = logsumexp(np.where(chosen, logs, -np.inf), axis=0)
    means: Floats = np.where(count > 0, total - np.log(np.maximum(count, 1)), np.nan)
    return means


def variance_where(values: Floats, chosen: Bools) -> Floats:
    """Unbiased variance over the chosen models, (models, images) -> (images,); NaN where fewer than two are chosen."""
    count = chosen.sum(axis=0)
    squares = np.where(chosen, values - mean_where(values, chosen), 0.0) ** 2
    variances: Floats = np.divide(squares.sum(axis=0), count - 1, out=np.full(len(count), np.nan), where=count > 1)
    return variances


def pooled_variance(values: Floats, chosen: Bools) -> float:
    """Variance over the chosen models within each image, (models, images), pooled over the images.

    It is NaN where no image has two chosen models.
    """
    count = chosen.sum(axis=0)
    variances = variance_where(values, chosen)
    weights = np.maximum(count - 1, 0)
    if not weights.any():
        return float("nan")
    return float(np.nansum(variances * weights) / weights.sum())


def area(scores: Floats, members: Bools) -> float:
    """Area under the ROC curve, (images,), with half credit for ties; NaN where one of the sides is empty.

    >>> area(np.array([2.0, 1.0, 1.0]), np.array([True, True, False]))
    0.75
    """
    inside, outside = int(members.sum()), int((~members).sum())
    if not inside or not outside:
        return float("nan")
    above = rankdata(scores)[members].sum() - inside * (inside + 1) / 2
    return float(above / (inside * outside))
