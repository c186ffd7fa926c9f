import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binom, kstest, norm

from mimia.attacks.base import Scores
from mimia.config.settings import EvaluationSettings
from mimia.evaluation.conformal import conformal_p_values
from mimia.evaluation.evaluate import Evaluation, evaluate, evaluate_together, image_p_values, level_shares
from mimia.evaluation.roc import balanced_accuracy
from mimia.runtime.arrays import Bools, Floats

SETTINGS = EvaluationSettings()


def scores_of(members: int, nonmembers: int, shift: float, seed: int) -> tuple[Floats, Bools]:
    truth = np.arange(members + nonmembers) < members
    return np.random.default_rng(seed).normal(shift * truth, 1), truth


def evaluation(shift: float, seed: int = 0, attack: str = "attack", images: int = 200) -> Evaluation:
    return evaluate(attack, *scores_of(images, images, shift, seed), SETTINGS)


@pytest.mark.parametrize(("inside", "outside"), [(30, 200), (300, 100)])
def test_p_values_of_a_set_without_a_member_are_uniform(inside: int, outside: int) -> None:
    p_values = [evaluate("attack", *scores_of(inside, outside, 0, seed), SETTINGS).p_value for seed in range(200)]
    assert kstest(p_values, "uniform").pvalue > 0.01


def test_figures_at_the_threshold_are_counted() -> None:
    scores = np.array([3.0, 2.0, 1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0])
    members = np.arange(9) < 4
    found = evaluate("attack", scores, members, SETTINGS, threshold=2.0)
    assert found.recall is not None
    assert found.precision is not None
    assert found.balanced_accuracy is not None
    assert found.recall.value == pytest.approx(2 / 4)  # a score at the threshold is called a member
    assert found.precision.value == pytest.approx(2 / 3)
    assert found.balanced_accuracy.value == pytest.approx((2 / 4 + 4 / 5) / 2)


def test_low_rates_rest_on_as_many_nonmembers_as_the_settings_say() -> None:
    scores, members = scores_of(50, 500, shift=1, seed=0)
    default = evaluate("attack", scores, members, SETTINGS)
    fewer = evaluate("attack", scores, members, SETTINGS.model_copy(update={"fewest_false_positives": 5}))
    assert (default.tpr_at_1_percent.value, fewer.tpr_at_01_percent.value) == (None, None)
    bar = np.sort(scores[~members])[-6]  # that five non-members are above
    assert fewer.tpr_at_1_percent.value == (scores[members] > bar).mean()


def test_without_a_threshold_there_is_no_accuracy() -> None:
    found = evaluation(shift=1)
    assert (found.threshold, found.balanced_accuracy, found.precision, found.recall) == (None, None, None, None)


def test_threshold_above_all_scores_has_no_precision() -> None:
    found = evaluate("attack", *scores_of(20, 20, 1, 0), SETTINGS, threshold=math.inf)
    assert found.precision is not None
    assert found.recall is not None
    assert (found.precision.value, found.precision.note) == (None, "no image is called a member")
    assert found.recall.value == 0


def test_p_value_is_the_proportion_of_relabellings_with_as_large_an_auc() -> None:
    scores, members = scores_of(5, 6, 1.0, seed=0)

    def wins(inside: tuple[int, ...]) -> int:
        outside = set(range(11)) - set(inside)
        return sum(scores[i] > scores[j] for i in inside for j in outside)

    observed = wins(tuple(np.flatnonzero(members)))
    as_large = [wins(inside) >= observed for inside in combinations(range(11), 5)]
    assert evaluate("attack", scores, members, SETTINGS).p_value == pytest.approx(sum(as_large) / len(as_large))


def test_interval_of_the_balanced_accuracy_adds_the_squares_of_two_of_wilson() -> None:
    scores, members = np.repeat([1.0, 0.0, 1.0, 0.0], [12, 18, 9, 41]), np.arange(80) < 30
    found = evaluate("attack", scores, members, SETTINGS, threshold=1.0).balanced_accuracy
    assert found is not None
    z = norm.ppf(0.975)
    below = above = 0.0
    for hits, of in ((12, 30), (41, 50)):
        rate = hits / of
        centre, reach = rate + z**2 / (2 * of), z * math.sqrt(rate * (1 - rate) / of + z**2 / (4 * of**2))
        below += (rate - (centre - reach) / (1 + z**2 / of)) ** 2
        above += ((centre + reach) / (1 + z**2 / of) - rate) ** 2
    accuracy = (12 / 30 + 41 / 50) / 2
    assert (found.low, found.high) == pytest.approx((accuracy - below**0.5 / 2, accuracy + above**0.5 / 2))


@pytest.mark.parametrize(("members", "nonmembers"), [(20, 20), (50, 400), (200, 1000)])
@pytest.mark.parametrize("shift", [0.0, 1.0, 4.0])
def test_interval_of_the_balanced_accuracy_covers_the_true_one(shift: float, members: int, nonmembers: int) -> None:
    generator, runs, covered = np.random.default_rng(0), 500, 0
    for _ in range(runs):
        found = balanced_accuracy(
            generator.normal(shift, 1, members), generator.normal(size=nonmembers), threshold=shift / 2
        )
        covered += (found.low or 0) <= norm.cdf(shift / 2) <= (found.high or 0)
    assert binom.ppf(0.001, runs, 0.94) <= covered <= 0.99 * runs


def test_p_values_of_images_are_ranks_among_the_holdout_and_the_holdout_has_none() -> None:
    values, holdout = scores_of(10, 30, 1.0, seed=0)
    ids = np.array([f"image {number}" for number in range(40)])
    found = image_p_values(Scores("attack", values, ids, 0.0, 0.5), holdout)
    assert np.isnan(found[holdout]).all()
    assert np.array_equal(found[~holdout], conformal_p_values(values[~holdout], values[holdout]))


def test_p_values_are_corrected_for_the_number_of_attacks() -> None:
    members = np.arange(60) < 30
    ids = np.array([f"image {number}" for number in range(60)])
    attacks = [
        Scores(f"{shift}", scores_of(30, 30, shift, seed)[0], ids, 0.5, 0.5 + shift / 2)
        for seed, shift in enumerate((0.4, 0.6, 0))
    ]
    found = evaluate_together(attacks, members, SETTINGS)
    alone = [evaluate(each.attack, each.values, members, SETTINGS, 0.5, each.shadow_auc) for each in attacks]
    assert [replace(each, p_value_holm=each.p_value) for each in found] == alone
    left, expected, largest = dict(enumerate([0.25, 0.5, 0.25])), [0.0, 0.0, 0.0], 0.0
    while left:  # the second was best on the shadows; what is rejected leaves its share to the others
        place = min(left, key=lambda each: alone[each].p_value / left[each])
        largest = max(largest, min(1, alone[place].p_value * sum(left.values()) / left.pop(place)))
        expected[place] = largest
    assert [each.p_value_holm for each in found] == pytest.approx(expected)


def test_attack_that_is_best_on_the_shadows_has_half_of_the_level() -> None:
    assert level_shares([0.7]) == [1.0]
    assert level_shares([0.7, 0.6]) == level_shares([0.6, 0.7])[::-1] == [0.5, 0.5]
    assert level_shares([0.5, 0.9, 0.9, 0.6]) == pytest.approx([1 / 6, 1 / 6, 1 / 2, 1 / 6])  # of equal ones the last


def test_scores_that_are_all_the_same_show_nothing() -> None:
    found = evaluate("attack", np.ones(60), np.arange(60) < 30, SETTINGS, threshold=1.0)
    assert found.p_value > 0.4
    assert found.auc.value == 0.5
