"""The interval of a TPR at a fixed FPR, where both sides are samples.

The threshold has the wanted FPR in the population of non-members, and these non-members say only roughly where it is:
with continuous scores, the number of them above it is binomial. The interval weighs all places of the threshold by that
probability, and at each place adds Clopper and Pearson's uncertainty of the members.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import betainc
from scipy.stats import beta, binom

from mimia.runtime.arrays import Floats, Indices

_NEGLIGIBLE = 1e-10  # probability of places of the threshold that are left out on each side


@dataclass(frozen=True)
class _Places:
    """Places of the threshold.

    Attributes:
        weights: Their probabilities, (places,).
        thresholds: (places,).
        hits: Number of members above each, or not above, (places,).
        of: Number of members.
    """

    weights: Floats
    thresholds: Floats
    hits: Indices
    of: int


def tpr_interval(members: Floats, nonmembers: Floats, fpr: float, confidence: float) -> tuple[float, float]:
    """Return the two-sided interval of the TPR at the threshold of a given FPR in the population.

    With k of n non-members above the threshold, which has the probability Bin(k; n, FPR), it lies between the kth and
    the (k + 1)th highest of them. The lower end is a quantile of the mixture of Clopper and Pearson's distributions of
    the TPR at the former, Beta(h, m − h + 1), over k; the upper end one of those at the latter, Beta(h + 1, m − h).
    Where scores tie, the true threshold is one of few values. So the interval includes that of Clopper and Pearson at
    each value that two non-members or more have and whose weight is not small.

    Args:
        members: Scores of members, (m,).
        nonmembers: Scores of non-members, (n,).
        fpr: Above 0 and below 1.
        confidence: Of the interval.
    """
    tail, n = (1 - confidence) / 2, len(nonmembers)
    first, last = np.asarray(binom.ppf([_NEGLIGIBLE, 1 - _NEGLIGIBLE], n, fpr)).astype(np.intp)
    above = np.arange(first, last + 1)
    weights = binom.pmf(above, n, fpr)
    weights /= weights.sum()
    highest_first = np.concatenate([[np.inf], np.sort(nonmembers)[::-1], [-np.inf]])
    values, counts = np.unique(nonmembers, return_counts=True)
    ends = []
    for thresholds, count in ((highest_first[above], _above), (highest_first[above + 1], _not_above)):
        ends.append(
            _lower_end(_Places(weights, thresholds, count(members, thresholds), len(members)), values[counts > 1], tail)
        )
    return ends[0], 1 - ends[1]


def _above(scores: Floats, thresholds: Floats) -> Indices:
    return len(scores) - _not_above(scores, thresholds)


def _not_above(scores: Floats, thresholds: Floats) -> Indices:
    return np.searchsorted(np.sort(scores), thresholds, side="right")


def _lower_end(places: _Places, tied: Floats, tail: float) -> float:
    """Return the lower end of the interval of a proportion; that of its complement is the upper end."""
    ends = [_mixture_quantile(places, tail)]
    for value in tied[np.isin(tied, places.thresholds)]:
        here = places.thresholds == value
        if places.weights[here].sum() >= tail / 2:
            hits = places.hits[here][0]
            ends.append(float(beta.ppf(tail, hits, places.of - hits + 1)) if hits else 0.0)
    return min(ends)


def _mixture_quantile(places: _Places, tail: float) -> float:
    spread = places.hits > 0  # without a hit, the distribution is at 0
    certain = places.weights[~spread].sum()
    if certain >= tail:
        return 0.0
    weights, a = places.weights[spread], places.hits[spread]
    return float(brentq(lambda p: certain + weights @ betainc(a, places.of - a + 1, p) - tail, 0, 1))
