"""From images and a recipe to the specification of a model: masking, target space and pixel statistics."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mimia.config.recipes import Recipe
from mimia.data.channel_statistics import pixel_statistics
from mimia.data.imageset import ImageSet
from mimia.models.base import ModelSpec
from mimia.models.checkpoints import native
from mimia.models.registry import family_named
from mimia.runtime.errors import MimiaError

_PRIVATE_MEAN, _PRIVATE_STD = 0.5, 0.25  # of any images: statistics of the training images are not private


def spec_for(images: ImageSet, recipe: Recipe, start: Path | None = None) -> ModelSpec:
    """Return the specification of a model that a recipe trains on some images.

    The pixel statistics are those of the images. With differential privacy, which these would break, they are fixed.

    Args:
        images: Training images.
        recipe: How the model is trained.
        start: Checkpoint directory of the model that the training continues, which says all but the mask ratio.

    Raises:
        MimiaError: The patches do not fit the images.
    """
    if start is not None:
        return with_mask_ratio(native.load_config(start).spec, recipe.mask_ratio)
    _, channels, *size = images.pixels.shape
    if any(defence.private for defence in recipe.defences.values()):
        mean, std = (_PRIVATE_MEAN,) * channels, (_PRIVATE_STD,) * channels
    else:
        mean, std = pixel_statistics(images)
    family = family_named(recipe.family)
    return _valid(
        image_size=tuple(size),
        channels=channels,
        patch_size=recipe.patch_size,
        masking=family.masking,
        mask_ratio=recipe.mask_ratio,
        cell=recipe.cell,
        target_space="patch-normalised" if recipe.patch_normalised else family.target_space,
        mean=mean,
        std=std,
    )


def with_mask_ratio(spec: ModelSpec, mask_ratio: float) -> ModelSpec:
    """Return the same specification with another mask ratio.

    Raises:
        MimiaError: It leaves no patch visible, or none masked.
    """
    return _valid(**(spec.model_dump() | {"mask_ratio": mask_ratio}))


def _valid(**values: Any) -> ModelSpec:
    try:
        return ModelSpec.model_validate(values)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise MimiaError(f"The recipe does not fit the images: {reason}.") from error
