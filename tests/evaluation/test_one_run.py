import math
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations_with_replacement
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant
from scipy.special import expit
from scipy.stats import binomtest

from mimia.evaluation.one_run import OneRunBound, guessing_p_value, one_run_bound
from mimia.runtime.arrays import Bools, Floats
from mimia.runtime.errors import MimiaError

RUNS = 200
TRAININGS = 60
CANARIES = 2000
Mechanism = Callable[[Bools, float, float, np.random.Generator], Floats]


def slow_p_value(chance: Fraction, images: int, guesses: int, right: int, delta: Fraction) -> Fraction:
    """Compute the bound of the theorem, term by term and without rounding."""

    def exactly(v: int) -> Fraction:
        return math.comb(guesses, v) * chance**v * (1 - chance) ** (guesses - v)

    def between(low: int, high: int) -> Fraction:
        return sum((exactly(v) for v in range(max(low, 0), high)), Fraction(0))

    worst = max(between(right - i, right) / i for i in range(1, images + 1))
    return min(Fraction(1), between(right, guesses + 1) + 2 * images * delta * worst)


@st.composite
def guessed(draw: st.DrawFn) -> tuple[int, int, int]:
    """Draw numbers of canaries, guesses and right ones."""
    images = draw(st.integers(1, 30))
    guesses = draw(st.integers(0, images))
    return images, guesses, draw(st.integers(0, guesses))


@given(guessed(), st.integers(1, 50), st.sampled_from(["0", "1/100000", "1/100", "1/5", "1"]))
@settings(max_examples=100, deadline=None)
def test_p_value_is_that_of_the_theorem(counts: tuple[int, int, int], odds: int, delta: str) -> None:
    expected = slow_p_value(Fraction(odds, odds + 1), *counts, Fraction(delta))
    assert guessing_p_value(math.log(odds), *counts, float(Fraction(delta))) == pytest.approx(float(expected), rel=1e-9)


@given(guessed(), st.sampled_from([0.0, 1e-5, 0.01, 0.2]))
@settings(max_examples=20, deadline=None)
def test_p_value_crosses_a_level_once_as_epsilon_grows_and_once_as_fewer_guesses_are_right(
    counts: tuple[int, int, int], delta: float
) -> None:
    images, guesses, _ = counts
    epsilons = np.linspace(0, 8, 40)
    table = np.array(
        [
            [guessing_p_value(epsilon, images, guesses, right, delta) for epsilon in epsilons]
            for right in range(guesses + 1)
        ]
    )
    for level in (0.0125, 0.05, 0.5):
        refuted = table <= level
        assert (refuted[:, :-1] >= refuted[:, 1:]).all()
        assert (refuted[:-1] <= refuted[1:]).all()


@given(st.integers(2, 60), st.data(), st.sampled_from([0.0, 1e-4, 0.01]), st.sampled_from([0.8, 0.95]))
@settings(max_examples=60, deadline=None)
def test_value_is_the_smallest_epsilon_that_is_not_refuted(
    images: int, data: st.DataObject, delta: float, confidence: float
) -> None:
    generator = np.random.default_rng(data.draw(st.integers(0, 1000)))
    guesses = data.draw(st.integers(2, images))
    included = generator.random(images) < 0.5
    scores = generator.normal(included * 3.0, 1)
    bound = one_run_bound(scores, included, [guesses], delta, confidence)
    order = np.argsort(scores)
    out, inside = order[: guesses // 2], order[images - guesses // 2 :]
    assert bound.guesses == guesses // 2 * 2
    assert bound.right == included[inside].sum() + (~included[out]).sum()
    counts = images, bound.guesses, bound.right
    assert guessing_p_value(bound.value + 1e-6, *counts, delta) > 1 - confidence
    if bound.value > 0:
        assert guessing_p_value(bound.value - 1e-6, *counts, delta) <= 1 - confidence
    if delta == 0 and bound.right:
        # The chance of a right guess is then bounded as Clopper and Pearson do.
        low = binomtest(bound.right, bound.guesses, alternative="greater").proportion_ci(confidence, "exact").low
        assert bound.value == pytest.approx(max(0.0, math.log(low / (1 - low))), abs=1e-6)


@given(st.integers(2, 200), st.integers(0, 1000), st.sampled_from([0.0, 1e-3]))
@settings(max_examples=30, deadline=None)
def test_several_numbers_of_guesses_are_the_best_of_each_with_its_share_of_the_error(
    images: int, seed: int, delta: float
) -> None:
    generator = np.random.default_rng(seed)
    included = generator.random(images) < 0.5
    scores = generator.normal(included * 2.0, 1).round(1)
    tried = {max(2, images // proportion) for proportion in (1, 2, 4, 8)}
    confidence = 1 - 0.05 / len(tried)
    each = [one_run_bound(scores, included, [guesses], delta, confidence) for guesses in tried]
    bound = one_run_bound(scores, included, delta=delta)
    assert bound.value == pytest.approx(max(other.value for other in each))
    assert bound.ceiling == pytest.approx(max(other.ceiling for other in each))


def randomised_response(included: Bools, epsilon: float, delta: float, generator: np.random.Generator) -> Floats:
    """Say the truth for certain with probability δ, and else with probability e^ε / (1 + e^ε)."""
    sure = generator.random(len(included)) < delta
    truthful = generator.random(len(included)) < expit(epsilon)
    truth, said = np.where(included, 1.0, -1.0), np.where(included == truthful, 1.0, -1.0)
    return np.where(sure, 2 * truth, said)


def laplace(included: Bools, epsilon: float, delta: float, generator: np.random.Generator) -> Floats:
    sure = generator.random(len(included)) < delta
    truth, said = np.where(included, 1e3, -1e3), included + generator.laplace(0, 1 / epsilon, len(included))
    return np.where(sure, truth, said)


@pytest.mark.parametrize(
    ("mechanism", "epsilon", "delta"),
    [
        *(
            (mechanism, epsilon, 0.0)
            for mechanism in (randomised_response, laplace)
            for epsilon in (0.5, 1.0, 2.0, 4.0)
        ),
        pytest.param(randomised_response, 1.0, 1e-4, marks=pytest.mark.slow),
        (randomised_response, 4.0, 1e-4),
        pytest.param(laplace, 2.0, 1e-4, marks=pytest.mark.slow),
    ],
)
def test_bound_is_below_the_truth_as_often_as_it_says_and_not_far_below(
    mechanism: Mechanism, epsilon: float, delta: float
) -> None:
    values = []
    for seed in range(RUNS):
        generator = np.random.default_rng(seed)
        included = generator.random(CANARIES) < 0.5
        values.append(one_run_bound(mechanism(included, epsilon, delta, generator), included, delta=delta).value)
    failures = sum(value > epsilon for value in values)
    assert binomtest(failures, RUNS, 0.05, alternative="greater").pvalue > 0.01
    assert np.mean(values) > 0.5 * epsilon


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 0.0), (1.0, 0.0), (1.0, 0.02), (0.5, 0.2), (0.0, 0.05)])
@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95])
def test_bound_errs_no_more_often_than_allowed(epsilon: float, delta: float, confidence: float) -> None:
    """Over all outcomes of randomised response of six canaries, by their numbers of each kind."""
    right = (1 - delta) * expit(epsilon) / 2
    wrong = (1 - delta) / 2 - right
    kinds = [(2.0, True), (1.0, True), (-1.0, True), (1.0, False), (-1.0, False), (-2.0, False)]
    chances = np.array([delta / 2, right, wrong, wrong, right, delta / 2])
    failing = total = 0.0
    for chosen in combinations_with_replacement(range(len(kinds)), 6):
        counts = [chosen.count(place) for place in range(len(kinds))]
        if delta == 0 and counts[0] + counts[-1] > 0:
            continue
        ways = math.factorial(6) / math.prod(map(math.factorial, counts))
        chance = ways * float(np.prod(chances ** np.array(counts)))
        scores, included = (np.repeat([kind[place] for kind in kinds], counts) for place in (0, 1))
        total += chance
        if one_run_bound(scores, included.astype(bool), delta=delta, confidence=confidence).value > epsilon + 1e-9:
            failing += chance
    assert total == pytest.approx(1)
    assert failing <= 1 - confidence + 1e-9


STEPS, RATE, CLIP = 20, 0.5, 1.0


def dp_sgd(noise: float, seed: int, canaries: int = 400, features: int = 1200) -> tuple[Floats, Bools]:
    """Train a logistic regression on those canaries that coins let in, and score each by its part in the updates.

    Each step takes each canary with probability ½, clips its gradient to norm 1, and adds Gaussian noise to the sum.
    """
    generator = np.random.default_rng(seed)
    images = generator.normal(0, 4 / math.sqrt(features), (canaries, features)).astype(np.float32)
    norms = np.linalg.norm(images, axis=1)
    labels = generator.integers(0, 2, canaries)
    included = generator.random(canaries) < 0.5
    weights = np.zeros(features, np.float32)
    scores = np.zeros(canaries)
    for _ in range(STEPS):
        slopes: Floats = expit(images @ weights) - labels
        slopes = slopes / np.maximum(1, np.abs(slopes) * norms / CLIP)
        taken = included & (generator.random(canaries) < RATE)
        update = (slopes * taken).astype(np.float32) @ images + CLIP * noise * generator.normal(size=features)
        scores += slopes * (images @ update.astype(np.float32))
        weights -= (0.1 * update).astype(np.float32)
    return scores, included


def test_bound_for_noisy_training_is_below_what_the_accountant_says_and_without_noise_far_above() -> None:
    noise, delta = 5.0, 1e-5
    accountant = PRVAccountant()
    accountant.history = [(noise, RATE, STEPS)]
    with np.errstate(divide="ignore"):  # of the accountant, which discards what it divided
        epsilon = accountant.get_epsilon(delta=delta)
    assert 1.5 < epsilon < 2.5
    noisy = [one_run_bound(*dp_sgd(noise, seed), delta=delta).value for seed in range(TRAININGS)]
    failures = sum(value > epsilon for value in noisy)
    assert binomtest(failures, TRAININGS, 0.05, alternative="greater").pvalue > 0.01
    assert np.mean([value > 0 for value in noisy]) > 0.3
    bare = [one_run_bound(*dp_sgd(0.0, seed), delta=delta).value for seed in range(5)]
    assert min(bare) > 1.2 * epsilon
    assert np.mean(bare) > 1.5 * epsilon


@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-3])
@pytest.mark.parametrize("guesses", [None, [100], [101, 30]])
def test_canaries_told_apart_without_a_mistake_reach_the_ceiling_and_no_others(
    delta: float, guesses: list[int] | None
) -> None:
    included = np.arange(200) % 2 == 0
    scores = np.random.default_rng(0).uniform(0, 1, 200)
    bound = one_run_bound(included + scores, included, guesses, delta)
    assert bound.value == bound.ceiling
    assert bound.guesses == bound.right == (100 if guesses else 200)
    assert bound.ceiling > 2
    other = one_run_bound(scores, included, guesses, delta)
    assert other.value < other.ceiling == bound.ceiling


def test_more_right_guesses_bound_more() -> None:
    included = np.arange(100) % 2 == 0
    values = []
    for wrong in range(51):
        said = included ^ (np.arange(100) < 2 * wrong)
        values.append(one_run_bound(said.astype(float), included, [100], 1e-4).value)
    assert values == sorted(values, reverse=True)
    assert values[0] > values[10] > values[50] == 0


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40), st.randoms(use_true_random=False)
)
@settings(max_examples=100, deadline=None)
def test_order_of_the_canaries_changes_nothing_and_ties_are_guessed_together_or_not_at_all(
    canaries: list[tuple[int, bool]], random: Random
) -> None:
    def bound_of(pairs: list[tuple[int, bool]]) -> OneRunBound:
        return one_run_bound(np.array([float(score) for score, _ in pairs]), np.array([coin for _, coin in pairs]), [6])

    if len(canaries) < 6:
        return
    bound = bound_of(canaries)
    assert bound_of(random.sample(canaries, len(canaries))) == bound
    assert bound.guesses <= 6
    scores = [score for score, _ in canaries]
    high = [coin for score, coin in canaries if sum(other >= score for other in scores) <= 3]
    low = [coin for score, coin in canaries if sum(other <= score for other in scores) <= 3]
    assert (bound.guesses, bound.right) == (len(high) + len(low), sum(high) + len(low) - sum(low))


def test_scores_that_are_all_the_same_bound_nothing() -> None:
    for coins in (np.ones(1000, dtype=bool), np.arange(1000) < 500):
        bound = one_run_bound(np.zeros(1000), coins)
        assert (bound.value, bound.guesses, bound.right) == (0, 0, 0)


def test_too_few_canaries_or_guesses_are_refused() -> None:
    with pytest.raises(MimiaError, match="needs 2 canaries or more and has 1: make more"):
        one_run_bound(np.zeros(1), np.ones(1, dtype=bool))
    for guesses in ([1], [2, 11], [11]):
        with pytest.raises(MimiaError, match="must be from 2 to 10, the number of canaries"):
            one_run_bound(np.zeros(10), np.ones(10, dtype=bool), guesses)
