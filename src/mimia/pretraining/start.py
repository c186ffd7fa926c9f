"""The public checkpoint that trainings continue from."""

from dataclasses import replace

from mimia.config.recipes import Recipe
from mimia.config.settings import CheckpointSettings
from mimia.data.imageset import ImageSet
from mimia.models.checkpoints.identification import identify
from mimia.models.checkpoints.loading import load_checkpoint
from mimia.models.registry import families_of
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.pool import tokenizer_of
from mimia.pretraining.to_native import to_native
from mimia.runtime.errors import MimiaError


def open_start(
    recipe: Recipe, images: ImageSet, context: TrainingContext, stated: CheckpointSettings | None = None
) -> TrainingContext:
    """Return the context of trainings that begin with the weights that a recipe names, if it names any.

    Args:
        recipe: Its ``start_from`` is a checkpoint directory or file, or a name on the hub.
        images: Training images, by which is found out what the checkpoint does not say.
        context: What the trainings share.
        stated: What the checkpoint does not say of itself.

    Raises:
        MimiaError: The checkpoint cannot be opened, has no decoder, is of another family than the recipe, or takes
            other images.
    """
    if recipe.start_from is None:
        return context
    loaded = identify(load_checkpoint(recipe.start_from, stated), images, context.compute)
    model = loaded.model
    wrong = None
    if not model.has_decoder:
        wrong = "it has no decoder"
    elif recipe.family not in families_of(model.architecture.family):
        wrong = f"it is of another family ({model.architecture.family}) than the recipe ({recipe.family})"
    elif model.spec.shape != images.pixels.shape[1:]:
        sizes = ("×".join(map(str, each)) for each in (model.spec.shape, images.pixels.shape[1:]))
        wrong = "it takes images of {}, and these are of {}".format(*sizes)
    if wrong is not None:
        raise MimiaError(f"No training can start from {recipe.start_from}: {wrong}. Name another in recipe.start_from.")
    start = to_native(loaded, context.store)
    tokenizer = tokenizer_of(start) or context.tokenizer
    return replace(context, start=start, architecture=model.architecture, tokenizer=tokenizer)
