"""Comparison of two attacks on the same images, and correction of p-values for several attacks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from mimia.evaluation.auc_interval import difference_interval
from mimia.evaluation.intervals import CONFIDENCE, Estimate
from mimia.evaluation.roc import auc_variance, placements
from mimia.runtime.arrays import Bools, Floats


@dataclass(frozen=True)
class Comparison:
    """Two AUCs on the same images.

    Attributes:
        difference: First minus second, with its 95 % interval.
        p_value: One-sided; small if the first is larger.
    """

    difference: Estimate
    p_value: float


def compare(first: Floats, second: Floats, is_member: Bools) -> Comparison:
    """Compare the AUCs of two scores of the same images (DeLong et al., Biometrics 44, 1988).

    The AUCs are correlated through the images, which makes the difference more certain. The interval is that of
    `difference_interval`, the p-value of DeLong's test. Where the variance of the difference is zero, as for a perfect
    score and a constant one, the p-value is that of min(m, n) independent pairs of images which all favour the first.

    Args:
        first: (images,).
        second: (images,).
        is_member: (images,); with a single image on a side, nothing is certain.

    >>> scores = np.array([4.0, 3.0, 2.0, 1.0])
    >>> compare(scores, scores, np.array([True, False, True, False])).p_value
    0.5
    """
    of_first = placements(first[is_member], first[~is_member])
    of_second = placements(second[is_member], second[~is_member])
    of_members, of_nonmembers = of_first[0] - of_second[0], of_first[1] - of_second[1]
    difference = float(of_members.mean())
    if min(len(of_members), len(of_nonmembers)) < 2:  # there is no variance of one image
        return Comparison(Estimate(difference, -1.0, 1.0), 0.5 if difference > 0 else 1.0)
    interval = difference_interval(of_first, of_second, CONFIDENCE)
    deviation = math.sqrt(auc_variance(of_members, of_nonmembers))
    if deviation == 0:
        pairs = min(len(of_members), len(of_nonmembers))
        p_value = 0.5 if difference == 0 else 0.5**pairs if difference > 0 else 1.0
        return Comparison(Estimate(difference, *interval), p_value)
    return Comparison(Estimate(difference, *interval), float(norm.sf(difference / deviation)))


def holm(p_values: Sequence[float] | Floats, weights: Sequence[float] | None = None) -> list[float]:
    """Return p-values corrected for their number (Holm, Scandinavian Journal of Statistics 6, 1979).

    Whichever hypotheses are true, the probability that one of them has a corrected p-value below a level is at most
    that level. SciPy has no such correction (its ``false_discovery_control`` bounds another error rate).

    Args:
        p_values: (tests,).
        weights: Share of the level that each test gets, (tests,); fixed before its p-value is known; default: equal.

    >>> holm([0.01, 0.04, 0.03]), holm([0.01, 0.03, 0.01], [0.5, 0.25, 0.25])
    ([0.03, 0.06, 0.06], [0.02, 0.03, 0.02])
    """
    values, shares = np.array(p_values, dtype=np.float64), np.ones(len(p_values))
    if weights is not None:
        shares = np.array(weights, dtype=np.float64)
    order = np.argsort(values / shares, kind="stable")
    remaining = shares[order][::-1].cumsum()[::-1]
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(values[order] * remaining / shares[order]).clip(max=1)
    return [float(value) for value in adjusted]
