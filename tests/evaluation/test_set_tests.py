import re
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, kstest, nct, t, ttest_ind

from mimia.evaluation.intervals import Estimate, proportion
from mimia.evaluation.set_tests import SetPower, permutation_test, power_curve, smallest_set, welch_test
from mimia.runtime.arrays import Floats
from mimia.runtime.errors import MimiaError

TENTHS = st.lists(st.integers(-3, 3), min_size=2, max_size=5)


def most(trials: int, rate: float, tail: float = 1e-4) -> int:
    """Most hits that chance explains, but for one case in 10,000."""
    return int(binom.ppf(1 - tail, trials, rate))


def fewest(trials: int, rate: float, tail: float = 1e-4) -> int:
    return int(binom.ppf(tail, trials, rate))


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(2, 30), st.sampled_from(["float32", "float64"]))
@settings(max_examples=50, deadline=None)
def test_welch_is_that_of_scipy_and_does_not_depend_on_the_order(seed: int, n: int, m: int, kind: str) -> None:
    generator = np.random.default_rng(seed)
    candidates, known = generator.normal(99, 2, n).astype(kind), 96 + generator.gamma(2, size=m).astype(kind)
    in_double = candidates.astype("float64"), known.astype("float64")
    found = welch_test(candidates, known)
    assert found == pytest.approx(ttest_ind(*in_double, equal_var=False, alternative="greater").pvalue)
    assert welch_test(generator.permutation(candidates), generator.permutation(known)) == pytest.approx(found)


@pytest.mark.parametrize(("candidate", "known", "p_value"), [(0.1, 0.1, 1), (0.1, 0.7, 1), (0.7, 0.1, 0)])
@pytest.mark.parametrize("n", [2, 3, 7])  # three and seven times .1 are not what they should be in binary
def test_welch_of_scores_that_never_differ(candidate: float, known: float, p_value: float, n: int) -> None:
    assert welch_test(np.full(n, candidate), np.full(3, known)) == p_value


def test_welch_where_only_one_side_differs() -> None:
    known = np.array([0.1, 0.2, 0.3])
    assert welch_test(np.full(5, 0.2), known) == pytest.approx(0.5)
    assert welch_test(np.full(5, 0.9), known) < 0.01


@given(TENTHS, TENTHS, st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_permutations_give_the_proportion_of_all_choices_with_as_large_a_sum(
    candidates: list[int], known: list[int], seed: int
) -> None:
    pool = candidates + known
    as_large = [sum(chosen) >= sum(candidates) for chosen in combinations(pool, len(candidates))]
    exact = sum(as_large) / len(as_large)
    # In tenths: equal sums of integers are not always equal sums in binary.
    samples = np.array(candidates) / 10, np.array(known) / 10
    assert permutation_test(*samples, seed) == pytest.approx(exact)  # all choices, as there are few
    resamples = len(as_large) - 1
    hits = round(permutation_test(*samples, seed, resamples) * (1 + resamples)) - 1
    assert fewest(resamples, exact, 1e-10) <= hits <= most(resamples, exact, 1e-10)


@pytest.mark.parametrize(("scale", "offset"), [(1e-6, 1e6), (1e6, 0.0), (1.0, -1e3)])
def test_permutations_do_not_depend_on_the_unit_of_the_scores(scale: float, offset: float) -> None:
    generator = np.random.default_rng(0)
    candidates, known = generator.normal(0.8, 1, 20), generator.normal(0, 1, 60)
    found = permutation_test(offset + scale * candidates, offset + scale * known, seed=1, resamples=500)
    assert found == pytest.approx(permutation_test(candidates, known, seed=1, resamples=500), abs=2 / 500)
    assert 0.01 < found < 0.2


def test_permutations_follow_from_the_seed_and_are_never_sure() -> None:
    generator = np.random.default_rng(0)
    candidates, known = generator.normal(0.3, 1, 20), generator.normal(0, 1, 60)
    first = permutation_test(candidates, known, seed=0, resamples=500)
    assert permutation_test(candidates, known, seed=0, resamples=500) == first
    assert len({permutation_test(candidates, known, seed=seed, resamples=500) for seed in range(5)}) > 1
    assert permutation_test(candidates + 100, known, seed=0, resamples=199) == 1 / 200


def test_score_that_is_no_number_is_no_evidence() -> None:
    candidates, known = np.array([5.0, np.nan]), np.arange(4.0)
    with pytest.raises(MimiaError, match="not finite"):
        permutation_test(candidates, known, seed=0)
    assert not welch_test(candidates, known) < 0.5


def test_welch_p_values_are_uniform_where_nothing_leaks() -> None:
    generator = np.random.default_rng(0)
    p_values = [welch_test(generator.normal(0, 2, 30), generator.normal(0, 1, 200)) for _ in range(500)]
    assert kstest(p_values, "uniform").pvalue > 0.01


@pytest.mark.parametrize("decimals", [0, 9], ids=["with ties", "without ties"])
def test_permutation_p_values_are_never_too_small(decimals: int) -> None:
    generator, runs = np.random.default_rng(0), 500
    p_values = np.array(
        [
            permutation_test(
                generator.exponential(size=5).round(decimals), generator.exponential(size=40).round(decimals), run, 99
            )
            for run in range(runs)
        ]
    )
    for level in (0.01, 0.05, 0.1, 0.5, 0.9):
        hits = (p_values <= level + 1e-9).sum()
        assert hits <= most(runs, level)
        assert decimals == 0 or hits >= fewest(runs, level)  # without ties, it is exact


def repeated_batches(suspects: Floats, fresh: Floats, fitted: Floats, generator: np.random.Generator) -> float:
    """What we avoid: the test of DOV4MM as released, with K = 30 batches of N = 1024 from the same images.

    Its means of losses are taken relative to that of images that the decoder was fitted to.
    """

    def batch(losses: Floats) -> float:
        return float(generator.choice(losses, 1024, replace=False, shuffle=False).mean())

    means = np.array([[batch(losses) for losses in (suspects, fresh, fitted)] for _ in range(30)])
    of_suspects, of_fresh = (means[:, :2] - means[:, 2:]).T
    return float(ttest_ind(of_fresh, of_suspects, alternative="greater").pvalue)


def test_batches_that_are_drawn_again_and_again_give_false_alarms_and_images_do_not() -> None:
    generator, runs = np.random.default_rng(0), 100
    alarms = {"repeated batches": 0, "welch": 0, "permutation": 0}
    for run in range(runs):
        suspects, fresh, fitted = (generator.gamma(4, size=size) for size in (5000, 5000, 20_000))
        alarms["repeated batches"] += repeated_batches(suspects, fresh, fitted, generator) < 0.05
        alarms["welch"] += welch_test(-suspects, -fresh) < 0.05
        alarms["permutation"] += permutation_test(-suspects, -fresh, run, resamples=99) <= 0.05
    assert alarms["repeated batches"] > most(runs, 0.05, tail=0.01)
    for ours in ("welch", "permutation"):
        assert fewest(runs, 0.05) <= alarms[ours] <= most(runs, 0.05)


def scores(members: int, nonmembers: int, shift: float, seed: int = 0) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(seed)
    return generator.normal(shift, 1, members), generator.normal(0, 1, nonmembers)


def values(estimates: list[Estimate]) -> list[float]:
    return [-1 if estimate.value is None else estimate.value for estimate in estimates]


def test_power_grows_with_the_set_and_with_the_leak() -> None:
    sizes = [5, 20, 80, 320]
    weak = power_curve(*scores(1000, 2000, 0.3), sizes)
    strong = power_curve(*scores(1000, 2000, 1.5), sizes)
    powers = values([point.power for point in weak])
    assert powers == sorted(powers)
    assert powers[0] < 0.2
    assert smallest_set(strong) == 20
    assert smallest_set(weak) == 320


@pytest.mark.parametrize(("size", "shift"), [(10, 1.0), (20, 0.6), (80, 0.3)])
def test_power_is_that_of_the_noncentral_t_distribution(size: int, shift: float) -> None:
    (point,) = power_curve(*scores(10_000, 10_000, shift), [size], repeats=400)  # so many that their mean is known
    expected = nct.sf(t.isf(0.01, size - 1), size - 1, shift * np.sqrt(size))
    assert values([point.power]) == pytest.approx([expected], abs=0.1)


@pytest.mark.parametrize("shift", [0.0, -1.0])
def test_no_set_is_large_enough_where_members_do_not_score_higher(shift: float) -> None:
    curve = power_curve(*scores(1000, 2000, shift), [10, 100, 300])
    assert smallest_set(curve) is None
    assert max(values([point.power for point in curve])) < 0.1


@pytest.mark.parametrize("size", [10, 40, 100])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_false_positives_have_the_nominal_rate_even_if_sets_use_up_the_nonmembers(size: int, seed: int) -> None:
    members, nonmembers = scores(200, 200, 1, seed)
    (point,) = power_curve(members, nonmembers, [size], repeats=500, level=0.05, seed=seed)
    (fpr,) = values([point.fpr])
    assert fewest(500, 0.05) <= round(500 * fpr) <= most(500, 0.05)


def test_sets_are_drawn_without_replacement_and_never_from_the_holdout(monkeypatch: pytest.MonkeyPatch) -> None:
    members, nonmembers = np.arange(30.0), np.arange(100.0, 141.0)
    seen: list[tuple[Floats, Floats]] = []

    def record(candidates: Floats, holdout: Floats) -> Floats:
        seen.extend(zip(candidates, holdout, strict=True))
        return np.ones(len(candidates))

    monkeypatch.setattr("mimia.evaluation.set_tests._welch", record)
    power_curve(members, nonmembers, [20], repeats=50)
    assert len(seen) == 100
    for candidates, holdout in seen:
        assert len(np.unique(candidates)) == 20
        assert len(np.unique(holdout)) == 21
        assert np.isin(holdout, nonmembers).all()
        assert not np.isin(candidates, holdout).any()
        assert np.isin(candidates, members).all() or np.isin(candidates, nonmembers).all()
    drawn = [frozenset(candidates) for candidates, _ in seen]
    assert sum(chosen <= set(members) for chosen in drawn) == 50
    assert len(set(drawn)) > 90
    assert len({frozenset(holdout) for _, holdout in seen}) > 40


def test_p_values_are_counted_against_the_level(monkeypatch: pytest.MonkeyPatch) -> None:
    p_values = iter([np.array([0.0, 0.05, 0.04]), np.array([0.5, 0.049, 0.05])])
    monkeypatch.setattr("mimia.evaluation.set_tests._welch", lambda *_: next(p_values))
    (point,) = power_curve(np.zeros(5), np.zeros(10), [5], repeats=3, level=0.05)
    assert point == SetPower(5, power=proportion(2, 3), fpr=proportion(1, 3))


def test_curve_follows_from_the_seed_and_a_point_not_from_the_other_sizes() -> None:
    samples = scores(200, 200, 0.3)
    curve = power_curve(*samples, [10, 30], repeats=50, seed=1)
    assert power_curve(*samples, [10, 30], repeats=50, seed=1) == curve
    assert power_curve(*samples, [30, 20, 10], repeats=50, seed=1)[::2] == curve[::-1]
    assert power_curve(*samples, [10, 30], repeats=50, seed=2) != curve


def test_sets_larger_than_half_of_the_nonmembers_have_no_fpr() -> None:
    (point,) = power_curve(*scores(60, 100, 2), [51], repeats=10)
    assert point.power.value == 1
    assert point.fpr == Estimate(None, note="too few images: 50 of 51 non-members")


@pytest.mark.parametrize("size", [-1, 1, 61])
def test_set_that_cannot_be_drawn_is_refused(size: int) -> None:
    with pytest.raises(MimiaError, match=re.escape(f"A set of {size} images cannot be drawn from 60 members: choose")):
        power_curve(*scores(60, 100, 0), [10, size], repeats=1)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(MimiaError, match="needs at least 2 images on each side and has 1 candidates and 3 known"):
        welch_test(np.ones(1), np.arange(3.0))
    with pytest.raises(MimiaError, match="needs at least 2 images on each side and has 1 candidates"):
        permutation_test(np.ones(1), np.arange(3.0), seed=0)
    with pytest.raises(MimiaError, match="1 known non-members: pass more"):
        power_curve(np.arange(5.0), np.ones(1), [2])


@pytest.mark.parametrize(
    ("hits", "smallest"),
    [([9, 20, 20], 20), ([19, 19, 20], 10), ([20, 9, 20], 30), ([20, 20, 18], None), ([], None)],
)
def test_smallest_set_is_the_first_from_which_on_all_reach_the_power(hits: list[int], smallest: int | None) -> None:
    curve = [
        SetPower(size, proportion(hit, 20), proportion(0, 20)) for size, hit in zip([10, 20, 30], hits, strict=False)
    ]
    assert smallest_set(curve) == smallest
    assert smallest_set(curve[::-1]) == smallest


def test_curve_without_repeats_has_no_smallest_set() -> None:
    assert smallest_set(power_curve(*scores(60, 100, 2), [10], repeats=0)) is None
