"""How shadow models are trained for a target whose training nobody states: how large, and for how long."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from mimia.config.recipes import Recipe, SizeName
from mimia.config.settings import ShadowSettings
from mimia.data.imageset import ImageSet
from mimia.models.base import ModelSpec
from mimia.models.checkpoints import native
from mimia.models.registry import architecture_for, build
from mimia.models.relative_error import reconstruction_errors
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.cost import training_seconds
from mimia.pretraining.pool import pretrained
from mimia.runtime.arrays import Floats
from mimia.runtime.errors import MimiaError
from mimia.runtime.progress import say
from mimia.runtime.rehearsal import Rehearsal
from mimia.runtime.seeds import derived_seed
from mimia.runtime.text import duration

_FIRST_EPOCHS, _LAST_EPOCHS = 50, 3200
_DEVIATION = 0.05  # of log-quantities between models of equal training
_COMPARED = 512  # images at most
_SMALLEST = 1e-12


@dataclass(frozen=True)
class ShadowTraining:
    """How shadows are trained.

    Attributes:
        recipe: The recipe.
        context: What the trainings share; the architecture is in it.
        chosen: Settings of shadows that were chosen here, by key.
        notes: Why they were chosen so, one sentence each.
    """

    recipe: Recipe
    context: TrainingContext
    chosen: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def fitting_size(
    training: ShadowTraining, images: ImageSet, spec: ModelSpec, settings: ShadowSettings, count: int
) -> ShadowTraining:
    """Return trainings that take no longer than the settings say: of smaller models, if need be.

    Args:
        training: Of shadows with the target's own architecture.
        images: Training images of one shadow.
        spec: Images, masking and target space.
        settings: Those of the shadows.
        count: Number of shadows.
    """
    seconds = count * training_seconds(images, spec, training.recipe, training.context)
    if seconds <= 60 * settings.minutes:
        return replace(training, chosen={**training.chosen, "size": "target"})
    smaller, shorter = training, seconds
    for size in reversed(get_args(SizeName)):
        sized = _of_size(training, size)
        if 0 < _parameters(sized, spec) < _parameters(smaller, spec):
            smaller, shorter = sized, count * training_seconds(images, spec, sized.recipe, sized.context)
        if shorter <= 60 * settings.minutes:
            break
    if smaller is training:
        return replace(training, chosen={**training.chosen, "size": "target"})
    note = (
        f"{count} shadows of the target's size would train for about {duration(seconds)}, and shadows.minutes is "
        f"{settings.minutes:g}: they are of the size {smaller.recipe.size} (about {duration(shorter)}), by which "
        "somewhat fewer members are found"
    )
    chosen = {**training.chosen, "size": smaller.recipe.size}
    return replace(smaller, chosen=chosen, notes=(*training.notes, note))


def _of_size(training: ShadowTraining, size: SizeName) -> ShadowTraining:
    recipe = training.recipe.model_copy(update={"size": size})
    return replace(training, recipe=recipe, context=replace(training.context, architecture=None))


def _parameters(training: ShadowTraining, spec: ModelSpec) -> int:
    """Return the number of a shadow's parameters; 0 if the family has no such size for these images."""
    context = training.context
    tokenizer = None if context.tokenizer is None else context.tokenizer.architecture
    try:
        architecture = context.architecture or architecture_for(training.recipe, spec, tokenizer)
    except MimiaError:
        return 0
    return sum(value.numel() for value in build(spec, architecture).parameters())


def matching_epochs(
    training: ShadowTraining, images: ImageSet, unseen: ImageSet, spec: ModelSpec, target: Path
) -> ShadowTraining:
    """Return trainings after whose epochs a shadow answers about unseen images as the target does.

    One shadow is trained for 50, 100, 200 … epochs, until its errors resemble the target's less and less: each time
    from the start, since the learning rate depends on the end.

    Args:
        training: With epochs that nobody stated.
        images: Training images of the shadow.
        unseen: Images that neither the target nor the shadow was trained on, and that are not evaluated.
        spec: Images, masking and target space.
        target: Checkpoint directory of the target, with its own decoder.
    """
    if isinstance(training.context.store, Rehearsal):
        return replace(
            training,
            recipe=training.recipe.model_copy(update={"epochs": _FIRST_EPOCHS}),
            notes=(
                *training.notes,
                f"the file does not say for how many epochs the target was trained: shadows of {_FIRST_EPOCHS}, "
                f"{2 * _FIRST_EPOCHS}, {4 * _FIRST_EPOCHS} … epochs find that out, and times here are of "
                f"{_FIRST_EPOCHS} epochs",
            ),
        )
    unseen = unseen.take(np.arange(min(len(unseen), _COMPARED)))
    compute = training.context.compute
    wanted = _quantities(reconstruction_errors(native.load(target), unseen, compute).own)
    say("The target's file does not say how long it was trained: shadow models find that out.")
    distances: dict[int, float] = {}
    epochs = _FIRST_EPOCHS
    while epochs <= _LAST_EPOCHS:
        recipe = training.recipe.model_copy(update={"epochs": epochs})
        context = replace(training.context, description=f"shadow of {epochs} epochs")
        shadow = native.load(pretrained(images, spec, recipe, derived_seed(recipe.seed, "shadow", 0), context))
        found = _quantities(reconstruction_errors(shadow, unseen, compute).own)
        distances[epochs] = float(np.square((found - wanted) / _DEVIATION).sum())
        if distances[epochs] > min(distances.values()):
            break
        epochs *= 2
    best = nearest(distances)
    note = (
        f"the file does not say for how many epochs the target was trained: shadows are trained for {best}, after "
        f"which they answer about unseen images as it does (tried: {', '.join(map(str, distances))})"
    )
    recipe = training.recipe.model_copy(update={"epochs": best})
    chosen = {**training.chosen, "epochs": best}
    return replace(training, recipe=recipe, chosen=chosen, notes=(*training.notes, note))


def nearest(distances: Mapping[int, float]) -> int:
    """Return the number of epochs with the smallest distance, between those tried, each twice the one before.

    A parabola through the best and its neighbours, over the logarithm of the epochs, says where it is smallest.

    >>> nearest({50: 9.0, 100: 1.0, 200: 1.0, 400: 9.0}), nearest({50: 1.0, 100: 3.0})
    (140, 50)
    """
    tried = list(distances)
    place = min(range(len(tried)), key=lambda each: distances[tried[each]])
    if not 0 < place < len(tried) - 1:
        return tried[place]
    before, at, after = (distances[tried[each]] for each in (place - 1, place, place + 1))
    shift = 0.5 * (before - after) / (before - 2 * at + after)
    return _two_digits(tried[place] * 2.0**shift)


def _two_digits(number: float) -> int:
    unit = 10 ** max(0, len(str(int(number))) - 2)
    return int(round(number / unit) * unit)


def _quantities(errors: Floats) -> Floats:
    """Return the mean and the spread of an image's log-error; a model that is trained longer differs more in them."""
    logs = np.log(np.maximum(errors, _SMALLEST))
    return np.array([logs.mean(), np.log(logs.std() + _SMALLEST)])
