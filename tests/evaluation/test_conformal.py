import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from mimia.evaluation.conformal import conformal_p_values, discoveries
from mimia.runtime.arrays import Floats

SCORES = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=20).map(np.array)


@given(SCORES, SCORES)
@settings(max_examples=50, deadline=None)
def test_p_value_counts_the_known_nonmembers_that_score_as_high(scores: Floats, known: Floats) -> None:
    found = conformal_p_values(scores, known)
    for p_value, score in zip(found, scores, strict=True):
        assert p_value == pytest.approx((1 + sum(other >= score for other in known)) / (len(known) + 1))


@pytest.mark.parametrize("shape", [0.5, 5])
def test_p_values_of_nonmembers_are_uniform(shape: float) -> None:
    generator = np.random.default_rng(0)
    p_values = [
        conformal_p_values(generator.gamma(shape, size=1), generator.gamma(shape, size=999))[0] for _ in range(500)
    ]
    assert kstest(p_values, "uniform").pvalue > 0.01


def test_p_values_by_few_known_nonmembers_are_as_often_small_as_they_say() -> None:
    generator = np.random.default_rng(0)
    runs = 4000
    p_values = np.array([conformal_p_values(generator.normal(size=1), generator.normal(size=19)) for _ in range(runs)])
    for level in (0.05, 0.1, 0.5, 0.9):
        deviation = math.sqrt(level * (1 - level) / runs)
        assert (p_values <= level + 1e-9).mean() == pytest.approx(level, abs=4 * deviation)


def test_p_values_of_nonmembers_with_ties_are_never_too_small() -> None:
    generator = np.random.default_rng(0)
    runs = 4000
    p_values = np.array(
        [conformal_p_values(generator.normal(size=1).round(), generator.normal(size=19).round()) for _ in range(runs)]
    )
    for level in (0.05, 0.1, 0.5, 0.9):
        assert (p_values <= level + 1e-9).mean() <= level + 4 * math.sqrt(level * (1 - level) / runs)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=30), st.sampled_from([0.05, 0.1, 0.5]))
@settings(max_examples=100, deadline=None)
def test_discoveries_are_those_of_benjamini_and_hochberg(percents: list[int], rate: float) -> None:
    p_values = np.array(percents) / 101
    ordered = sorted(p_values)
    passing = [rank for rank, p_value in enumerate(ordered, 1) if p_value <= rate * rank / len(ordered)]
    bar = ordered[max(passing) - 1] if passing else 0
    assert discoveries(p_values, rate).tolist() == [p_value <= bar for p_value in p_values]


@pytest.mark.parametrize("members", [0, 20, 60])
def test_proportion_of_false_discoveries_stays_below_its_bound(members: int) -> None:
    generator = np.random.default_rng(members)
    runs, rate, found = 300, 0.2, 0
    proportions = []
    for _ in range(runs):
        truth = np.arange(100) < members
        scores = generator.normal(np.where(truth, 3.0, 0.0), 1)
        listed = discoveries(conformal_p_values(scores, generator.normal(size=400)), rate)
        proportions.append((listed & ~truth).sum() / max(listed.sum(), 1))
        found += (listed & truth).sum()
    assert np.mean(proportions) <= rate + 3 * np.std(proportions) / math.sqrt(runs)
    assert found >= 0.5 * members * runs
