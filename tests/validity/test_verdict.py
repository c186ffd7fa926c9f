import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, mannwhitneyu

from mimia.attacks.base import Scores
from mimia.config.settings import EvaluationSettings
from mimia.evaluation.comparison import Comparison, holm
from mimia.evaluation.evaluate import Evaluation, evaluate, evaluate_together, level_shares
from mimia.evaluation.intervals import Estimate
from mimia.runtime.arrays import Bools, Floats
from mimia.validity.absence import AbsenceCriterion, images_for_absence
from mimia.validity.controls import Control, Duplicates, Measurements
from mimia.validity.likeness import Likeness
from mimia.validity.matching import Matched
from mimia.validity.verdict import RULE, Sides, Verdict, deciding_attack
from mimia.validity.verdict import judge as judge_by

SETTINGS = EvaluationSettings()
SIDES = Sides("members", "non-members", (200, 200))
MEMBERS = np.arange(400) < 200


CRITERION = AbsenceCriterion(auc=0.6, tpr=0.05)


def judge(evaluations: Sequence[Evaluation], measurements: Measurements, sides: Sides) -> Verdict:
    return judge_by(evaluations, measurements, sides, CRITERION)


def scores_of(shift: float, seed: int, members: Bools = MEMBERS) -> Floats:
    return np.random.default_rng(seed).normal(shift * members, 1)


def evaluation(shift: float, seed: int = 0, attack: str = "attack") -> Evaluation:
    return evaluate(attack, scores_of(shift, seed), MEMBERS, SETTINGS)


def nothing(members: int, nonmembers: int, shift: float = 0.0, seed: int = 3) -> Evaluation:
    truth = np.arange(members + nonmembers) < members
    return evaluate("attack", scores_of(shift, seed, truth), truth, SETTINGS)


def control(p_value: float = 0.5, excess: float = 1e-9, model: str = "shadow 1") -> Control:
    comparison = Comparison(Estimate(0.3, 0.2, 0.4), excess)
    return Control(model, Estimate(0.5, 0.45, 0.55), p_value, comparison)


CLEAN = Measurements(
    blind=(evaluation(0, 1, "blind pixel features"), evaluation(0, 2, "blind pixels")),
    blind_separates=False,
    controls=(control(), control(model="untrained model")),
    matched=Matched(150, Estimate(0.8, 0.7, 0.9), 1e-9),
    duplicates=Duplicates(0, (0, 0)),
    reconstruction=0.5,
    likeness=(Likeness("reconstruction error", 1.1, 1.4),),
)


def outcomes(verdict: Verdict) -> dict[str, str]:
    return {check.name: check.outcome for check in verdict.checks}


def test_strong_attack_with_nothing_against_it_is_a_leak() -> None:
    verdict = judge([evaluation(0, 1, "weak"), evaluation(0.8, 0, "strong")], CLEAN, SIDES)
    assert verdict.kind == "leaks"
    assert "The deciding attack, strong, has an AUC of 0.7" in verdict.sentence
    assert set(outcomes(verdict).values()) == {"passed", "noted"}  # too few images for rates
    assert outcomes(verdict)["number of images"] == "noted"


def test_nothing_found_by_shadows_unlike_the_target_is_inconclusive() -> None:
    unlike = replace(CLEAN, likeness=(*CLEAN.likeness, Likeness("spread of the error over images", 0.5, 1.4)))
    sides = Sides("members", "non-members", (1000, 5000))
    verdict = judge([nothing(1000, 5000)], unlike, sides)
    assert verdict.kind == "inconclusive"
    assert "the target's spread of the error over images is 0.50 of theirs" in verdict.sentence
    assert "lower shadows.epochs or split.shadow_size" in verdict.sentence
    assert outcomes(verdict)["likeness of the shadow models"] == "noted"
    assert judge([evaluation(0.8)], unlike, SIDES).kind == "leaks"  # which no shadow is needed to believe


def test_nothing_found_in_enough_images_is_no_leak_and_says_what_would_have_been_found() -> None:
    verdict = judge([nothing(1000, 5000)], CLEAN, Sides("members", "non-members", (1000, 5000)))
    assert verdict.kind == "no leak found"
    size = next(check for check in verdict.checks if check.name == "number of images")
    assert "an attack with an AUC of 0.536 is found with a probability of 90 %" in size.finding


@pytest.mark.parametrize(
    ("members", "nonmembers", "shift", "assumed", "reason"),
    [
        (30, 950, 0.0, (), "images can show that there is none|members and .* non-members can show"),
        (1000, 5000, 0.0, ("2 heads, by the width",), r"does not say \(2 heads, by the width\).*under \[checkpoint\]"),
        (1000, 5000, 0.02, (), "too little for a leak and too much for none: "),
    ],
)
def test_nothing_found_without_evidence_of_absence_is_inconclusive_and_says_what_would_settle_it(
    members: int, nonmembers: int, shift: float, assumed: tuple[str, ...], reason: str
) -> None:
    sides = Sides("members", "non-members", (members, nonmembers))
    verdict = judge_by([nothing(members, nonmembers, shift)], CLEAN, sides, AbsenceCriterion(0.6, 0.05, assumed))
    assert verdict.kind == "inconclusive"
    assert re.search(reason, verdict.sentence)


def test_true_members_below_the_power_of_the_images_are_never_declared_safe() -> None:
    """Thirty members that an attack tells from non-members with an AUC of .61."""
    sides = Sides("members", "non-members", (30, 950))
    kinds = [judge([nothing(30, 950, 0.4, seed)], CLEAN, sides).kind for seed in range(200)]
    assert set(kinds) == {"inconclusive", "leaks"}


def test_as_many_images_as_are_proposed_suffice_where_nothing_leaks() -> None:
    needed = images_for_absence((30, 950), CRITERION)
    assert needed is not None
    sides = Sides("members", "non-members", needed)
    kinds = [judge([nothing(*needed, seed=seed)], CLEAN, sides).kind for seed in range(40)]
    assert kinds.count("no leak found") >= 20
    assert images_for_absence((1000, 5000), CRITERION) == (1000, 5000)
    assert images_for_absence((30, 30), AbsenceCriterion(0.5001, 0.05)) is None


@pytest.mark.parametrize(
    ("shift", "members", "strength"),
    [(0.25, 1000, "slight"), (1.0, 1000, "clear"), (3.0, 1000, "severe"), (2.0, 10, "clear")],
)
def test_strength_of_a_leak_is_that_of_the_lower_ends(shift: float, members: int, strength: str) -> None:
    verdict = judge([nothing(members, 2000, shift)], CLEAN, Sides("members", "non-members", (members, 2000)))
    assert (verdict.kind, verdict.strength) == ("leaks", strength)
    assert verdict.title == f"Leaks ({strength})"


@pytest.mark.parametrize(
    ("measured", "check", "reason"),
    [
        (
            replace(CLEAN, blind_separates=True, matched=Matched(90, Estimate(0.6), 0.01)),
            "classifiers without a model",
            "prepare them alike",
        ),
        (
            replace(CLEAN, blind_separates=True, controls=(control(excess=0.01),)),
            "classifiers without a model",
            "prepare them alike",
        ),
        (replace(CLEAN, blind_separates=True, controls=()), "classifiers without a model", "prepare them alike"),
        (replace(CLEAN, controls=(control(1e-4, 0.01),)), "models that saw neither side", "need not be membership"),
        (
            replace(CLEAN, controls=(control(1e-4), control(0.5, 0.01))),
            "models that saw neither side",
            "need not be membership",
        ),
        (replace(CLEAN, reconstruction=1.2), "reconstruction", "its distances mean nothing"),
    ],
)
def test_success_that_something_else_may_explain_is_no_leak(measured: Measurements, check: str, reason: str) -> None:
    verdict = judge([evaluation(1)], measured, SIDES)
    assert verdict.kind == "invalid"
    assert [name for name, outcome in outcomes(verdict).items() if outcome == "failed"] == [check]
    assert verdict.sentence.startswith("No verdict is possible. ")
    assert reason in verdict.sentence


def test_success_that_stands_among_matched_images_and_above_the_controls_is_a_leak() -> None:
    verdict = judge([evaluation(1)], replace(CLEAN, blind_separates=True), SIDES)
    assert verdict.kind == "leaks"
    assert outcomes(verdict)["classifiers without a model"] == "noted"
    assert "something else tells the sides apart too" in verdict.sentence
    assert "150 pairs of images" in verdict.checks[1].finding
    above = judge([evaluation(1)], replace(CLEAN, controls=(control(1e-4),)), SIDES)
    assert (above.kind, outcomes(above)["models that saw neither side"]) == ("leaks", "noted")


def test_sides_that_differ_forbid_a_verdict_even_if_nothing_is_found() -> None:
    assert judge([evaluation(0)], replace(CLEAN, blind_separates=True), SIDES).kind == "invalid"


@pytest.mark.parametrize(("near_duplicates", "kind"), [(10, "inconclusive"), (11, "invalid")])
def test_duplicates_hide_a_leak_where_they_are_many(near_duplicates: int, kind: str) -> None:
    measured = replace(CLEAN, duplicates=Duplicates(near_duplicates, (0, 0)))
    verdict = judge([evaluation(0)], measured, SIDES)
    assert verdict.kind == kind
    assert f"{near_duplicates} of 200 members have a near-duplicate" in verdict.checks[0].finding
    assert judge([evaluation(1)], measured, SIDES).kind == "leaks"  # they make an attack weaker and no stronger


@pytest.mark.parametrize(("within", "kind"), [((10, 10), "leaks"), ((11, 0), "invalid"), ((0, 11), "invalid")])
def test_images_that_repeat_on_a_side_are_not_independent(within: tuple[int, int], kind: str) -> None:
    verdict = judge([evaluation(1)], replace(CLEAN, duplicates=Duplicates(0, within)), SIDES)
    assert verdict.kind == kind
    assert "of 200 members repeat another" in verdict.checks[0].finding or within[0] == 0


def test_scores_that_are_all_the_same_have_no_sign() -> None:
    constant = evaluate("attack", np.ones(400), MEMBERS, SETTINGS)
    verdict = judge([constant], CLEAN, SIDES)
    assert verdict.kind == "inconclusive"
    assert "the same score" in verdict.sentence


def test_members_that_score_lower_are_no_clean_bill() -> None:
    verdict = judge([evaluation(-1)], CLEAN, SIDES)
    assert (verdict.kind, outcomes(verdict)["sign of the scores"]) == ("invalid", "failed")
    another_finds_them = judge([evaluation(-1), evaluation(1, 1)], CLEAN, SIDES)
    assert (another_finds_them.kind, outcomes(another_finds_them)["sign of the scores"]) == ("leaks", "noted")


def test_attack_that_was_not_run_on_other_models_is_noted() -> None:
    verdict = judge([evaluation(1)], replace(CLEAN, controls=(), reconstruction=None), SIDES)
    assert verdict.kind == "leaks"
    assert outcomes(verdict)["models that saw neither side"] == "noted"


def test_smallest_p_value_is_corrected_for_the_number_of_attacks() -> None:
    ids = np.array([f"image {number}" for number in range(400)])
    hit = next(seed for seed in range(100) if 0.003 < evaluation(0.2, seed).p_value < 0.009)
    found = Scores("hit", scores_of(0.2, hit), ids, 0, shadow_auc=0.6)
    misses = [Scores("miss", scores_of(0, seed), ids, 0, shadow_auc=0.7) for seed in range(4)]
    assert judge(evaluate_together([found], MEMBERS, SETTINGS), CLEAN, SIDES).kind == "leaks"
    assert judge(evaluate_together([found, *misses], MEMBERS, SETTINGS), CLEAN, SIDES).kind == "inconclusive"


def test_attack_is_chosen_by_the_shadows_unless_another_alone_finds_a_leak() -> None:
    def of(shift: float, shadow_auc: float, name: str, seed: int) -> Evaluation:
        return replace(evaluation(shift, seed, name), shadow_auc=shadow_auc)

    by_luck, chosen = of(0.15, 0.6, "lucky", 1), of(0.1, 0.9, "chosen", 2)
    assert (by_luck.auc.value or 0) > (chosen.auc.value or 0)
    assert deciding_attack([by_luck, chosen]) == chosen
    clear = of(1, 0.6, "clear", 3)
    assert deciding_attack([by_luck, chosen, clear]) == clear
    sure = of(0.8, 0.9, "sure", 4)
    assert deciding_attack([clear, sure]) == sure  # though the other's AUC is larger
    tied = of(0.1, 0.9, "last", 5)
    assert deciding_attack([chosen, tied]) == tied


def test_choice_by_the_shadows_finds_more_than_the_best_of_all_corrected_alike() -> None:
    """Power of one good attack among four that see nothing, at the same rate of false alarms."""
    ids = np.array([f"image {number}" for number in range(400)])
    by_choice = alike = 0
    for seed in range(100):
        attacks = [Scores("good", scores_of(0.33, 10 * seed), ids, 0, shadow_auc=0.7)]
        attacks += [Scores("none", scores_of(0, 10 * seed + k), ids, 0, shadow_auc=0.5) for k in range(1, 5)]
        found = evaluate_together(attacks, MEMBERS, SETTINGS)
        by_choice += min(each.p_value_holm for each in found) < 0.01
        alike += min(holm([each.p_value for each in found])) < 0.01
    assert by_choice >= alike
    assert by_choice > 60


def test_where_nothing_leaks_a_leak_is_reported_in_one_audit_of_a_hundred() -> None:
    simulations, images = 1000, 60
    generator = np.random.default_rng(0)
    members, nonmembers = generator.normal(size=(2, simulations, 5, images))
    found = mannwhitneyu(members, nonmembers, alternative="greater", axis=-1)
    template, alarms = evaluation(0), 0
    for aucs, p_values in zip(found.statistic / images**2, found.pvalue, strict=True):
        attacks = [
            replace(template, auc=Estimate(float(auc)), p_value_holm=p_value, p_value_lower=0.5)
            for auc, p_value in zip(aucs, holm(p_values.tolist(), level_shares([0.5, 0.6, 0.9, 0.7, 0.5])), strict=True)
        ]
        alarms += judge(attacks, CLEAN, SIDES).kind == "leaks"
    # Without the correction for the number of attacks, 50 alarms would be expected.
    assert binom.ppf(0.001, simulations, 0.01) <= alarms <= binom.ppf(0.999, simulations, 0.01)


def test_candidates_are_judged_in_their_own_words() -> None:
    sides = Sides("candidates", "reference images", (200, 200))
    assert "was pre-trained on some of the candidates" in judge([evaluation(1)], CLEAN, sides).sentence
    assert "pre-trained on the candidates" in judge([evaluation(0)], CLEAN, sides).sentence
    verdict = judge([evaluation(1)], replace(CLEAN, blind_separates=True, controls=()), sides)
    assert "candidates from reference images" in verdict.sentence


def test_rule_names_what_the_verdict_depends_on() -> None:
    for part in ("p < .01", "corrected", "p < .001", "5 %", "near-duplicate", "score lower", "reconstruct"):
        assert part in RULE
