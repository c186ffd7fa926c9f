"""Pre-training as a plain Python function."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path
from pydantic import ValidationError

from mimia.config.defences import Defence
from mimia.config.mistakes import explain
from mimia.config.recipes import Recipe
from mimia.data.imageset import ImageSet
from mimia.data.loading import load_images
from mimia.data.sources.base import SourceLike
from mimia.models.base import MaskedImageModel
from mimia.models.checkpoints import native
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.pool import pretrained
from mimia.pretraining.specs import spec_for
from mimia.pretraining.start import open_start
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store


def pretrain(
    images: SourceLike | ImageSet,
    recipe: str | Mapping[str, Any] | Recipe = "mae-micro",
    *,
    defence: Defence | None = None,
    validation: SourceLike | ImageSet | None = None,
    seed: int | None = None,
    store: str | Path | None = None,
) -> MaskedImageModel:
    """Pre-train a model on all of the images, or open it if the store has it.

    Args:
        images: Training images, as `mimia.load_images` takes them.
        recipe: How the model is trained: the name of a recipe, its settings as in the table ``recipe``, or a `Recipe`.
        defence: What protects the training images, beside defences of the recipe.
        validation: Images that the model does not learn from, for a defence that needs some, such as early stopping.
        seed: Seed of the model; default: the recipe's.
        store: Directory or fsspec URL where models are kept; default: the user's cache.

    Raises:
        MimiaError: The recipe does not fit the images or the defence, or validation images are missing.
    """
    try:
        if not isinstance(recipe, Recipe):
            recipe = Recipe.model_validate({"preset": recipe} if isinstance(recipe, str) else dict(recipe))
        recipe = recipe if defence is None else recipe.with_defence(defence)
    except ValidationError as error:
        raise MimiaError(f"The recipe is wrong. {explain(error)}") from error
    seed = recipe.seed if seed is None else seed
    if not 0 <= seed < 2**32:
        raise MimiaError(f"The seed is {seed}: pass one from 0 to 2³² − 1.")
    kept = Store(store or user_cache_path("mimia"))
    unseen = None if validation is None else load_images(validation, store=kept)
    loaded = load_images(images, store=kept)
    context = open_start(recipe, loaded, TrainingContext(ComputeSettings(), kept, validation=unseen))
    return native.load(pretrained(loaded, spec_for(loaded, recipe, context.start), recipe, seed, context))
