import math
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm
from sklearn.metrics import roc_auc_score

from mimia.evaluation.roc import placements, roc_auc, roc_points, tpr_at_fpr
from mimia.runtime.arrays import Floats

SCORES = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=20).map(np.array)


def slow_auc(members: Floats, nonmembers: Floats) -> float:
    """Probability that a member scores higher than a non-member; ties count half."""
    wins = sum((member > other) + (member == other) / 2 for member in members for other in nonmembers)
    return float(wins) / (len(members) * len(nonmembers))


@given(SCORES, SCORES)
@settings(max_examples=50, deadline=None)
def test_auc_is_the_proportion_of_pairs_in_the_right_order(members: Floats, nonmembers: Floats) -> None:
    found = roc_auc(members, nonmembers).value
    assert found == pytest.approx(slow_auc(members, nonmembers))
    labels = [True] * len(members) + [False] * len(nonmembers)
    assert found == pytest.approx(roc_auc_score(labels, [*members, *nonmembers]))


@pytest.mark.parametrize("decimals", [0, 9], ids=["with ties", "without ties"])
def test_interval_is_nearly_that_of_resampling_members_and_nonmembers(decimals: int) -> None:
    generator = np.random.default_rng(0)
    members = generator.normal(0.5, 1, 40).round(decimals)
    nonmembers = generator.normal(0, 1, 60).round(decimals)
    aucs = [slow_auc_by_table(generator.choice(members, 40), generator.choice(nonmembers, 60)) for _ in range(4000)]
    estimate = roc_auc(members, nonmembers)
    assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(aucs, [0.025, 0.975])), abs=0.02)


def slow_auc_by_table(members: Floats, nonmembers: Floats) -> float:
    table = members[:, None] - nonmembers
    return float((table > 0).mean() + (table == 0).mean() / 2)


@given(SCORES, SCORES)
@settings(max_examples=50, deadline=None)
def test_placements_are_proportions_of_the_other_side(members: Floats, nonmembers: Floats) -> None:
    table = (members[:, None] > nonmembers) + (members[:, None] == nonmembers) / 2
    of_members, of_nonmembers = placements(members, nonmembers)
    assert of_members == pytest.approx(table.mean(axis=1))
    assert of_nonmembers == pytest.approx(table.mean(axis=0))


@pytest.mark.parametrize("auc", [0.5, 0.9, 0.98])
@pytest.mark.parametrize(("members", "nonmembers"), [(40, 40), (50, 400)])
def test_interval_covers_the_true_auc(auc: float, members: int, nonmembers: int) -> None:
    generator = np.random.default_rng(0)
    shift, repeats = norm.ppf(auc) * math.sqrt(2), 400
    misses = 0
    for _ in range(repeats):
        found = roc_auc(generator.normal(shift, 1, members), generator.normal(size=nonmembers), 0.9)
        assert found.low is not None
        assert found.high is not None
        misses += not found.low <= auc <= found.high
    assert misses <= binom.ppf(0.999, repeats, 0.1)
    assert misses >= (binom.ppf(0.001, repeats, 0.1) if auc < 0.95 else 0)  # near 1 it is cautious


@pytest.mark.parametrize("images", [5, 50])
def test_perfect_scores_of_a_few_images_are_not_certain(images: int) -> None:
    perfect = roc_auc(np.ones(images), np.zeros(1000))
    assert perfect.value == perfect.high == 1
    assert perfect.low == pytest.approx(0.025 ** (1 / images))  # so many pairs of images, all in the right order
    reversed_ = roc_auc(np.zeros(images), np.ones(1000))
    assert (reversed_.low, reversed_.high) == pytest.approx((0, 1 - 0.025 ** (1 / images)))


def test_scores_that_are_all_the_same_tell_nothing() -> None:
    assert str(roc_auc(np.ones(20), np.ones(30))) == "0.500 [0.345, 0.655]"


def test_single_image_of_a_side_says_nothing_of_the_spread() -> None:
    assert str(roc_auc(np.array([1.5]), np.array([1.0, 2.0]))) == "0.500 [0.000, 1.000]"


def test_a_million_scores_take_two_seconds_and_half_a_gigabyte() -> None:
    generator = np.random.default_rng(0)
    members, nonmembers = generator.normal(1, 1, 500_000), generator.normal(0, 1, 500_000)
    tracemalloc.start()
    roc_points(members, nonmembers)
    roc_auc(members, nonmembers)
    tpr_at_fpr(members, nonmembers, 0.001)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    started = time.process_time()  # tracing costs time, and other work on the machine is no fault of ours
    fpr, tpr = roc_points(members, nonmembers)
    auc = roc_auc(members, nonmembers)
    tpr_at_fpr(members, nonmembers, 0.001)
    assert time.process_time() - started < 2
    assert peak < 500e6
    assert len(fpr) <= 2000
    assert np.trapezoid(tpr, fpr) == pytest.approx(auc.value, abs=1e-4)
    assert auc.value == pytest.approx(norm.cdf(math.sqrt(0.5)), abs=1e-3)


@given(SCORES, SCORES)
@settings(max_examples=50, deadline=None)
def test_points_of_the_curve_are_proportions_above_a_threshold(members: Floats, nonmembers: Floats) -> None:
    fpr, tpr = roc_points(members, nonmembers)
    points = list(zip(fpr.tolist(), tpr.tolist(), strict=True))
    possible = {
        (float((nonmembers >= cut).mean()), float((members >= cut).mean())) for cut in [np.inf, *members, *nonmembers]
    }
    assert points[0] == (0, 0)
    assert points[-1] == (1, 1)
    assert set(points) <= possible
    assert np.trapezoid(tpr, fpr) == pytest.approx(slow_auc(members, nonmembers))


@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 30, 10**6]), st.sampled_from([0.1, 0.29, 0.57]))
@settings(max_examples=25, deadline=None)
def test_rate_is_the_highest_that_any_threshold_reaches(seed: int, distinct: int, rate: float) -> None:
    generator = np.random.default_rng(seed)
    members = generator.integers(0, distinct, 40) + distinct / 4
    nonmembers = generator.integers(0, distinct, 100).astype(float)
    allowed = [cut for cut in {*members, np.inf} if (nonmembers >= cut).mean() <= rate + 1e-12]
    hits = max(int((members >= cut).sum()) for cut in allowed)
    found = tpr_at_fpr(members, nonmembers, rate)
    assert found.value == hits / 40
    assert (found.low or 0) <= found.value <= (found.high or 0)


@pytest.mark.parametrize(("rate", "needed"), [(0.01, 1_000), (0.001, 10_000)])
def test_rate_needs_ten_nonmembers_above_the_threshold(rate: float, needed: int) -> None:
    members = np.array([-1.0, 0.995 * needed, needed])
    too_few = tpr_at_fpr(members, np.arange(needed - 1.0), rate)
    assert too_few.value is None
    assert too_few.note == f"too few images: {needed - 1:,} of {needed:,} non-members"
    enough = tpr_at_fpr(members, np.arange(float(needed)), rate)
    assert enough.value == pytest.approx(2 / 3 if rate == 0.01 else 1 / 3)


def test_rate_may_rest_on_fewer_nonmembers_where_that_is_asked_for() -> None:
    members = np.array([-1.0, 4993.0, 4995.0, 5000.0])
    few = tpr_at_fpr(members, np.arange(5000.0), 0.001, fewest=5)
    assert few.value == 2 / 4  # above 4,994, which five non-members are above
    too_few = tpr_at_fpr(members, np.arange(4999.0), 0.001, fewest=5)
    assert (too_few.value, too_few.note) == (None, "too few images: 4,999 of 5,000 non-members")


def test_nonmembers_that_all_score_the_same_are_not_told_from_members_that_do_too() -> None:
    assert tpr_at_fpr(np.ones(50), np.ones(1000), 0.01).value == 0
    assert tpr_at_fpr(np.full(50, 2.0), np.ones(1000), 0.01).value == 1
