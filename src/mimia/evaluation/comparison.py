"""Is one attack better than another, and do several together find anything?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from mimia.arrays import Bools, Floats
from mimia.evaluation.estimate import Estimate
from mimia.evaluation.roc import area_variance, placements


@dataclass(frozen=True)
class Comparison:
    """Two ROC areas on the same images.

    Attributes:
        difference: First minus second, with its 95 % interval.
        p_value: One-sided, that the first is no larger.
    """

    difference: Estimate
    p_value: float


def compare(first: Floats, second: Floats, members: Bools) -> Comparison:
    """Compare the ROC areas of two scores of the same images (DeLong et al., Biometrics 44, 1988).

    The areas depend on each other through the images, and the difference is the surer the more they do. Where its
    variance is zero, as of a perfect score and a constant one, the p-value is that of min(m, n) independent pairs of
    images which all favour the first.

    Args:
        first: (images,).
        second: (images,).
        members: (images,); two or more of each side.

    >>> scores = np.array([4.0, 3.0, 2.0, 1.0])
    >>> compare(scores, scores, np.array([True, False, True, False])).p_value
    0.5
    """
    ones = placements(first[members], first[~members])
    others = placements(second[members], second[~members])
    of_members, of_nonmembers = ones[0] - others[0], ones[1] - others[1]
    difference = float(of_members.mean())
    deviation = math.sqrt(area_variance(of_members, of_nonmembers))
    if deviation == 0:
        pairs = min(len(of_members), len(of_nonmembers))
        p_value = 0.5 if difference == 0 else 0.5**pairs if difference > 0 else 1.0
        return Comparison(Estimate(difference, difference, difference), p_value)
    reach = float(norm.ppf(0.975)) * deviation
    return Comparison(
        Estimate(difference, max(difference - reach, -1), min(difference + reach, 1)),
        float(norm.sf(difference / deviation)),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm, Scandinavian Journal of Statistics 6, 1979).

    Whichever hypotheses are true, one of these falls below a level by chance with a probability of that level at most.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    values = np.array(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)).clip(max=1)
    corrected = np.empty_like(values)
    corrected[order] = stepped
    return [float(value) for value in corrected]
