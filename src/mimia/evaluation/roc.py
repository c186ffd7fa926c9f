"""The ROC curve, its area, and the true-positive rate at low false-positive rates.

Ties count half in the area: it is the probability that a member scores higher than a non-member, plus half the
probability that they score the same.
"""

import math

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm, rankdata
from sklearn.metrics import roc_curve

from mimia.arrays import Floats
from mimia.evaluation.estimate import CONFIDENCE, Estimate, share

_POINTS = 1000  # of a curve that is kept, and as many again at low rates


def roc_points(members: Floats, nonmembers: Floats) -> tuple[Floats, Floats]:
    """Give false- and true-positive rates of all thresholds, without points on straight lines.

    Of a curve of many thousand points, enough are kept to draw it on linear and logarithmic axes.
    """
    labels = np.concatenate([np.ones(len(members)), np.zeros(len(nonmembers))])
    false_rate, true_rate, _ = roc_curve(labels, np.concatenate([members, nonmembers]))
    if len(false_rate) <= 2 * _POINTS:
        return false_rate, true_rate
    grid = np.concatenate([np.linspace(0, 1, _POINTS), np.geomspace(1 / len(nonmembers), 1, _POINTS)])
    kept = np.unique(np.searchsorted(false_rate, grid, side="right") - 1)
    return false_rate[kept], true_rate[kept]


def placements(members: Floats, nonmembers: Floats) -> tuple[Floats, Floats]:
    """Give the share of non-members that each member beats, and of members that each non-member is beaten by.

    The mean of either is the ROC area. Found from mid-ranks, in the time of a sort (Sun and Xu, IEEE Signal Processing
    Letters 21, 2014, equation 5).

    Args:
        members: Scores of members, (m,).
        nonmembers: Scores of non-members, (n,).

    Returns:
        (m,) and (n,); ties count half.

    >>> placements(np.array([2.0, 1.0]), np.array([1.0, 0.0]))
    (array([1.  , 0.75]), array([0.75, 1.  ]))
    """
    m, n = len(members), len(nonmembers)
    ranks = rankdata(np.concatenate([members, nonmembers]))
    return (ranks[:m] - rankdata(members)) / n, 1 - (ranks[m:] - rankdata(nonmembers)) / m


def roc_area(members: Floats, nonmembers: Floats, confidence: float = CONFIDENCE) -> Estimate:
    """Give the ROC area with its interval (DeLong et al., Biometrics 44, 1988), found on the scale of log-odds.

    Where the sides do not overlap, that variance is zero and would claim certainty. There the interval is the exact
    one of min(m, n) pairs of images of their own, which are independent, and all of which are in the right order.

    Args:
        members: Scores of members, (m,).
        nonmembers: Scores of non-members, (n,).
        confidence: Of the interval, two-sided.

    >>> str(roc_area(np.array([3.0, 2.0, 1.0]), np.array([2.5, 0.5, 0.0])))
    '0.778 [0.173, 0.983]'
    """
    of_members, of_nonmembers = placements(members, nonmembers)
    area, pairs = float(of_members.mean()), min(len(members), len(nonmembers))
    if pairs < 2:  # nobody knows how much they vary
        return Estimate(area, 0.0, 1.0)
    return area_estimate(area, area_variance(of_members, of_nonmembers), pairs, confidence)


def area_estimate(area: float, variance: float, pairs: int, confidence: float) -> Estimate:
    """Give an area of known variance with its interval; ``pairs`` are the images of the smaller side."""
    if area in (0.0, 1.0):
        exact = share(round(area * pairs), pairs, confidence)
        return Estimate(area, exact.low, exact.high)
    deviation = math.sqrt(variance)
    reach = float(norm.ppf((1 + confidence) / 2)) * deviation / (area * (1 - area))
    return Estimate(area, float(expit(logit(area) - reach)), float(expit(logit(area) + reach)))


def area_variance(of_members: Floats, of_nonmembers: Floats) -> float:
    """Give the variance of an area from its `placements`, or of a difference of areas from theirs."""
    return float(sum(part.var(ddof=1) / len(part) for part in (of_members, of_nonmembers)))


def tpr_at_fpr(members: Floats, nonmembers: Floats, rate: float, fewest: int = 10) -> Estimate:
    """Give the share of members that score above all but a given share of the non-members.

    The interval (Clopper–Pearson) is for the threshold that these non-members set. With fewer than ``fewest``
    non-members above the threshold there is no figure, because they would not say where it is.
    """
    allowed = int(rate * len(nonmembers) + 1e-9)
    if allowed < fewest:
        needed = round(fewest / rate)
        return Estimate(None, note=f"too few images: {len(nonmembers):,} of {needed:,} non-members")
    bar = np.partition(nonmembers, -allowed - 1)[-allowed - 1]  # ties with it are not above it
    return share(int((members > bar).sum()), len(members))
