"""Canaries: images that are planted among the training images, each with probability ½."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from mimia.config.image_settings import CanaryKind
from mimia.data.bands import COLOURS
from mimia.data.decoding import to_image
from mimia.data.imageset import ImageSet
from mimia.data.tiff_bands import write_tiff
from mimia.runtime.arrays import Pixels, content_id
from mimia.runtime.errors import MimiaError

INCLUDED, EXCLUDED = "included", "excluded"
"""Folders of the canaries that were trained on and of the others."""


def make_canaries(images: ImageSet, kind: CanaryKind, patch_size: int, seed: int) -> ImageSet:
    """Make a canary of each image, with the same name and facts.

    Args:
        images: Ordinary images.
        kind: ``image``: unchanged; ``noise``: the mean of the image and of uniform noise, drawn for each;
            ``patches``: the patches of each in a random order.
        patch_size: Side of a patch in pixels.
        seed: Seed of the noise and of the orders.

    Raises:
        MimiaError: The patches do not fit the images.
    """
    if kind == "image":
        return images
    generator = np.random.default_rng(seed)
    if kind == "noise":
        pixels = _with_noise(images.pixels, generator)
    else:
        pixels = _shuffled(images.pixels, patch_size, generator)
    return replace(images, pixels=pixels, ids=np.array([content_id(canary) for canary in pixels], dtype=np.str_))


def canary_suffix(channels: int) -> str:
    """Return the suffix of the files of canaries: PNG for grey and RGB, TIFF for other bands."""
    return ".png" if channels in COLOURS else ".tif"


def save_canary(pixels: Pixels, path: Path) -> None:
    """Write an image, uint8, (C, H, W), as a file that decodes to the same pixels."""
    if len(pixels) in COLOURS:
        to_image(pixels).save(path, "PNG")
    else:
        write_tiff(pixels, path)


def _with_noise(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    noise = generator.integers(0, 256, pixels.shape, dtype=np.uint16)
    return ((pixels + noise) // 2).astype(np.uint8)


def _shuffled(pixels: Pixels, patch_size: int, generator: np.random.Generator) -> Pixels:
    n, channels, height, width = pixels.shape
    if height % patch_size or width % patch_size:
        raise MimiaError(
            f"Patches of {patch_size} pixels do not fit images of {width}×{height}: choose a size that divides both."
        )
    rows, columns = height // patch_size, width // patch_size
    grid = pixels.reshape(n, channels, rows, patch_size, columns, patch_size).transpose(0, 2, 4, 1, 3, 5)
    patches = grid.reshape(n, rows * columns, channels, patch_size, patch_size)
    order = generator.permuted(np.tile(np.arange(rows * columns), (n, 1)), axis=1)
    mixed = patches[np.arange(n)[:, None], order].reshape(grid.shape).transpose(0, 3, 1, 4, 2, 5)
    return np.ascontiguousarray(mixed).reshape(pixels.shape)
