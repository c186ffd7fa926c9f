import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from mimia.evaluation.comparison import compare, holm
from mimia.evaluation.roc import roc_auc
from mimia.runtime.arrays import Bools, Floats

MEMBERS = np.arange(300) < 100


def two_attacks(shift: float, common: float, seed: int, members: Bools = MEMBERS) -> tuple[Floats, Floats]:
    """Draw scores with a common part of noise, of which the first are better by a shift."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(3, len(members)))
    shared = math.sqrt(common) * noise[0]
    first, second = (shared + math.sqrt(1 - common) * own for own in noise[1:])
    return first + (0.5 + shift) * members, second + 0.5 * members


def auc(scores: Floats, members: Bools = MEMBERS) -> float:
    table = scores[members][:, None] - scores[~members]
    return float((table > 0).mean() + (table == 0).mean() / 2)


def test_difference_is_that_of_the_aucs_and_its_interval_that_of_resampling() -> None:
    first, second = two_attacks(0.4, 0.7, seed=0)
    found = compare(first, second, MEMBERS).difference
    assert found.value == pytest.approx(auc(first) - auc(second))
    generator = np.random.default_rng(1)
    inside, outside = np.flatnonzero(MEMBERS), np.flatnonzero(~MEMBERS)
    differences = []
    for _ in range(2000):
        rows = np.concatenate([generator.choice(inside, len(inside)), generator.choice(outside, len(outside))])
        differences.append(auc(first[rows]) - auc(second[rows]))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])), abs=0.01)


def test_sides_against_each_other_are_surer_on_the_same_images() -> None:
    first, second = two_attacks(0.3, 0.95, seed=0)
    paired = compare(first, second, MEMBERS)
    alone = [roc_auc(scores[MEMBERS], scores[~MEMBERS]) for scores in (first, second)]
    assert alone[0].low is not None
    assert alone[1].high is not None
    assert alone[0].low < alone[1].high  # the intervals overlap
    assert paired.p_value < 0.001


@pytest.mark.parametrize("common", [0.0, 0.8])
def test_attacks_that_are_equally_good_differ_as_often_as_the_level_says(common: float) -> None:
    repeats = 300
    p_values = np.array([compare(*two_attacks(0, common, seed), MEMBERS).p_value for seed in range(repeats)])
    for level in (0.05, 0.5, 0.95):
        hits = int((p_values < level).sum())
        assert binom.ppf(0.001, repeats, level) <= hits <= binom.ppf(0.999, repeats, level)


@given(st.lists(st.integers(-2, 2), min_size=8, max_size=8), st.lists(st.integers(-2, 2), min_size=8, max_size=8))
@settings(max_examples=50, deadline=None)
def test_changing_places_changes_the_sign(first: list[int], second: list[int]) -> None:
    members = np.arange(8) < 3
    one = compare(np.array(first, float), np.array(second, float), members)
    other = compare(np.array(second, float), np.array(first, float), members)
    assert one.difference.value == pytest.approx(-(other.difference.value or 0.0))
    assert one.p_value <= 0.5 or other.p_value <= 0.5


def test_certain_differences_are_as_sure_as_there_are_images() -> None:
    members = np.arange(20) < 6
    perfect = members.astype(float)
    assert compare(perfect, np.zeros(20), members).p_value == 0.5**6
    assert compare(np.zeros(20), perfect, members).p_value == 1
    assert compare(perfect, perfect, members).p_value == 0.5


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=7))
@settings(max_examples=100, deadline=None)
def test_corrected_p_value_is_the_largest_of_all_sets_that_hold_it(thousandths: list[int]) -> None:
    """Holm's procedure is Bonferroni's on every intersection of hypotheses (Marcus et al., 1976)."""
    p_values = [number / 1000 for number in thousandths]
    places = range(len(p_values))
    for place, p_value_holm in zip(places, holm(p_values), strict=True):
        sets = [group for size in places for group in combinations(places, size + 1) if place in group]
        slow = max(min(1.0, len(group) * min(p_values[each] for each in group)) for group in sets)
        assert p_value_holm == pytest.approx(slow)
