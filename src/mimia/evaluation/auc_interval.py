"""Intervals of an AUC, and of the difference of two AUCs of the same images.

DeLong's variance (Biometrics 44, 1988) follows the scores as they are, and is far too small where nearly all pairs are
in the right order: then few images have any influence. The variance of Hanley and McNeil (Radiology 143, 1982) needs no
more than the AUC, and is too small where members differ much among themselves. The interval reaches as far as the wider
of the two, at each end.
"""

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import binomtest, norm
from scipy.stats import t as student_t

from mimia.runtime.arrays import Floats

Interval = tuple[float, float]
_NEARLY = 1 - 1e-9


def auc_interval(of_members: Floats, of_nonmembers: Floats, confidence: float) -> Interval:
    """Return the two-sided interval of an AUC.

    It has two sources. One is DeLong's variance on the scale of log-odds, with the quantile of Student's t for the
    degrees of freedom of Brunner and Munzel (Biometrical Journal 42, 2000). The other is the set of AUCs θ within
    z·√V(θ), where V is Hanley and McNeil's variance with (m + n) / 2 − 1 in the place of both numbers of images less
    one (Newcombe, Statistics in Medicine 25, 2006, method 5). Where the sides do not overlap, the exact interval of
    min(m, n) independent pairs of images, all of which are in one order, takes the place of DeLong's.

    Args:
        of_members: Placements of the members, (m,); two or more.
        of_nonmembers: Placements of the non-members, (n,); two or more.
        confidence: Of the interval.
    """
    auc, m, n = float(of_members.mean()), len(of_members), len(of_nonmembers)
    low, high = _newcombe_low(auc, m, n, confidence), 1 - _newcombe_low(1 - auc, m, n, confidence)
    parts = [part.var(ddof=1) / len(part) for part in (of_members, of_nonmembers)]
    variance = float(sum(parts))
    if auc in (0.0, 1.0):
        by_delong = pairs_interval(auc, min(m, n), confidence)
    elif variance == 0:
        return low, high
    else:
        freedom = variance**2 / (parts[0] ** 2 / (m - 1) + parts[1] ** 2 / (n - 1))
        by_delong = log_odds_interval(auc, float(student_t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(variance))
    return min(low, by_delong[0]), max(high, by_delong[1])


def log_odds_interval(auc: float, reach: float) -> Interval:
    """Return an AUC's interval of a given half width, taken to the scale of log-odds."""
    reach /= auc * (1 - auc)
    return float(expit(logit(auc) - reach)), float(expit(logit(auc) + reach))


def pairs_interval(auc: float, pairs: int, confidence: float) -> Interval:
    """Return the exact interval of an AUC of 0 or 1: that of so many independent pairs of images, all in one order."""
    exact = binomtest(round(auc * pairs), pairs).proportion_ci(confidence, method="exact")
    return float(exact.low), float(exact.high)


def difference_interval(first: tuple[Floats, Floats], second: tuple[Floats, Floats], confidence: float) -> Interval:
    """Return the two-sided interval of the difference of two AUCs of the same images.

    Each end is a root of squares of distances to the ends of both intervals, with the correlation of the AUCs (Zou,
    Psychological Methods 12, 2007, equation 15), which is that of DeLong's covariances.

    Args:
        first: Placements of members, (m,), and of non-members, (n,).
        second: Those of the other scores of the same images.
        confidence: Of the interval.
    """
    one, other = float(first[0].mean()), float(second[0].mean())
    (low, high), (other_low, other_high) = (auc_interval(*parts, confidence) for parts in (first, second))
    correlation = _correlation(first, second)

    def reach(of_one: float, of_other: float) -> float:
        return math.sqrt(max(0.0, of_one**2 + of_other**2 - 2 * correlation * of_one * of_other))

    difference = one - other
    below, above = reach(one - low, other_high - other), reach(high - one, other - other_low)
    return max(difference - below, -1.0), min(difference + above, 1.0)


def _correlation(first: tuple[Floats, Floats], second: tuple[Floats, Floats]) -> float:
    """Return the correlation of two AUCs; 0 if one of them has no variance."""
    total = np.sum([np.cov(a, b) / len(a) for a, b in zip(first, second, strict=True)], axis=0)
    scale = math.sqrt(total[0, 0] * total[1, 1])
    return float(total[0, 1] / scale) if scale > 0 else 0.0


def _newcombe_low(auc: float, m: int, n: int, confidence: float) -> float:
    """Return the lower end of Newcombe's interval; the upper end is that of 1 − AUC, from one."""
    if auc == 0:
        return 0.0
    z, others = float(norm.ppf((1 + confidence) / 2)), (m + n) / 2 - 1

    def beyond(theta: float) -> float:
        spread = 1 + others * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (auc - theta) ** 2 - z**2 * theta * (1 - theta) * spread / (m * n)

    return float(brentq(beyond, 0, min(auc, _NEARLY)))
