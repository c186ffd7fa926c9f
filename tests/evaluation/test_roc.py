import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mimia.arrays import Floats
from mimia.evaluation.estimate import share
from mimia.evaluation.roc import roc_area, roc_points, tpr_at_fpr

SCORES = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=20).map(np.array)


def slow_area(members: Floats, nonmembers: Floats) -> float:
    """Probability that a member scores higher than a non-member; ties count half."""
    wins = sum((member > other) + (member == other) / 2 for member in members for other in nonmembers)
    return float(wins) / (len(members) * len(nonmembers))


@given(SCORES, SCORES)
@settings(max_examples=100, deadline=None)
def test_area_is_the_share_of_pairs_in_the_right_order(members: Floats, nonmembers: Floats) -> None:
    found = roc_area(members, nonmembers, resamples=2, seed=0).value
    assert found == pytest.approx(slow_area(members, nonmembers))
    labels = [True] * len(members) + [False] * len(nonmembers)
    assert found == pytest.approx(roc_auc_score(labels, [*members, *nonmembers]))


@pytest.mark.parametrize("decimals", [0, 9], ids=["with ties", "without ties"])
def test_interval_is_that_of_resampling_members_and_nonmembers(decimals: int) -> None:
    generator = np.random.default_rng(0)
    members = generator.normal(0.5, 1, 40).round(decimals)
    nonmembers = generator.normal(0, 1, 60).round(decimals)
    areas = [slow_area_by_table(generator.choice(members, 40), generator.choice(nonmembers, 60)) for _ in range(4000)]
    estimate = roc_area(members, nonmembers, resamples=4000, seed=1)
    assert estimate.value is not None
    assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(areas, [0.025, 0.975])), abs=0.01)


def slow_area_by_table(members: Floats, nonmembers: Floats) -> float:
    table = members[:, None] - nonmembers
    return float((table > 0).mean() + (table == 0).mean() / 2)


def test_interval_follows_from_the_seed_and_not_from_the_order() -> None:
    generator = np.random.default_rng(0)
    members, nonmembers = generator.normal(1, 1, 500), generator.normal(0, 1, 600)
    first = roc_area(members, nonmembers, resamples=50, seed=0)
    assert roc_area(members, nonmembers, resamples=50, seed=0) == first
    assert roc_area(members, nonmembers, resamples=50, seed=1) != first


def test_resamples_that_do_not_fit_in_memory_at_once_give_the_same_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    members, nonmembers = generator.normal(0.5, 1, 100), generator.normal(0, 1, 100)
    whole = roc_area(members, nonmembers, resamples=3000, seed=0)
    monkeypatch.setattr("mimia.evaluation.roc._WEIGHTS_IN_MEMORY", 7 * 200)
    in_parts = roc_area(members, nonmembers, resamples=3000, seed=0)
    assert (in_parts.low, in_parts.high) == pytest.approx((whole.low, whole.high), abs=0.01)


@given(SCORES, SCORES)
@settings(max_examples=50, deadline=None)
def test_points_of_the_curve_are_shares_above_a_threshold(members: Floats, nonmembers: Floats) -> None:
    false_rate, true_rate = roc_points(members, nonmembers)
    points = list(zip(false_rate.tolist(), true_rate.tolist(), strict=True))
    possible = {
        (float((nonmembers >= cut).mean()), float((members >= cut).mean())) for cut in [np.inf, *members, *nonmembers]
    }
    assert points[0] == (0, 0)
    assert points[-1] == (1, 1)
    assert set(points) <= possible
    assert np.trapezoid(true_rate, false_rate) == pytest.approx(slow_area(members, nonmembers))


@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 30, 10**6]), st.sampled_from([0.1, 0.29, 0.57]))
@settings(max_examples=50, deadline=None)
def test_rate_is_the_highest_that_any_threshold_reaches(seed: int, distinct: int, rate: float) -> None:
    generator = np.random.default_rng(seed)
    members = generator.integers(0, distinct, 40) + distinct / 4
    nonmembers = generator.integers(0, distinct, 100).astype(float)
    allowed = [cut for cut in [*members, np.inf] if (nonmembers >= cut).mean() <= rate + 1e-12]
    hits = max(int((members >= cut).sum()) for cut in allowed)
    assert tpr_at_fpr(members, nonmembers, rate) == share(hits, 40)


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
    assert few == share(2, 4)  # above 4,994, which five non-members are above
    too_few = tpr_at_fpr(members, np.arange(4999.0), 0.001, fewest=5)
    assert (too_few.value, too_few.note) == (None, "too few images: 4,999 of 5,000 non-members")


def test_nonmembers_that_all_score_the_same_are_not_told_from_members_that_do_too() -> None:
    assert tpr_at_fpr(np.ones(50), np.ones(1000), 0.01).value == 0
    assert tpr_at_fpr(np.full(50, 2.0), np.ones(1000), 0.01).value == 1
