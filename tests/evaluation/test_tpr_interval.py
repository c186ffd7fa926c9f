"""The interval of a TPR at a fixed FPR covers the TPR of the population, in many cells."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import binom, norm
from scipy.stats import t as student_t

from mimia.evaluation.intervals import proportion
from mimia.evaluation.tpr_interval import tpr_interval
from mimia.runtime.arrays import Floats

Draw = Callable[[np.random.Generator, int], Floats]
STUDENT = student_t(3)
RUNS = 200


@dataclass(frozen=True)
class Scores:
    """Distributions of the scores of members and non-members.

    Attributes:
        members: Draw some members' scores.
        nonmembers: Draw some non-members' scores.
        tpr: TPR at the threshold of an FPR.
    """

    members: Draw
    nonmembers: Draw
    tpr: Callable[[float], float]


def normal(shift: float) -> Scores:
    return Scores(
        lambda generator, count: generator.normal(shift, 1, count),
        lambda generator, count: generator.normal(0, 1, count),
        lambda fpr: float(norm.sf(norm.isf(fpr) - shift)),
    )


def heavy_tails() -> Scores:
    return Scores(
        lambda generator, count: 3 + generator.standard_t(3, count),
        lambda generator, count: generator.standard_t(3, count),
        lambda fpr: float(STUDENT.sf(STUDENT.isf(fpr) - 3)),
    )


def some_far_out(proportion_out: float) -> Scores:
    """A mixture: some members are found with certainty, and the others not at all."""
    return Scores(
        lambda generator, count: generator.normal(6 * (generator.random(count) < proportion_out), 1),
        lambda generator, count: generator.normal(0, 1, count),
        lambda fpr: float((1 - proportion_out) * fpr + proportion_out * norm.sf(norm.isf(fpr) - 6)),
    )


def rounded(shift: float, step: float) -> Scores:
    """Scores with ties; the threshold is the lowest value with no more than the FPR above it."""

    def tpr(fpr: float) -> float:
        values = np.arange(-20, 40) * step
        threshold = values[np.argmax(norm.sf(values + step / 2) <= fpr)]
        return float(norm.sf(threshold + step / 2 - shift))

    return Scores(
        lambda generator, count: np.round(generator.normal(shift, 1, count) / step) * step,
        lambda generator, count: np.round(generator.normal(0, 1, count) / step) * step,
        tpr,
    )


CELLS = {
    "N(2, 1), 1 %": (normal(2), 0.01, 200, 1000),
    "N(2, 1), 1 %, many": (normal(2), 0.01, 5000, 10000),
    "N(2, 1), 0.1 %": (normal(2), 0.001, 5000, 10000),
    "N(2, 1), 10 %, few": (normal(2), 0.1, 50, 100),
    "N(0.3, 1), 1 %": (normal(0.3), 0.01, 1000, 1000),
    "N(0.3, 1), 10 %": (normal(0.3), 0.1, 1000, 1000),
    "t with 3 degrees": (heavy_tails(), 0.01, 1000, 1000),
    "mixture, 1 %": (some_far_out(0.1), 0.01, 1000, 2000),
    "mixture, 0.1 %": (some_far_out(0.1), 0.001, 2000, 20000),
    "ties, 1 %": (rounded(1, 0.5), 0.01, 500, 2000),
    "ties, 2 %": (rounded(1, 1.0), 0.02, 1000, 1000),
    "ties, 5 %": (rounded(1, 0.5), 0.05, 200, 400),
    "ties, 10 %": (rounded(1, 0.5), 0.1, 1000, 1000),
    "many ties, 10 %": (rounded(1, 0.2), 0.1, 1000, 1000),
}


def coverage(cell: str, runs: int) -> tuple[int, float]:
    """Return in how many runs the interval has the true TPR, and its mean width."""
    scores, fpr, members, nonmembers = CELLS[cell]
    generator, covered, widths = np.random.default_rng(0), 0, []
    for _ in range(runs):
        low, high = tpr_interval(
            scores.members(generator, members), scores.nonmembers(generator, nonmembers), fpr, 0.95
        )
        covered += low <= scores.tpr(fpr) <= high
        widths.append(high - low)
    return covered, float(np.mean(widths))


@pytest.mark.parametrize("cell", CELLS)
def test_interval_covers_the_tpr_of_the_population(cell: str) -> None:
    covered, _ = coverage(cell, RUNS)
    assert covered >= binom.ppf(0.001, RUNS, 0.95)


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_interval_covers_the_tpr_of_the_population_in_many_runs(cell: str) -> None:
    covered, width = coverage(cell, 2000)
    print(f"{cell}: {covered / 2000:.3f} / {width:.3f}")
    assert covered >= 0.94 * 2000


def test_many_nonmembers_leave_the_uncertainty_of_the_members_alone() -> None:
    generator = np.random.default_rng(0)
    members, nonmembers = generator.normal(2, 1, 200), norm.isf((np.arange(1_000_000) + 0.5) / 1_000_000)
    exact = proportion(int((members > norm.isf(0.01)).sum()), 200)
    assert tpr_interval(members, nonmembers, 0.01, 0.95) == pytest.approx((exact.low, exact.high), abs=0.005)


def test_interval_is_that_of_its_definition_by_simulation() -> None:
    """Draw the number of non-members above the threshold, and then the TPR by Clopper and Pearson's distributions."""
    generator = np.random.default_rng(0)
    members, nonmembers = generator.normal(1, 1, 30), generator.normal(size=50)
    above = generator.binomial(50, 0.1, 200_000)
    ordered = np.concatenate([[np.inf], np.sort(nonmembers)[::-1], [-np.inf]])
    hits_low = (members > ordered[above][:, None]).sum(axis=1)
    hits_high = (members > ordered[above + 1][:, None]).sum(axis=1)
    lows = np.where(hits_low > 0, generator.beta(np.maximum(hits_low, 1), 30 - hits_low + 1), 0)
    highs = np.where(hits_high < 30, generator.beta(hits_high + 1, np.maximum(30 - hits_high, 1)), 1)
    expected = np.quantile(lows, 0.05), np.quantile(highs, 0.95)
    assert tpr_interval(members, nonmembers, 0.1, 0.9) == pytest.approx(expected, abs=0.005)


def test_no_member_and_all_members_found_reach_the_ends() -> None:
    lower, higher = np.arange(20.0), 100 + np.arange(300.0)
    none = proportion(0, 20)
    assert tpr_interval(lower, higher, 0.1, 0.95) == pytest.approx((0, none.high))
    every = proportion(20, 20)
    assert tpr_interval(lower + 1000, higher, 0.1, 0.95) == pytest.approx((every.low, 1))


def test_constant_scores_say_nothing_of_a_tpr_above_zero() -> None:
    low, _ = tpr_interval(np.ones(50), np.ones(500), 0.01, 0.95)
    assert low == 0
