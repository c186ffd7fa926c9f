"""The smallest leak that the images at hand would reveal."""

import math

from scipy.optimize import brentq
from scipy.stats import norm


def detectable_auc(members: int, nonmembers: int, level: float, power: float = 0.9) -> float:
    """Return the AUC that a one-sided Mann–Whitney test finds with a given probability.

    The variance of the test's statistic is its own under the hypothesis of no leak, and for larger AUCs that of Hanley
    and McNeil (Radiology 143, 1982, equation 2), who assume exponentially distributed scores.

    Args:
        members: Number of members.
        nonmembers: Number of non-members.
        level: Of the test; divide it by the number of attacks if p-values are corrected for it.
        power: Probability of finding it.

    >>> round(detectable_auc(200, 1000, 0.05), 3), round(detectable_auc(1000, 5000, 0.05), 3)
    (0.566, 0.529)
    """
    bar = 0.5 + float(norm.isf(level)) * math.sqrt((members + nonmembers + 1) / (12 * members * nonmembers))
    reach = float(norm.ppf(power))

    def margin(auc: float) -> float:
        return auc - bar - reach * math.sqrt(_variance(auc, members, nonmembers))

    if margin(1.0) < 0:
        return 1.0
    return float(brentq(margin, 0.5, 1.0))


def _variance(auc: float, members: int, nonmembers: int) -> float:
    pairs_of_nonmembers, pairs_of_members = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    return (
        auc * (1 - auc)
        + (members - 1) * (pairs_of_nonmembers - auc**2)
        + (nonmembers - 1) * (pairs_of_members - auc**2)
    ) / (members * nonmembers)
