"""What a recipe makes of some images: how they are masked, and the space in which a model predicts them."""

from typing import Any

import numpy as np
from pydantic import ValidationError

from mimia.encoders.base import ModelSpec, TargetSpace
from mimia.errors import MimiaError
from mimia.images.imageset import ImageSet
from mimia.masking import MaskKind
from mimia.recipes import Family, Recipe

_CHUNK = 4096
_OF_FAMILY: dict[Family, tuple[MaskKind, TargetSpace]] = {
    "mae": ("random", "normalised"),
    "simmim": ("cell", "normalised"),
    "swin": ("cell", "normalised"),
    "beit": ("blockwise", "tokens"),
}
_PRIVATE_MEAN, _PRIVATE_STD = 0.5, 0.25  # of any images: statistics of the training images are not private


def spec_for(images: ImageSet, recipe: Recipe) -> ModelSpec:
    """Give what a recipe makes of some images.

    The pixel statistics are those of the images, or fixed ones with differential privacy, which they would break.

    Raises:
        MimiaError: The patches do not fit the images.
    """
    _, channels, size, _ = images.pixels.shape
    if recipe.dp_epsilon is None:
        mean, std = pixel_statistics(images)
    else:
        mean, std = (_PRIVATE_MEAN,) * channels, (_PRIVATE_STD,) * channels
    masking, target_space = _OF_FAMILY[recipe.family]
    return _valid(
        image_size=size,
        channels=channels,
        patch_size=recipe.patch_size,
        masking=masking,
        mask_ratio=recipe.mask_ratio,
        cell=recipe.cell,
        target_space="patch-normalised" if recipe.patch_normalised else target_space,
        mean=mean,
        std=std,
    )


def with_mask_ratio(spec: ModelSpec, mask_ratio: float) -> ModelSpec:
    """Give the same with another mask ratio.

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


def pixel_statistics(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, raw pixels in [0, 1], from exact counts of the values."""
    channels = images.pixels.shape[1]
    counts = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(images), _CHUNK):
        chunk = images.pixels[start : start + _CHUNK]
        for channel in range(channels):
            counts[channel] += np.bincount(chunk[:, channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ values
    std = np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1))
    std = np.where(std > 0, std, 1.0)  # images of one colour
    return tuple(mean.tolist()), tuple(std.tolist())
