"""The validity checks: what forbids a verdict, and what a reader has to keep in mind."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mimia.evaluation.evaluate import Evaluation, level_shares
from mimia.evaluation.power import detectable_auc
from mimia.validity.controls import STRICT, Measurements
from mimia.validity.likeness import most_unlike
from mimia.validity.preparation import Preparation

LEVEL = 0.01
"""An attack with a corrected p-value below it is significant."""
POWER = 0.9
"""Probability with which the smallest AUC that is reported as detectable would be found."""
_MOST_ALIKE = 0.05  # of a side


@dataclass(frozen=True)
class ValidityCheck:
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
class Sides:
    """The two sets of images that an attack is to tell apart.

    Attributes:
        first: Name of the first side, for a reader: members in an audit, candidates in an inference.
        second: Name of the other.
        sizes: Number of images of each.
    """

    first: Literal["members", "candidates"]
    second: str
    sizes: tuple[int, int]


def level_of(evaluations: Sequence[Evaluation]) -> float:
    """Return the level at which the attack is tested that does best on the shadows."""
    return LEVEL * max(level_shares([each.shadow_auc for each in evaluations]))


def stands(measurements: Measurements, *, references_alone: bool = False) -> bool:
    """Return whether the attack succeeds by more than what tells the sides apart without membership.

    Args:
        measurements: What was measured.
        references_alone: Whether the target was compared with given references alone, which may have seen a side.
    """
    controls = measurements.controls
    if references_alone and any(each.p_value < STRICT for each in controls):
        return False
    alike = not measurements.blind_separates or measurements.matched.p_value < STRICT
    return alike and bool(controls) and all(each.excess.p_value < STRICT for each in controls)


def explained_by_references(measurements: Measurements) -> str | None:
    """Return, for a reader, why given references alone may explain an attack's success; None if they do not."""
    mend = "train shadow models too (--shadows 2), or pass other references."
    if not measurements.controls:
        return f"No control shows that the references saw neither side: {mend}"
    closest = max(measurements.controls, key=lambda each: each.excess.p_value)
    if closest.excess.p_value < LEVEL:
        return None
    return (
        f"The references may explain it, if they saw the other side: by {closest.model} in the target's place the AUC "
        f"is {closest.auc}, and the target's is larger by {closest.excess.difference}: {mend}"
    )


def blind_check(measurements: Measurements, sides: Sides, valid: bool) -> ValidityCheck:
    """Check that classifiers without a model fail, or that the attack's success is ``valid`` although they do not."""
    name = "classifiers without a model"
    if not measurements.blind:
        finding = (
            f"Too few {sides.first} to see whether they are prepared as the {sides.second}: make sure that they are."
        )
        return ValidityCheck(name, "noted", finding)
    aucs = " and ".join(f"{each.attack.removeprefix('blind ')} {each.auc}" for each in measurements.blind)
    if not measurements.blind_separates:
        return ValidityCheck(name, "passed", f"They do not tell {sides.first} from {sides.second}: AUC by {aucs}.")
    finding = f"Classifiers that see no model tell {sides.first} from {sides.second}: AUC by {aucs}."
    if measurements.preparation is not None:
        finding = f"{finding} {_what_differs(measurements.preparation, sides)}"
    pairs = measurements.matched.pairs
    beside = f"Among {pairs:,} pairs of images that look alike to them, the attack's AUC is {measurements.matched.auc}"
    if valid:
        return ValidityCheck(name, "noted", f"{finding} {beside}.")
    if pairs < 2:
        beside = "No two images of the sides look alike to them"
    return ValidityCheck(
        name,
        "failed",
        f"{finding} {beside}, so that no success shows membership: draw both sides at random from one source and "
        "prepare them alike.",
    )


def _what_differs(preparation: Preparation, sides: Sides) -> str:
    """Return, for a reader, in what the sides differ, and which images show it most."""
    found = "; ".join(
        f"{each.quantity} {_short(each.medians[0])} against {_short(each.medians[1])} (medians; check {each.cause})"
        for each in preparation.differences
    )
    differs = f"What differs most: {found}." if found else "No single quantity differs plainly: look at the images."
    return f"{differs} The {sides.first} that look least like the {sides.second}: {', '.join(preparation.images)}."


def _short(number: float) -> str:
    return f"{number:,.3g}" if abs(number) < 1000 else f"{number:,.0f}"


def control_check(measurements: Measurements, sides: Sides, valid: bool) -> ValidityCheck:
    """Check that the attack fails on other models, or that its success is ``valid`` although it does not."""
    name = "models that saw neither side"
    if not measurements.controls:
        return ValidityCheck(name, "noted", "The deciding attack cannot be run on another model with these shadows.")
    aucs = "; ".join(f"{each.model} {each.auc}" for each in measurements.controls)
    if all(each.p_value >= STRICT for each in measurements.controls):
        return ValidityCheck(name, "passed", f"The same attack finds nothing in them: AUC by {aucs}.")
    finding = f"The same attack tells {sides.first} from {sides.second} by models that saw neither: AUC by {aucs}."
    if valid:
        excess = min(measurements.controls, key=lambda each: each.excess.difference.value or 0.0).excess.difference
        return ValidityCheck(name, "noted", f"{finding} The target's AUC is larger by {excess} or more.")
    return ValidityCheck(
        name,
        "failed",
        f"{finding} What it finds in the target need not be membership: draw both sides at random from one source.",
    )


def duplicate_check(measurements: Measurements, sides: Sides, significant: bool) -> ValidityCheck:
    """Check that few images repeat others of their side, and that near-duplicates do not hide a leak."""
    name = "near-duplicates"
    across, within = measurements.duplicates.across, measurements.duplicates.within
    found = []
    if across:
        have = "has" if across == 1 else "have"
        found.append(f"{across:,} of {sides.sizes[0]:,} {sides.first} {have} a near-duplicate among the {sides.second}")
    for side, repeated, size in zip((sides.first, sides.second), within, sides.sizes, strict=True):
        if repeated:
            repeat = "repeats" if repeated == 1 else "repeat"
            found.append(f"{repeated:,} of {size:,} {side} {repeat} another of them")
    if not found:
        finding = f"None was found, neither across {sides.first} and {sides.second} nor among them."
        return ValidityCheck(name, "passed", finding)
    finding = "; ".join(found)
    repeating = any(repeated > _MOST_ALIKE * size for repeated, size in zip(within, sides.sizes, strict=True))
    hiding = across > _MOST_ALIKE * sides.sizes[0] and not significant
    if repeating or hiding:
        why = "so that images are not independent" if repeating else "which an attack that works finds too"
        return ValidityCheck(name, "failed", f"{finding}, {why}: set data.near_duplicates to “remove”.")
    return ValidityCheck(name, "noted", f"{finding}: few enough, and data.near_duplicates = “remove” takes them out.")


def sign_check(p_value_lower: float, sides: Sides, significant: bool) -> ValidityCheck:
    """Check that members do not score lower than non-members.

    Args:
        p_value_lower: That by one of the attacks they do, corrected for the number of attacks.
        sides: What is told apart.
        significant: Whether by another attack they score higher.
    """
    name = "sign of the scores"
    if p_value_lower >= STRICT:
        return ValidityCheck(name, "passed", f"By no attack do {sides.first} score lower than {sides.second}.")
    finding = f"By one attack {sides.first} score lower than {sides.second} (p = {p_value_lower:.1g})"
    if significant:
        return ValidityCheck(name, "noted", f"{finding}; another finds them.")
    return ValidityCheck(
        name,
        "failed",
        f"{finding}, and by none higher: something else than membership tells them apart, or the attack has the wrong "
        "sign for this model.",
    )


def reconstruction_check(measurements: Measurements) -> ValidityCheck:
    """Check that the target reconstructs better than the mean colour."""
    name = "reconstruction"
    if measurements.reconstruction is None:
        return ValidityCheck(name, "passed", "The attacks take no reconstruction by a decoder of the target's own.")
    finding = f"The target's error is {measurements.reconstruction:.2f} of that of the mean colour"
    if measurements.reconstruction < 1:
        return ValidityCheck(name, "passed", f"{finding}.")
    return ValidityCheck(
        name, "failed", f"{finding}: its distances mean nothing, so train it longer or correct its pixel space."
    )


def likeness_check(measurements: Measurements) -> ValidityCheck:
    """Note whether the shadow models answer about unseen images as the target does."""
    name = "likeness of the shadow models"
    if not measurements.likeness:
        return ValidityCheck(name, "noted", "The target was not compared with the shadow models.")
    if unlike := most_unlike(measurements.likeness):
        return ValidityCheck(name, "noted", f"They are unlike the target: {unlike}.")
    ratios = "; ".join(
        f"{each.quantity} {each.ratio:.2f} ({1 / each.bound:.2f} to {each.bound:.2f})" for each in measurements.likeness
    )
    return ValidityCheck(
        name, "passed", f"On images that none saw, the target answers as they do; ratios with their bounds: {ratios}."
    )


def size_check(evaluations: Sequence[Evaluation], sides: Sides) -> ValidityCheck:
    """Note which leaks are too small for this number of images, and which low rates cannot be measured."""
    name = "number of images"
    auc = detectable_auc(*sides.sizes, level_of(evaluations), POWER)
    finding = (
        f"{sides.sizes[0]:,} {sides.first} and {sides.sizes[1]:,} {sides.second}: an attack with an AUC of {auc:.3f} "
        f"is found with a probability of {100 * POWER:.0f} %"
    )
    rates = {"1 %": evaluations[0].tpr_at_1_percent, "0.1 %": evaluations[0].tpr_at_01_percent}
    lacking = {label: rate.note for label, rate in rates.items() if rate.value is None}
    if not lacking:
        return ValidityCheck(name, "passed", f"{finding}; TPR at 1 % and 0.1 % FPR are measured.")
    notes = " and ".join(f"{label} FPR ({note})" for label, note in lacking.items())
    return ValidityCheck(name, "noted", f"{finding}; there is no TPR at {notes}.")
