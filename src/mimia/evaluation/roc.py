"""The ROC curve, its AUC, and the true-positive rate (TPR) at low false-positive rates (FPR).

The AUC is the probability that a member scores higher than a non-member, plus half the probability of a tie.
"""

import math

import numpy as np
from scipy.stats import binomtest, rankdata
from sklearn.metrics import roc_curve

from mimia.evaluation.auc_interval import auc_interval
from mimia.evaluation.intervals import CONFIDENCE, Estimate
from mimia.evaluation.tpr_interval import tpr_interval
from mimia.runtime.arrays import Floats

_POINTS = 1000  # of a curve that is kept, and as many again at low rates


def roc_points(members: Floats, nonmembers: Floats) -> tuple[Floats, Floats]:
    """Return FPR and TPR at all thresholds, without the points on straight lines.

    A curve of many thousand points is thinned to those that drawings on linear and logarithmic axes need.
    """
    labels = np.concatenate([np.ones(len(members)), np.zeros(len(nonmembers))])
    fpr, tpr, _ = roc_curve(labels, np.concatenate([members, nonmembers]))
    if len(fpr) <= 2 * _POINTS:
        return fpr, tpr
    grid = np.concatenate([np.linspace(0, 1, _POINTS), np.geomspace(1 / len(nonmembers), 1, _POINTS)])
    kept = np.unique(np.searchsorted(fpr, grid, side="right") - 1)
    return fpr[kept], tpr[kept]


def placements(members: Floats, nonmembers: Floats) -> tuple[Floats, Floats]:
    """Return the proportion of non-members below each member, and the proportion of members above each non-member.

    The mean of either is the AUC. Computed from mid-ranks, in the time of a sort (Sun and Xu, IEEE Signal Processing
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


def roc_auc(members: Floats, nonmembers: Floats, confidence: float = CONFIDENCE) -> Estimate:
    """Return the AUC with its interval, that of `auc_interval`; a single image on a side says nothing of its own.

    Args:
        members: Scores of members, (m,).
        nonmembers: Scores of non-members, (n,).
        confidence: Of the interval, two-sided.

    >>> str(roc_auc(np.array([3.0, 2.0, 1.0]), np.array([2.5, 0.5, 0.0])))
    '0.778 [0.033, 0.997]'
    """
    # scikit-learn's roc_auc_score gives the same figure; the interval needs the placements anyway.
    of_members, of_nonmembers = placements(members, nonmembers)
    auc = float(of_members.mean())
    if min(len(members), len(nonmembers)) < 2:
        return Estimate(auc, 0.0, 1.0)
    return Estimate(auc, *auc_interval(of_members, of_nonmembers, confidence))


def auc_variance(of_members: Floats, of_nonmembers: Floats) -> float:
    """Return the variance of an AUC from its `placements`, or of a difference of AUCs from those of both."""
    return float(sum(part.var(ddof=1) / len(part) for part in (of_members, of_nonmembers)))


def tpr_at_fpr(members: Floats, nonmembers: Floats, fpr: float, fewest: int = 10) -> Estimate:
    """Return the proportion of members above a threshold that a given proportion of the non-members is above.

    The interval is that of `tpr_interval`. With fewer than ``fewest`` non-members above the threshold there is no
    figure, because they would not determine it, and the interval alone.
    """
    allowed = int(fpr * len(nonmembers) + 1e-9)
    interval = tpr_interval(members, nonmembers, fpr, CONFIDENCE)
    if allowed < fewest:
        needed = round(fewest / fpr)
        return Estimate(None, *interval, note=f"too few images: {len(nonmembers):,} of {needed:,} non-members")
    bar = np.partition(nonmembers, -allowed - 1)[-allowed - 1]  # ties with it are not above it
    return Estimate(float((members > bar).mean()), *interval)


def balanced_accuracy(members: Floats, nonmembers: Floats, threshold: float) -> Estimate:
    """Return the mean of TPR and true-negative rate, where scores from the threshold on count as members.

    The interval is that of a sum of two proportions from Wilson's interval of each: the squares of the distances to
    their ends add up (Newcombe, Statistics in Medicine 17, 1998, method 10).
    """
    counts = (int((members >= threshold).sum()), len(members)), (int((nonmembers < threshold).sum()), len(nonmembers))
    rates = [hits / of for hits, of in counts]
    intervals = [binomtest(hits, of).proportion_ci(CONFIDENCE, method="wilson") for hits, of in counts]
    below = math.hypot(*(rate - interval.low for rate, interval in zip(rates, intervals, strict=True)))
    above = math.hypot(*(interval.high - rate for rate, interval in zip(rates, intervals, strict=True)))
    return Estimate(sum(rates) / 2, (sum(rates) - below) / 2, (sum(rates) + above) / 2)
