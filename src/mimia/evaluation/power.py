"""How large a leak would have been found with the images at hand?"""

import math

from scipy.optimize import brentq
from scipy.stats import norm


def detectable_area(members: int, nonmembers: int, level: float, power: float = 0.9) -> float:
    """Give the ROC area that a one-sided Mann–Whitney test finds with a given probability.

    The test's statistic has its own variance under the hypothesis of no leak, and for larger areas that of Hanley and
    McNeil (Radiology 143, 1982, equation 2), whose scores are exponentially distributed.

    Args:
        members: Images of that side.
        nonmembers: Images of that side.
        level: Of the test; divide it by the number of attacks that it is corrected for.
        power: Probability of finding it.

    >>> round(detectable_area(200, 1000, 0.05), 3), round(detectable_area(1000, 5000, 0.05), 3)
    (0.566, 0.529)
    """
    bar = 0.5 + float(norm.isf(level)) * math.sqrt((members + nonmembers + 1) / (12 * members * nonmembers))
    reach = float(norm.ppf(power))

    def lacking(area: float) -> float:
        return area - bar - reach * math.sqrt(_variance(area, members, nonmembers))

    if lacking(1.0) < 0:
        return 1.0
    return float(brentq(lacking, 0.5, 1.0))


def _variance(area: float, members: int, nonmembers: int) -> float:
    pairs_of_nonmembers, pairs_of_members = area / (2 - area), 2 * area**2 / (1 + area)
    return (
        area * (1 - area)
        + (members - 1) * (pairs_of_nonmembers - area**2)
        + (nonmembers - 1) * (pairs_of_members - area**2)
    ) / (members * nonmembers)
