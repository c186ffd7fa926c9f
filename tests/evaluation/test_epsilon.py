import math
from collections.abc import Callable
from itertools import product
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from mimia.evaluation.epsilon import Bonferroni, Fixed, Halves, Strategy, epsilon_lower_bound
from mimia.runtime.arrays import Bools, Floats
from mimia.runtime.errors import MimiaError

RUNS = 200
IMAGES = 2000
SCORES = st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=30).map(np.array)
STRATEGIES: list[Strategy] = [Fixed(0.5), Halves(0), Bonferroni(20)]
Mechanism = Callable[[Bools, float, np.random.Generator], Floats]


def randomised_response(members: Bools, epsilon: float, generator: np.random.Generator) -> Floats:
    """Say the truth with probability e^ε / (1 + e^ε)."""
    truthful = generator.random(len(members)) < 1 / (1 + math.exp(-epsilon))
    said: Bools = members == truthful
    return said.astype(np.float64)


def laplace(members: Bools, epsilon: float, generator: np.random.Generator) -> Floats:
    """Add noise, so that at every threshold above 1 or below 0 the ratio of the rates is e^ε."""
    return members + generator.laplace(0, 1 / epsilon, len(members))


def bounds(mechanism: Mechanism, epsilon: float, strategy: Strategy) -> Floats:
    values = []
    for seed in range(RUNS):
        generator = np.random.default_rng(seed)
        members = generator.random(IMAGES) < 0.5
        scores = mechanism(members, epsilon, generator)
        values.append(epsilon_lower_bound(scores[members], scores[~members], strategy).value)
    return np.array(values)


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize(
    ("mechanism", "strategy"),
    [
        (randomised_response, Fixed(0.5)),
        (randomised_response, Halves(0)),
        (randomised_response, Bonferroni(20)),
        (laplace, Fixed(1.0)),
        (laplace, Halves(0)),
        (laplace, Bonferroni(20)),
    ],
)
def test_bound_is_below_the_truth_as_often_as_it_says_and_not_far_below(
    mechanism: Mechanism, epsilon: float, strategy: Strategy
) -> None:
    values = bounds(mechanism, epsilon, strategy)
    failures = int((values > epsilon).sum())
    assert binomtest(failures, RUNS, 0.05, alternative="greater").pvalue > 0.01
    assert values.mean() > (0.4 if epsilon < 1 else 0.5) * epsilon


def test_best_of_many_thresholds_without_a_correction_errs_more_often_than_allowed_and_with_one_it_does_not() -> None:
    naive = 0
    failures: dict[Strategy, int] = {Halves(0): 0, Bonferroni(20): 0}
    for seed in range(RUNS):
        members, nonmembers = np.random.default_rng(seed).normal(size=(2, 500))  # ε is 0
        thresholds = np.quantile(nonmembers, np.linspace(0, 1, 20))
        naive += any(epsilon_lower_bound(members, nonmembers, Fixed(cut), 0, 0.5).value > 0 for cut in thresholds)
        for strategy in failures:
            failures[strategy] += epsilon_lower_bound(members, nonmembers, strategy, 0, 0.5).value > 0
    assert binomtest(naive, RUNS, 0.5, alternative="greater").pvalue < 0.01
    for count in failures.values():
        assert binomtest(count, RUNS, 0.5, alternative="greater").pvalue > 0.01


def outcomes(images: int, kinds: int) -> list[tuple[int, ...]]:
    """Return all ways to have so many images of so many kinds, as numbers of each kind."""
    return [counts for counts in product(range(images + 1), repeat=kinds) if sum(counts) == images]


def probability(counts: tuple[int, ...], chances: Floats) -> float:
    ways = math.factorial(sum(counts)) / math.prod(map(math.factorial, counts))
    return float(ways * np.prod(chances ** np.array(counts)))


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 4]), st.sampled_from([0.2, 0.5, 0.8]))
@settings(max_examples=3, deadline=None)
def test_thresholds_among_nonmembers_err_no_more_often_than_allowed_where_scores_tie(
    seed: int, thresholds: int, confidence: float
) -> None:
    """Over all outcomes of six images a side, with three scores; ε is the smallest that holds at any threshold."""
    inside, outside = np.random.default_rng(seed).dirichlet(np.ones(3), 2)
    above_in, above_out = inside[::-1].cumsum()[:2], outside[::-1].cumsum()[:2]
    ratios = [above_in / above_out, (1 - above_out) / (1 - above_in)]
    epsilon = max(0.0, float(np.log(ratios).max()))
    failing = 0.0
    for counts_in, counts_out in product(outcomes(6, 3), repeat=2):
        members, nonmembers = (np.repeat([0.0, 1.0, 2.0], counts) for counts in (counts_in, counts_out))
        bound = epsilon_lower_bound(members, nonmembers, Bonferroni(thresholds), confidence=confidence)
        if bound.value > epsilon + 1e-9:
            failing += probability(counts_in, inside) * probability(counts_out, outside)
    assert failing <= 1 - confidence + 1e-9


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1e-3, 0.2]), st.sampled_from([0.5, 0.95]))
@settings(max_examples=50, deadline=None)
def test_bound_at_a_threshold_is_that_of_clopper_and_pearson(seed: int, delta: float, confidence: float) -> None:
    generator = np.random.default_rng(seed)
    threshold = float(generator.integers(-2, 4))
    members = generator.normal(1, 1, generator.integers(1, 300)).round()
    nonmembers = generator.normal(0, 1, generator.integers(1, 300)).round()
    hits, alarms = int((members >= threshold).sum()), int((nonmembers >= threshold).sum())
    # A two-sided interval of this confidence has (1 − confidence) / 2 on each side.
    recall = binomtest(hits, len(members)).proportion_ci(confidence, "exact").low
    miss = binomtest(len(members) - hits, len(members)).proportion_ci(confidence, "exact").high
    alarm = binomtest(alarms, len(nonmembers)).proportion_ci(confidence, "exact").high
    rejection = binomtest(len(nonmembers) - alarms, len(nonmembers)).proportion_ci(confidence, "exact").low
    ratios = [(recall - delta) / alarm, (rejection - delta) / miss]
    bound = epsilon_lower_bound(members, nonmembers, Fixed(threshold), delta, confidence)
    assert bound.value == pytest.approx(math.log(max(1.0, *ratios)), abs=1e-8)
    assert (bound.threshold, bound.delta, bound.confidence) == (threshold, delta, confidence)


@given(SCORES, SCORES, st.integers(1, 30))
@settings(max_examples=50, deadline=None)
def test_several_thresholds_are_the_best_of_each_with_its_share_of_the_error(
    members: Floats, nonmembers: Floats, count: int
) -> None:
    """The ranks are those that the number of images alone gives: n images have n + 1 places for a threshold."""
    ends = math.log(len(nonmembers))
    ranks = {math.floor(len(nonmembers) / (1 + math.exp(-x)) + 1e-12) for x in np.linspace(-ends, ends, count)}
    highest = sorted(nonmembers, reverse=True)
    thresholds = [highest[rank - 1] if rank else highest[0] + 0.5 for rank in ranks]
    confidence = 1 - 0.05 / len(ranks)
    each = [epsilon_lower_bound(members, nonmembers, Fixed(cut), confidence=confidence).value for cut in thresholds]
    assert epsilon_lower_bound(members, nonmembers, Bonferroni(count)).value == pytest.approx(max(each))


def test_threshold_of_the_halves_is_chosen_on_one_half_and_measured_on_the_other() -> None:
    generator = np.random.default_rng(0)
    members, nonmembers = generator.normal(1, 1, 1001), generator.normal(0, 1, 700)
    found = []
    for seed in range(20):
        bound = epsilon_lower_bound(members, nonmembers, Halves(seed))
        everywhere = epsilon_lower_bound(members, nonmembers, Fixed(bound.threshold))
        assert bound.value != everywhere.value
        assert bound.ceiling == epsilon_lower_bound(np.ones(500), np.zeros(350), Fixed(1.0)).ceiling
        found.append(bound.threshold)
    assert len(set(found)) > 10


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("delta", [0.0, 1e-3])
def test_images_told_apart_without_a_mistake_reach_the_ceiling_and_no_others(strategy: Strategy, delta: float) -> None:
    generator = np.random.default_rng(0)
    members, nonmembers = generator.uniform(0.6, 1, 300), generator.uniform(0, 0.4, 400)
    bound = epsilon_lower_bound(members, nonmembers, strategy, delta)
    assert bound.value == bound.ceiling > 3.5
    for wrong in (members - 0.7, np.append(members[1:], 0.0), generator.normal(size=300)):
        other = epsilon_lower_bound(wrong, nonmembers, strategy, delta)
        assert other.value < other.ceiling == bound.ceiling


@given(SCORES, SCORES, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_order_of_the_images_changes_nothing(members: Floats, nonmembers: Floats, random: Random) -> None:
    for strategy in (Fixed(0.5), Bonferroni(5)):
        expected = epsilon_lower_bound(members, nonmembers, strategy)
        shuffled = [np.array(random.sample(side.tolist(), len(side))) for side in (members, nonmembers)]
        assert epsilon_lower_bound(shuffled[0], shuffled[1], strategy) == expected


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_scores_that_are_all_the_same_bound_nothing(strategy: Strategy, value: float) -> None:
    assert epsilon_lower_bound(np.full(500, value), np.full(2000, value), strategy).value == 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_scores_of_single_precision_are_compared_as_they_are(strategy: Strategy) -> None:
    members = np.full(100, np.nextafter(np.float32(0.5), np.float32(1)))
    bound = epsilon_lower_bound(members, np.full(100, 0.49999, np.float32), strategy)
    assert bound.value == bound.ceiling


def test_larger_delta_or_confidence_bounds_less() -> None:
    generator = np.random.default_rng(0)
    members, nonmembers = generator.normal(2, 1, 1000), generator.normal(0, 1, 1000)
    for strategy in STRATEGIES:
        by_delta = [epsilon_lower_bound(members, nonmembers, strategy, delta).value for delta in (0, 0.01, 0.1, 0.9)]
        assert by_delta == sorted(by_delta, reverse=True)
        assert by_delta[0] > by_delta[2] > by_delta[3] == 0
        by_confidence = [
            epsilon_lower_bound(members, nonmembers, strategy, 0, each).value for each in (0.5, 0.95, 0.999)
        ]
        assert by_confidence == sorted(by_confidence, reverse=True)


def test_too_few_images_are_refused() -> None:
    for strategy, fewest in ((Fixed(0.5), 1), (Bonferroni(20), 1), (Halves(0), 2)):
        few, enough = np.ones(fewest - 1), np.ones(fewest)
        assert epsilon_lower_bound(enough, enough, strategy).value == 0
        for sides in ((few, enough), (enough, few)):
            with pytest.raises(MimiaError, match=f"needs {fewest} images or more on each side and has .*: pass more"):
                epsilon_lower_bound(*sides, strategy)
