"""Summaries of signals, over draws and over models, that several attacks share."""

import numpy as np
from scipy.special import logsumexp
from scipy.stats import rankdata
from sklearn.metrics import roc_curve

from mimia.runtime.arrays import Bools, Floats
from mimia.runtime.errors import MimiaError
from mimia.signals.arrays import Signals

SMALLEST = np.finfo(np.float32).tiny  # a blank patch-normalised image can have the distance 0


def mean_distance(signals: Signals, name: str = "reconstruction") -> Floats:
    """Return the mean over the draws, L, (models, images)."""
    means: Floats = signals[name].mean(axis=-1, dtype=np.float64)
    return means


def in_order(signals: Signals, name: str) -> Floats:
    """Return a signal with the images in the order of their ids, (models, images, numbers)."""
    numbers: Floats = signals[name][:, np.argsort(signals.images)].astype(np.float64)
    return numbers


def log_distance(signals: Signals, name: str = "reconstruction") -> Floats:
    """Return the logarithm of the mean over the draws, log L, (models, images).

    Raises:
        MimiaError: A mean is negative.
    """
    means = mean_distance(signals, name)
    if means.size and means.min() < 0:
        raise MimiaError(
            f"This attack takes the logarithm of losses, and {name} has negative ones: pass none that are negative."
        )
    logs: Floats = np.log(np.maximum(means, SMALLEST))
    return logs


def mean_where(values: Floats, chosen: Bools) -> Floats:
    """Return the mean over the chosen models, (models, images) -> (images,); NaN where none is chosen.

    >>> mean_where(np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[True, False], [True, False]]))
    array([ 2., nan])
    """
    count = chosen.sum(axis=0)
    total = np.where(chosen, values, 0.0).sum(axis=0)
    means: Floats = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return means


def log_mean_exp_where(logs: Floats, chosen: Bools) -> Floats:
    """Return the logarithm of the mean of exp over the chosen models, (models, images) -> (images,), without underflow.

    It is NaN where none is chosen.

    >>> log_mean_exp_where(np.array([[-1000.0, -1.0]]), np.array([[True, False]]))
    array([-1000.,    nan])
    """
    count = chosen.sum(axis=0)
    total = logsumexp(np.where(chosen, logs, -np.inf), axis=0)
    means: Floats = np.where(count > 0, total - np.log(np.maximum(count, 1)), np.nan)
    return means


def variance_where(values: Floats, chosen: Bools) -> Floats:
    """Return the unbiased variance over the chosen models, (models, images) -> (images,); NaN with fewer than two."""
    count = chosen.sum(axis=0)
    squares = np.where(chosen, values - mean_where(values, chosen), 0.0) ** 2
    variances: Floats = np.divide(squares.sum(axis=0), count - 1, out=np.full(len(count), np.nan), where=count > 1)
    return variances


def pooled_variance(values: Floats, chosen: Bools) -> float:
    """Return the variance over the chosen models within each image, (models, images), pooled over the images.

    It is NaN where no image has two chosen models.
    """
    count = chosen.sum(axis=0)
    variances = variance_where(values, chosen)
    weights = np.maximum(count - 1, 0)
    if not weights.any():
        return float("nan")
    return float(np.nansum(variances * weights) / weights.sum())


def auc(scores: Floats, members: Bools) -> float:
    """Return the area under the ROC curve, with half credit for ties; NaN if there are no members or no others.

    >>> auc(np.array([2.0, 1.0, 1.0]), np.array([True, True, False]))
    0.75
    """
    inside, outside = int(members.sum()), int((~members).sum())
    if not inside or not outside:
        return float("nan")
    above = rankdata(scores)[members].sum() - inside * (inside + 1) / 2
    return float(above / (inside * outside))


def best_threshold(labels: Bools, scores: Floats) -> float:
    """Return the threshold of highest balanced accuracy, halfway to the next lower score."""
    false_rate, true_rate, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    best = int(np.argmax(true_rate - false_rate))
    if best == 0:  # nothing is better than calling no image a member
        return float(np.nextafter(scores.max(), np.inf))
    below = scores[scores < thresholds[best]]
    return float((thresholds[best] + below.max()) / 2 if len(below) else thresholds[best])
