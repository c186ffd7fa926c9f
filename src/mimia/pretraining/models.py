"""Models in the store: the same settings never train twice, another setting never reuses."""

from functools import partial
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from mimia.config import ComputeSettings, Recipe
from mimia.encoders.base import ModelSpec
from mimia.encoders.checkpoints import native
from mimia.encoders.mae import SIZES
from mimia.errors import MimiaError
from mimia.images.imageset import ImageSet
from mimia.pretraining.loop import train
from mimia.seeds import derived_seed
from mimia.splits import Split
from mimia.store import Store

_CHUNK = 4096
_LOOP = 2  # raised when a change of `loop` makes other weights of the same settings


def pretrained(
    images: ImageSet,
    spec: ModelSpec,
    recipe: Recipe,
    seed: int,
    compute: ComputeSettings,
    store: Store,
    description: str = "pre-training",
) -> Path:
    """Give the checkpoint directory of a model; pre-train it first if the store does not have it.

    Args:
        images: What it is trained on.
        spec: Image size, masking, pixel statistics and target space.
        recipe: How it is trained.
        seed: Seed of this model.
        compute: Device and precision; the precision is part of the model's name, the device is not.
        store: Where it is kept.
        description: For the progress bar.
    """
    settings = {
        "spec": spec.model_dump(mode="json"),
        "architecture": SIZES[recipe.size].model_dump(),
        "recipe": recipe.model_dump(mode="json", exclude={"preset", "seed"}),
        "seed": seed,
        "images": images.fingerprint,
        "precision": compute.precision,
        "loop": _LOOP,
    }
    build = partial(_build, images, spec, recipe, seed, compute, description)
    return store.make("models", settings, build)


def pretrained_shadows(
    images: ImageSet,
    split: Split,
    spec: ModelSpec,
    recipe: Recipe,
    compute: ComputeSettings,
    store: Store,
) -> list[Path]:
    """Pre-train the shadows of a split as the target was, each on its own half of the pool."""
    shadows = len(split.membership)
    return [
        pretrained(
            images.take(split.training_rows(shadow)),
            spec,
            recipe,
            derived_seed(recipe.seed, "shadow", shadow),
            compute,
            store,
            f"shadow {shadow + 1} of {shadows}",
        )
        for shadow in range(shadows)
    ]


def spec_for(images: ImageSet, recipe: Recipe) -> ModelSpec:
    """Give what a recipe makes of some images; the pixel statistics are those of the images.

    Raises:
        MimiaError: The patches do not fit the images.
    """
    _, channels, size, _ = images.pixels.shape
    mean, std = pixel_statistics(images)
    try:
        return ModelSpec(
            image_size=size,
            channels=channels,
            patch_size=recipe.patch_size,
            mask_ratio=recipe.mask_ratio,
            target_space="patch-normalised" if recipe.patch_normalised else "normalised",
            mean=mean,
            std=std,
        )
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


def _build(
    images: ImageSet,
    spec: ModelSpec,
    recipe: Recipe,
    seed: int,
    compute: ComputeSettings,
    description: str,
    work: Path,
) -> None:
    state = work / "training"
    state.mkdir(exist_ok=True)
    model, training = train(images, spec, recipe, seed, compute, state, description)
    native.save(work, model, training)
    for file in state.iterdir():
        file.unlink()
    state.rmdir()
