"""The validity checks of a run: what other than membership could tell its two sides apart?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimia.attacks.base import Scores
from mimia.data.near_duplicates import near_duplicates, repeated
from mimia.data.splits import Split
from mimia.models.checkpoints import native
from mimia.models.relative_error import reconstruction_errors
from mimia.pipeline.collect import UNTRAINED, CollectedSignals
from mimia.pipeline.context import AuditContext
from mimia.runtime.arrays import Bools
from mimia.runtime.errors import MimiaError
from mimia.signals.arrays import AttackInput, leave_one_out
from mimia.validity.blind_baseline import blind_guesses, evaluate_guesses, sides_differ
from mimia.validity.controls import STRICT, ControlScores, Duplicates, Measurements, compare_control
from mimia.validity.likeness import Likeness, compare_likeness
from mimia.validity.matching import evaluate_matched
from mimia.validity.preparation import describe_preparation

_FEWEST = 5  # images of a side, except candidates: the blind baseline needs some in both of its halves
_SHADOWS = 2  # that are controls, in the place of the target
_RECONSTRUCTED = 128  # images of a side that the target has to reconstruct


@dataclass(frozen=True)
class NearDuplicates:
    """Near-duplicates that are left in a split.

    Attributes:
        counts: How many there are.
        pairs: Rows of pairs across the sides, the most alike first.
    """

    counts: Duplicates
    pairs: Sequence[tuple[int, int]]


def refuse_too_few(split: Split) -> None:
    """Raise before anything is trained if a side or the population is too small to be evaluated."""
    evaluated = split.evaluated
    if len(evaluated.candidates):
        counts = {"holdout images": len(evaluated.holdout)}
    else:
        counts = {"members": len(evaluated.members), "non-members": len(evaluated.nonmembers)}
    if len(split.auxiliary.population):
        counts["population images"] = len(split.auxiliary.population)
    for name, count in counts.items():
        if count < _FEWEST:
            raise MimiaError(
                f"At least {_FEWEST} {name} are needed, and this split has {count}: give more images, or other numbers "
                "under [split]."
            )


def handle_near_duplicates(context: AuditContext, split: Split) -> tuple[Split, NearDuplicates]:
    """Find near-duplicates across the two sides and within each, and remove them if the settings say so.

    Of near-duplicates within a side the first stays; of a pair across the sides, the one on the suspected side.
    """
    sides = split.evaluated.suspected, split.evaluated.compared
    pixels = [context.images.pixels[side.rows] for side in sides]
    across = near_duplicates(*pixels)
    within = [repeated(each) for each in pixels]
    if context.settings.data.near_duplicates == "remove":
        removed = np.zeros(len(split.evaluated), dtype=bool)
        for side, again in zip(sides, within, strict=True):
            removed[np.flatnonzero(side.mask)[again]] = True
        removed[np.flatnonzero(sides[1].mask)[[pair.second for pair in across]]] = True
        left = split.without(removed, "near-duplicates") if removed.any() else split
        return left, NearDuplicates(Duplicates(0, (0, 0)), [])
    counts = Duplicates(len({pair.first for pair in across}), (len(within[0]), len(within[1])))
    pairs = [(int(sides[0].rows[pair.first]), int(sides[1].rows[pair.second])) for pair in across]
    return split, NearDuplicates(counts, pairs)


def check_validity(
    context: AuditContext, split: Split, signals: CollectedSignals, deciding: Scores, found: NearDuplicates
) -> Measurements:
    """Measure all that the verdict depends on besides the attacks' own figures.

    Args:
        context: What the run works with.
        split: Roles of the images.
        signals: Signals of all models.
        deciding: Scores of the attack that decides, of all evaluated images.
        found: Near-duplicates on the sides.
    """
    evaluated, images, settings = split.evaluated, context.images, context.settings.evaluation
    on_sides, rows = evaluated.on_sides, evaluated.rows[evaluated.on_sides]
    members, scores = evaluated.suspected.mask[on_sides], deciding.values[on_sides]
    guesses = []
    if members.sum() >= _FEWEST:
        guesses = blind_guesses(images.pixels[rows], images.facts[rows], members, settings.seed)
    separates = sides_differ(guesses, members, STRICT)
    preparation = None
    if separates:
        names = evaluated.names[on_sides]
        preparation = describe_preparation(images.pixels[rows], images.facts[rows], names, members, guesses)
    controls = _controls(context, signals, deciding.attack, on_sides)
    return Measurements(
        blind=evaluate_guesses(guesses, members, settings),
        blind_separates=separates,
        controls=tuple(compare_control(each, scores, members) for each in controls),
        matched=evaluate_matched(scores, members, guesses),
        duplicates=found.counts,
        reconstruction=_reconstruction(context, split, signals),
        preparation=preparation,
        likeness=_likeness(signals, ~evaluated.suspected.mask),
    )


def _controls(context: AuditContext, signals: CollectedSignals, name: str, on_sides: Bools) -> list[ControlScores]:
    """Run an attack on models that were trained on neither side, with the others as references."""
    attack, inputs = context.attacks[name], signals.inputs
    if attack.requirements.online:  # its references were trained on the sides
        return []
    population = inputs.population.references if inputs.population is not None else None
    names = list(signals.models.compared)
    chosen = [*names[: min(_SHADOWS, len(signals.models.shadows))], *signals.models.references]
    if len(names) < attack.requirements.shadows:  # too few are left to compare with
        chosen = []
    controls = []
    for model in chosen:
        values = attack.score(leave_one_out(inputs.references, names.index(model), population)).values[on_sides]
        if model in signals.models.references and attack.requirements.shadows > 1:
            # What raises a target's scores like a leak is a reference that saw the other side.
            model, values = f"{model} (sign reversed)", -values
        controls.append(ControlScores(model, values, on_sides[on_sides]))
    if signals.untrained is not None:
        values = attack.score(signals.untrained.inputs).values
        controls.append(ControlScores(UNTRAINED, values, signals.untrained.chosen[on_sides]))
    return controls


def _likeness(signals: CollectedSignals, unseen: Bools) -> tuple[Likeness, ...]:
    """Compare the target with the shadows on images that none of them saw; given references need not be like it."""
    shadows = np.arange(len(signals.models.shadows))
    if not len(shadows):
        return ()
    inputs = signals.inputs.of_images(unseen)
    return compare_likeness(AttackInput(inputs.target, inputs.references.of_models(shadows)))


def _reconstruction(context: AuditContext, split: Split, signals: CollectedSignals) -> float | None:
    """Compare the target's error with that of the mean colour, if its own decoder reconstructs.

    The better side counts: a model that overfits its few training images reconstructs no others, and is not broken.
    """
    if not isinstance(signals.queried_target, Path) or context.target.decoder != "own":
        return None
    model = native.load(signals.queried_target)
    sides = (split.evaluated.suspected, split.evaluated.compared)
    ordinary = (context.images.take(side.rows[:_RECONSTRUCTED]) for side in sides)
    return min(reconstruction_errors(model, images, context.settings.compute).relative for images in ordinary)
