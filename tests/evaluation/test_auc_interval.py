"""Intervals of an AUC and of a difference of AUCs cover the truth, near 1 and among unlike members too."""

import math

import numpy as np
import pytest
from scipy.stats import binom, norm

from mimia.evaluation.auc_interval import auc_interval, difference_interval
from mimia.evaluation.roc import placements
from mimia.runtime.arrays import Floats

RUNS = 300


def true_auc(shift: float, spread: float = 1.0) -> float:
    return float(norm.cdf(shift / math.hypot(1, spread)))


def members_of(cell: str, generator: np.random.Generator, count: int) -> Floats:
    if cell == "mixture":
        return generator.normal(6 * (generator.random(count) < 0.1), 1)
    if cell == "wide":
        return generator.normal(2, 4, count)
    return generator.normal(float(cell), 1, count)


TRUTH = {
    **{shift: true_auc(float(shift)) for shift in ("0", "1", "2", "3", "4")},
    "mixture": 0.9 * 0.5 + 0.1 * true_auc(6),
    "wide": true_auc(2, 4),
}


def covered(cell: str, members: int, nonmembers: int, runs: int) -> int:
    generator, hits = np.random.default_rng(0), 0
    for _ in range(runs):
        parts = placements(members_of(cell, generator, members), generator.normal(size=nonmembers))
        low, high = auc_interval(*parts, 0.95)
        hits += low <= TRUTH[cell] <= high
    return hits


@pytest.mark.parametrize(("members", "nonmembers"), [(20, 20), (50, 400)])
@pytest.mark.parametrize("cell", TRUTH)
def test_interval_covers_the_true_auc(cell: str, members: int, nonmembers: int) -> None:
    assert covered(cell, members, nonmembers, RUNS) >= binom.ppf(0.001, RUNS, 0.945)


@pytest.mark.slow
@pytest.mark.parametrize(("members", "nonmembers"), [(20, 20), (50, 400), (200, 1000), (1000, 1000)])
@pytest.mark.parametrize("cell", TRUTH)
def test_interval_covers_the_true_auc_in_many_runs(cell: str, members: int, nonmembers: int) -> None:
    found = covered(cell, members, nonmembers, 2000)
    print(f"{cell}, {members} and {nonmembers}: {found / 2000:.3f}")
    assert found >= 0.94 * 2000


PAIRS = [(1.0, 0.8, 0.5), (1.0, 1.0, 0.9), (0.3, 0.0, 0.0), (2.5, 2.0, 0.8), (3.5, 2.0, 0.5), (3.5, 3.2, 0.9)]


@pytest.mark.parametrize(("members", "nonmembers"), [(30, 30), (50, 400)])
@pytest.mark.parametrize(("first", "second", "correlation"), PAIRS)
def test_interval_covers_the_true_difference(
    first: float, second: float, correlation: float, members: int, nonmembers: int
) -> None:
    generator, hits = np.random.default_rng(0), 0
    difference = true_auc(first) - true_auc(second)
    for _ in range(RUNS):
        noise = generator.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], members + nonmembers)
        inside, outside = noise[:members] + np.array([first, second]), noise[members:]
        low, high = difference_interval(
            placements(inside[:, 0], outside[:, 0]), placements(inside[:, 1], outside[:, 1]), 0.95
        )
        hits += low <= difference <= high
    assert hits >= binom.ppf(0.001, RUNS, 0.945)


def test_same_scores_have_no_difference_but_an_interval_around_it() -> None:
    generator = np.random.default_rng(0)
    parts = placements(generator.normal(1, 1, 30), generator.normal(size=40))
    low, high = difference_interval(parts, parts, 0.95)
    assert low <= 0 <= high
    assert high - low < 0.25 * np.subtract(*auc_interval(*parts, 0.95)[::-1])


def test_newcombe_ends_solve_their_equation() -> None:
    """With members and non-members that hardly overlap, the interval is Newcombe's alone."""
    parts = placements(np.array([*np.arange(10.0, 29), 0.5]), np.arange(-19.0, 1))
    auc = float(parts[0].mean())
    z = norm.ppf(0.975)
    for theta in auc_interval(*parts, 0.95):
        spread = 1 + 19 * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        gap = abs(auc - theta) - z * math.sqrt(theta * (1 - theta) * spread / 400)
        assert gap > -1e-9  # as far as Newcombe's, or further where DeLong's reaches further
