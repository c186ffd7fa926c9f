"""The verdict on a model, and the checks without which it would be worth nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mimia.evaluation.estimate import p_value_text
from mimia.evaluation.evaluate import Evaluation
from mimia.evaluation.power import detectable_area
from mimia.evaluation.validity import STRICT, Measurements

_LEVEL = 0.01
_MOST_ALIKE = 0.05  # of a side
_FOUND_WITH = 0.9
_LEAKS = {
    "members": "This model gives away its pre-training images.",
    "candidates": "This model was pre-trained on some of the candidates.",
}
_NO_LEAK = {
    "members": "No leak was found with these attacks and this many images.",
    "candidates": "Nothing shows that this model was pre-trained on the candidates.",
}

RULE = (
    "The verdict is “leaks” if an attack scores members higher than non-members with p < .01, corrected for the number "
    "of attacks; it is “invalid” if a classifier without a model, or the same attack on a model that saw neither side, "
    "tells the sides apart too (p < .001 each), unless the attack still succeeds among images that look alike to those "
    "classifiers and does better on the target than on every such model (p < .001 each), and also if the target does "
    "not reconstruct, if more than 5 % of a side repeat its own images, or if nothing is found while members score "
    "lower (p < .001) or more than 5 % of them have a near-duplicate among the non-members; otherwise it is “no leak "
    "found”."
)


@dataclass(frozen=True)
class Check:
    """One check of the validity gate.

    Attributes:
        name: What was checked.
        outcome: ``failed`` forbids a verdict; ``noted`` is to be kept in mind.
        finding: What was measured, for a reader.
    """

    name: str
    outcome: Literal["passed", "noted", "failed"]
    finding: str


@dataclass(frozen=True)
class Verdict:
    """The answer of an audit or an inference.

    Attributes:
        kind: ``leaks``, ``no leak found`` at this power, or ``invalid``: something else than membership may be at work.
        sentence: The answer with its evidence, for a reader.
        checks: Of the gate, in the order in which they are read.
    """

    kind: Literal["leaks", "no leak found", "invalid"]
    sentence: str
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Sides:
    """What is told apart.

    Attributes:
        first: What a reader calls the first side: it is members in an audit, and candidates in an inference.
        second: What a reader calls the other.
        sizes: Number of images of each.
    """

    first: Literal["members", "candidates"]
    second: str
    sizes: tuple[int, int]


def judge(evaluations: Sequence[Evaluation], measured: Measurements, sides: Sides) -> Verdict:
    """Give the verdict by `RULE`.

    Args:
        evaluations: All attacks on the same images; the one of the largest area decides.
        measured: Validity of that attack's success.
        sides: What is told apart.
    """
    best = strongest(evaluations)
    significant = best.corrected < _LEVEL
    lower = min(1.0, len(evaluations) * min(each.p_value_lower for each in evaluations))
    confounded = measured.apart or any(control.p_value < STRICT for control in measured.controls)
    stands = significant and _stands(measured)
    checks = (
        _duplicate_check(measured, sides, significant),
        _blind_check(measured, sides, stands),
        _control_check(measured, sides, stands),
        _sign_check(lower, sides, significant),
        _reconstruction_check(measured),
        _size_check(evaluations, sides),
    )
    failed = [check for check in checks if check.outcome == "failed"]
    if failed:
        return Verdict("invalid", f"No verdict is possible. {failed[0].finding}", checks)
    evidence = _evidence(best, sides)
    if significant:
        beside = " It stands although something else tells the sides apart too: see the checks." if confounded else ""
        return Verdict("leaks", f"{_LEAKS[sides.first]} {evidence}{beside}", checks)
    area = detectable_area(*sides.sizes, _LEVEL / len(evaluations), _FOUND_WITH)
    return Verdict(
        "no leak found",
        f"{_NO_LEAK[sides.first]} {evidence} With these images, an attack of an area of {area:.3f} would have been "
        f"found with a probability of {100 * _FOUND_WITH:.0f} %.",
        checks,
    )


def strongest(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Give the attack of the largest ROC area."""
    return max(evaluations, key=lambda evaluation: evaluation.area.value or 0.0)


def _stands(measured: Measurements) -> bool:
    """Tell whether the attack's success is more than what tells the sides apart without membership."""
    alike = not measured.apart or measured.matched.p_value < STRICT
    return alike and bool(measured.controls) and all(each.excess.p_value < STRICT for each in measured.controls)


def _blind_check(measured: Measurements, sides: Sides, stands: bool) -> Check:
    areas = " and ".join(f"{each.attack.removeprefix('blind ')} {each.area}" for each in measured.blind)
    name = "classifiers without a model"
    if not measured.apart:
        return Check(name, "passed", f"They do not tell {sides.first} from {sides.second}: areas by {areas}.")
    finding = f"Classifiers that see no model tell {sides.first} from {sides.second}: areas by {areas}."
    pairs = measured.matched.pairs
    beside = f"Among {pairs:,} pairs of images that look alike to them, the attack's area is {measured.matched.area}"
    if stands:
        return Check(name, "noted", f"{finding} {beside}.")
    if pairs < 2:
        beside = "No two images of the sides look alike to them"
    return Check(
        name,
        "failed",
        f"{finding} {beside}, so that no success shows membership: draw both sides at random from one source and "
        "prepare them alike.",
    )


def _control_check(measured: Measurements, sides: Sides, stands: bool) -> Check:
    name = "models that saw neither side"
    if not measured.controls:
        return Check(name, "noted", "The attack that decides cannot be played on another model with these shadows.")
    areas = "; ".join(f"{each.model} {each.area}" for each in measured.controls)
    telling = [each for each in measured.controls if each.p_value < STRICT]
    if not telling:
        return Check(name, "passed", f"The same attack finds nothing in them: areas by {areas}.")
    finding = f"The same attack tells {sides.first} from {sides.second} by models that saw neither: areas by {areas}."
    if stands:
        excess = min(measured.controls, key=lambda each: each.excess.difference.value or 0.0).excess.difference
        return Check(name, "noted", f"{finding} The target's area is larger by {excess} or more.")
    return Check(
        name,
        "failed",
        f"{finding} What it finds in the target need not be membership: draw both sides at random from one source.",
    )


def _duplicate_check(measured: Measurements, sides: Sides, significant: bool) -> Check:
    name = "near-duplicates"
    across, within = measured.duplicates.across, measured.duplicates.within
    found = []
    if across:
        have = "has" if across == 1 else "have"
        found.append(f"{across:,} of {sides.sizes[0]:,} {sides.first} {have} a near-duplicate among the {sides.second}")
    for side, repeated, size in zip((sides.first, sides.second), within, sides.sizes, strict=True):
        if repeated:
            repeat = "repeats" if repeated == 1 else "repeat"
            found.append(f"{repeated:,} of {size:,} {side} {repeat} another of them")
    if not found:
        return Check(name, "passed", f"None was found, neither across {sides.first} and {sides.second} nor among them.")
    finding = "; ".join(found)
    repeating = any(repeated > _MOST_ALIKE * size for repeated, size in zip(within, sides.sizes, strict=True))
    hiding = across > _MOST_ALIKE * sides.sizes[0] and not significant
    if repeating or hiding:
        why = "so that images are not independent" if repeating else "which an attack that works finds too"
        return Check(name, "failed", f"{finding}, {why}: set data.near_duplicates to “remove”.")
    return Check(name, "noted", f"{finding}: few enough, and data.near_duplicates = “remove” takes them out.")


def _sign_check(lower: float, sides: Sides, significant: bool) -> Check:
    name = "sign of the scores"
    if lower >= STRICT:
        return Check(name, "passed", f"By no attack do {sides.first} score lower than {sides.second}.")
    finding = f"By one attack {sides.first} score lower than {sides.second} (p = {lower:.1g})"
    if significant:
        return Check(name, "noted", f"{finding}; another finds them.")
    return Check(
        name,
        "failed",
        f"{finding}, and by none higher: something else than membership tells them apart, or the attack has the wrong "
        "sign for this model.",
    )


def _reconstruction_check(measured: Measurements) -> Check:
    name = "reconstruction"
    if measured.reconstruction is None:
        return Check(name, "passed", "The attacks take no reconstruction by a decoder of the target's own.")
    finding = f"The target's error is {measured.reconstruction:.2f} of that of the mean colour"
    if measured.reconstruction < 1:
        return Check(name, "passed", f"{finding}.")
    return Check(name, "failed", f"{finding}: its distances mean nothing, so train it longer or mend its pixel space.")


def _size_check(evaluations: Sequence[Evaluation], sides: Sides) -> Check:
    name = "number of images"
    area = detectable_area(*sides.sizes, _LEVEL / len(evaluations), _FOUND_WITH)
    finding = (
        f"{sides.sizes[0]:,} {sides.first} and {sides.sizes[1]:,} {sides.second}: an attack of an area of {area:.3f} "
        f"is found with a probability of {100 * _FOUND_WITH:.0f} %"
    )
    rates = {"1 %": evaluations[0].tpr_at_1_percent, "0.1 %": evaluations[0].tpr_at_01_percent}
    lacking = {label: rate.note for label, rate in rates.items() if rate.value is None}
    if not lacking:
        return Check(name, "passed", f"{finding}; rates at 1 % and 0.1 % false alarms are measured.")
    notes = " and ".join(f"{label} ({note})" for label, note in lacking.items())
    return Check(name, "noted", f"{finding}; there is no rate at {notes} false alarms.")


def _evidence(best: Evaluation, sides: Sides) -> str:
    evidence = f"The strongest attack, {best.attack}, has a ROC area of {best.area} (½ is a guess)"
    rate = best.tpr_at_1_percent
    if rate.value is not None and sides.first == "members":
        evidence += f" and finds {100 * rate.value:.1f} % of the {sides.first} at 1 % false alarms"
    p_value = f"p = {p_value_text(best.corrected)}".replace("= <", "<")
    return f"{evidence}; {p_value}."
