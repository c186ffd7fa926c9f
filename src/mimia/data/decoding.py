"""The one way from an image to pixels, for members and non-members alike.

It is that of the official MAE's evaluation: `Image.convert("RGB")` (an alpha channel is dropped, an EXIF
orientation is not applied, because training did not see it either), the shorter side resized (bicubic), and the
centre cropped.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from mimia.runtime.arrays import Pixels

ImageInput: TypeAlias = bytes | Path | Image.Image
"""Content of an image file, its path, or an image of Pillow's."""

_SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")


class DecodeError(Exception):
    """Why an image cannot be used."""


@contextmanager
def refuse_bombs() -> Iterator[None]:
    """Make Pillow raise, not warn, at an image of a decompression bomb's size, in all threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks about odd files
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def shorter_side(image: ImageInput) -> int:
    """Return the length of the shorter side in pixels; only the header of a file is read.

    Raises:
        DecodeError: It is no image, or one of a decompression bomb's size.
    """
    with open_image(image) as opened:
        return min(opened.size)


def decode(image: ImageInput, image_size: int, channels: int) -> Pixels:
    """Decode an image, scale its shorter side to the size, and crop the centre.

    Args:
        image: Content of an image file, its path, or an image of Pillow's.
        image_size: Height and width in pixels.
        channels: 1 (grey) or 3 (RGB).

    Returns:
        uint8, (C, H, W).

    Raises:
        DecodeError: It is broken, of a decompression bomb's size, or less than half as large as wanted.
    """
    with open_image(image) as opened:
        return to_pixels(opened, image_size, channels)


def to_pixels(image: Image.Image, image_size: int, channels: int) -> Pixels:
    """Return what `decode` does, of an opened image."""
    if 2 * min(image.size) < image_size:
        width, height = image.size
        raise DecodeError(f"too small: {width}×{height} pixels for a size of {image_size}")
    pixels = np.asarray(_fit(_to_mode(image, channels), image_size))
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def to_image(pixels: Pixels) -> Image.Image:
    """Return the image of pixels, uint8, (C, H, W); saved without loss, it decodes to the same pixels."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


@contextmanager
def open_image(image: ImageInput) -> Iterator[Image.Image]:
    """Open an image for a block; only the header of a file is read. An image of Pillow's stays open afterwards.

    Raises:
        DecodeError: It is no image, or one of a decompression bomb's size, or anything fails in the block.
    """
    try:
        if isinstance(image, Image.Image):
            yield image
            return
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
            yield opened
    except DecodeError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DecodeError("of a decompression bomb's size") from error
    except UnidentifiedImageError as error:
        raise DecodeError("not an image") from error
    # Pillow's decoders meet broken files with nearly every type of exception.
    except Exception as error:
        raise DecodeError(f"broken: {error}") from error


def _to_mode(image: Image.Image, channels: int) -> Image.Image:
    if image.mode in _SIXTEEN_BIT:
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode == "F":
        raise DecodeError("pixels are floating-point numbers without a known range")
    return image.convert("L" if channels == 1 else "RGB")


def _fit(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    if min(width, height) != size:
        scale = size / min(width, height)
        width, height = max(size, round(width * scale)), max(size, round(height * scale))
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))
