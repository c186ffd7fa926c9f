"""The verdict on a model, with the checks on which it rests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mimia.evaluation.evaluate import Evaluation, best_on_shadows
from mimia.evaluation.intervals import p_value_text
from mimia.validity import checks
from mimia.validity.absence import AbsenceCriterion, lacking_evidence
from mimia.validity.checks import LEVEL, Sides, ValidityCheck
from mimia.validity.controls import STRICT, Measurements

__all__ = ["RULE", "Sides", "Verdict", "deciding_attack", "judge"]

_LEAKS = {
    "members": "This model gives away its pre-training images.",
    "candidates": "This model was pre-trained on some of the candidates.",
}
_NO_LEAK = {
    "members": "No leak was found with these attacks, and there is evidence that there is none of weight.",
    "candidates": "There is no sign that this model was pre-trained on the candidates.",
}
_INCONCLUSIVE = {
    "members": "These images do not show whether this model gives away its pre-training images.",
    "candidates": "These images do not show whether this model was pre-trained on the candidates.",
}
_CLEAR_AUC, _CLEAR_TPR = 0.6, 0.05
_SEVERE_AUC, _SEVERE_TPR = 0.9, 0.3

RULE = (
    "The verdict is “leaks” if an attack scores members higher than non-members with p < .01, corrected for the "
    "number of attacks (Holm, with half of the level for the attack that does best on the shadow models). It is "
    "“invalid” if a classifier without a model, or the same attack on a model that saw neither side, tells the sides "
    "apart too (p < .001 each), unless the attack still succeeds among images that look alike to those classifiers and "
    "does better on the target than on every such model (p < .001 each); and also if the target does not reconstruct, "
    "if more than 5 % of a side repeat its own images, or if nothing is found while members score lower (p < .001) or "
    "more than 5 % of them have a near-duplicate among the non-members. It is “no leak found” if no attack has "
    "p < .1, the upper ends of the intervals of the deciding attack are below evaluation.margin_auc and "
    "evaluation.margin_tpr (TPR at 1 % FPR), nothing about the target was assumed, and the shadow models answer about "
    "unseen images as the target does; and “inconclusive” otherwise. A "
    "leak is “severe” if the lower end of its AUC is .9 or more, or that of its TPR at 1 % FPR 30 % or more; “clear” "
    "from .6 or 5 % on; and “slight” below. Where no shadow model was trained, a reference that saw the other side may "
    "look like a leak: then no control may tell the sides apart (“invalid”), the attack has to do better on the target "
    "than on every control (p < .01 each) for “leaks”, and there is no “no leak found”."
)


@dataclass(frozen=True)
class Verdict:
    """The answer of an audit or an inference.

    Attributes:
        kind: ``leaks``; ``no leak found``, with evidence of absence; ``inconclusive``: neither is shown; or
            ``invalid``: something else than membership may be at work.
        sentence: The answer with its evidence, for a reader.
        checks: The validity checks, in the order in which they are read.
        strength: Of a leak, by the lower ends of the intervals.
    """

    kind: Literal["leaks", "no leak found", "inconclusive", "invalid"]
    sentence: str
    checks: tuple[ValidityCheck, ...]
    strength: Literal["slight", "clear", "severe"] | None = None

    @property
    def title(self) -> str:
        """The kind, with the strength of a leak."""
        return self.kind.capitalize() if self.strength is None else f"{self.kind.capitalize()} ({self.strength})"


def judge(
    evaluations: Sequence[Evaluation], measurements: Measurements, sides: Sides, criterion: AbsenceCriterion
) -> Verdict:
    """Return the verdict by `RULE`.

    Args:
        evaluations: All attacks on the same images; `deciding_attack` decides.
        measurements: Validity of that attack's success.
        sides: What is told apart.
        criterion: What “no leak found” asks for.
    """
    best = deciding_attack(evaluations)
    significant = best.p_value_holm < LEVEL
    p_value_lower = min(1.0, len(evaluations) * min(each.p_value_lower for each in evaluations))
    alone = criterion.shadows == 0
    valid = significant and checks.stands(measurements, references_alone=alone)
    done = (
        checks.duplicate_check(measurements, sides, significant),
        checks.blind_check(measurements, sides, valid),
        checks.control_check(measurements, sides, valid),
        checks.sign_check(p_value_lower, sides, significant),
        checks.reconstruction_check(measurements),
        checks.likeness_check(measurements),
        checks.size_check(evaluations, sides),
    )
    failed = [check for check in done if check.outcome == "failed"]
    if failed:
        return Verdict("invalid", f"No verdict is possible. {failed[0].finding}", done)
    evidence = _figures(best, sides)
    if significant and alone and (explained := checks.explained_by_references(measurements)):
        return Verdict("inconclusive", f"{_INCONCLUSIVE[sides.first]} {evidence} {explained}", done)
    if significant:
        confounded = measurements.blind_separates or any(control.p_value < STRICT for control in measurements.controls)
        beside = " It stands although something else tells the sides apart too: see the checks." if confounded else ""
        return Verdict("leaks", f"{_LEAKS[sides.first]} {evidence}{beside}", done, _strength(best))
    lacking = lacking_evidence(best, evaluations, measurements.likeness, sides, criterion)
    if lacking is not None:
        return Verdict("inconclusive", f"{_INCONCLUSIVE[sides.first]} {evidence} {lacking}", done)
    return Verdict("no leak found", f"{_NO_LEAK[sides.first]} {evidence}", done)


def deciding_attack(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Return the attack that did best on the shadows, or the most significant one if that finds nothing and others do.

    The corrected p-values hold for both, as `level_shares` shares the level out before any score of the target is seen.
    """
    chosen = evaluations[best_on_shadows([each.shadow_auc for each in evaluations])]
    best = min(evaluations, key=lambda each: each.p_value_holm)
    return best if best.p_value_holm < LEVEL <= chosen.p_value_holm else chosen


def _strength(best: Evaluation) -> Literal["slight", "clear", "severe"]:
    """Return how strong a leak is at least."""
    auc, tpr = best.auc.low or 0.0, best.tpr_at_1_percent.low or 0.0
    if auc >= _SEVERE_AUC or tpr >= _SEVERE_TPR:
        return "severe"
    return "clear" if auc >= _CLEAR_AUC or tpr >= _CLEAR_TPR else "slight"


def _figures(best: Evaluation, sides: Sides) -> str:
    evidence = f"The deciding attack, {best.attack}, has an AUC of {best.auc} (½ is chance)"
    tpr = best.tpr_at_1_percent
    if tpr.value is not None and sides.first == "members":
        evidence += f" and a TPR of {100 * tpr.value:.1f} % at 1 % FPR"
    p_value = f"p = {p_value_text(best.p_value_holm)}".replace("= <", "<")
    return f"{evidence}; {p_value}."
