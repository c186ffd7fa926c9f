import math
import re
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import beta

from mimia.arrays import Bools, Floats
from mimia.attacks.base import Scores
from mimia.config import EvaluationSettings
from mimia.evaluation.conformal import conformal_p_values
from mimia.evaluation.evaluate import Evaluation, evaluate, image_p_values, judge, judge_candidates

SETTINGS = EvaluationSettings(resamples=50)


def scores_of(members: int, nonmembers: int, shift: float, seed: int) -> tuple[Floats, Bools]:
    truth = np.arange(members + nonmembers) < members
    return np.random.default_rng(seed).normal(shift * truth, 1), truth


def evaluation(shift: float, seed: int = 0, attack: str = "attack", images: int = 200) -> Evaluation:
    return evaluate(attack, *scores_of(images, images, shift, seed), SETTINGS)


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


def test_p_value_is_the_share_of_relabellings_with_as_large_an_area() -> None:
    scores, members = scores_of(5, 6, 1.0, seed=0)

    def wins(inside: tuple[int, ...]) -> int:
        outside = set(range(11)) - set(inside)
        return sum(scores[i] > scores[j] for i in inside for j in outside)

    observed = wins(tuple(np.flatnonzero(members)))
    as_large = [wins(inside) >= observed for inside in combinations(range(11), 5)]
    assert evaluate("attack", scores, members, SETTINGS).p_value == pytest.approx(sum(as_large) / len(as_large))


def test_interval_of_the_balanced_accuracy_is_made_of_two_that_hold_together_with_95_percent() -> None:
    scores, members = np.repeat([1.0, 0.0, 1.0, 0.0], [12, 18, 9, 41]), np.arange(80) < 30
    found = evaluate("attack", scores, members, SETTINGS, threshold=1.0).balanced_accuracy
    assert found is not None
    low = (beta.ppf(0.0125, 12, 19) + beta.ppf(0.0125, 41, 10)) / 2
    high = (beta.ppf(0.9875, 13, 18) + beta.ppf(0.9875, 42, 9)) / 2
    assert (found.low, found.high) == pytest.approx((low, high))


def test_p_values_of_images_are_ranks_among_the_holdout_and_the_holdout_has_none() -> None:
    values, holdout = scores_of(10, 30, 1.0, seed=0)
    ids = np.array([f"image {number}" for number in range(40)])
    found = image_p_values(Scores("attack", values, ids, 0.0), holdout)
    assert np.isnan(found[holdout]).all()
    assert np.array_equal(found[~holdout], conformal_p_values(values[~holdout], values[holdout]))


def test_strong_attack_and_blind_guess_are_a_leak() -> None:
    verdict = judge([evaluation(0, seed=1, attack="weak"), evaluation(0.5, attack="strong")], evaluation(0))
    assert verdict.kind == "leaks"
    assert re.search(r"The strongest attack, strong, has a ROC area of 0\.6.*; p = \d", verdict.sentence)


def test_members_that_score_lower_are_no_leak() -> None:
    assert judge([evaluation(shift=-1)], evaluation(0)).kind == "no leak found"


def test_blind_baseline_that_succeeds_forbids_a_verdict() -> None:
    verdict = judge([evaluation(shift=3)], evaluation(shift=1))
    assert verdict.kind == "invalid"
    assert "pixel statistics alone" in verdict.sentence


def test_smallest_p_value_is_corrected_for_the_number_of_attacks() -> None:
    blind = evaluation(shift=0)
    hit = next(found for seed in range(100) if 0.02 < (found := evaluation(0.2, seed)).p_value < 0.04)
    misses = [evaluation(shift=-1, seed=seed) for seed in range(4)]
    assert judge([hit], blind).kind == "leaks"
    assert judge([hit, *misses], blind).kind == "no leak found"


def test_share_of_true_positives_at_one_percent_is_told_where_there_are_enough_images() -> None:
    blind = evaluation(shift=0)
    assert "at 1 % false alarms" in judge([evaluation(shift=3, images=1000)], blind).sentence
    assert "at 1 % false alarms" not in judge([evaluation(shift=3, images=900)], blind).sentence


def test_where_nothing_leaks_a_leak_is_reported_in_one_audit_of_twenty() -> None:
    blind = evaluation(shift=0)
    simulations = 200
    settings = EvaluationSettings(resamples=2)
    alarms = 0
    for seed in range(simulations):
        attacks = [evaluate("attack", *scores_of(60, 60, 0, 10 * seed + number), settings) for number in range(5)]
        alarms += judge(attacks, blind).kind == "leaks"
    # Were the number of attacks not corrected for, 45 alarms would be expected.
    assert 0 < alarms <= 0.05 * simulations + 3 * math.sqrt(0.05 * 0.95 * simulations)


@pytest.mark.parametrize(
    ("p_value", "blind_shift", "kind"),
    [(0.01, 0, "leaks"), (0.2, 0, "no leak found"), (0.01, 1, "invalid")],
)
def test_candidates_are_judged_as_a_set(p_value: float, blind_shift: float, kind: str) -> None:
    verdict = judge_candidates(12, 1500, p_value, evaluation(blind_shift))
    assert verdict.kind == kind
    assert ("12 of 1,500 candidates" in verdict.sentence) == (kind != "invalid")
