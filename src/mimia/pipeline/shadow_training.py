"""How shadow models are trained, and how large they may be in the time that there is."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from mimia.config.recipes import Recipe, SizeName
from mimia.config.settings import ShadowSettings
from mimia.data.imageset import ImageSet
from mimia.models.base import ModelSpec
from mimia.models.registry import architecture_for, build
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.cost import training_seconds
from mimia.runtime.errors import MimiaError
from mimia.runtime.text import duration


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
