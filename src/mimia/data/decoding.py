"""The one way from an image to pixels, for members and non-members alike.

It is that of the official MAE's evaluation: `Image.convert("RGB")` (an alpha channel is dropped, an EXIF
orientation is not applied, because training did not see it either), the shorter side resized (bicubic), and the
centre cropped.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from mimia.config.sizes import height_and_width, sides
from mimia.data.bit_depth import (
    declared_bits,
    has_signed_bytes,
    is_deep_colour,
    is_deep_grey,
    largest_value,
    to_eight_bits,
    white_is_zero,
)
from mimia.runtime.arrays import Pixels


class Unreadable(NamedTuple):
    """Stands for an image that its source cannot read, with the reason."""

    reason: str


ImageInput: TypeAlias = bytes | Path | Image.Image | Unreadable
"""Content of an image file, its path, or an image of Pillow's; or why there is none."""

FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "JPEG2000", "AVIF", "PPM", "DIB", "ICO", "TGA"),
    *("QOI", "PCX", "SGI"),
)
"""What is read, by Pillow's names: no format that another program draws, as EPS is. New ones go to the end, because the
store keeps their places."""


@cache
def readable_formats() -> tuple[str, ...]:
    """Return those of the formats that this machine's Pillow reads; the names of some of them go for others too."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


_LARGEST_SCALE = 2.0  # by which an image is enlarged


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


class DecodedImage(NamedTuple):
    """Pixels, and what is not certain about them.

    Attributes:
        pixels: uint8, (C, H, W).
        largest: Largest value of a deep image whose file does not say how many bits it has; it was read as one of 16.
    """

    pixels: Pixels
    largest: int | None = None


def decode(image: ImageInput, image_size: int | tuple[int, int], channels: int, bit_depth: int | None = None) -> Pixels:
    """Decode an image, scale it until it covers the size, and crop the centre.

    Args:
        image: Content of an image file, its path, or an image of Pillow's.
        image_size: Side of a square in pixels, or height and width.
        channels: 1 (grey) or 3 (RGB).
        bit_depth: Bits of the values of grey images of 16 or 32 bits; by default what the file says, or else 16.

    Returns:
        uint8, (C, H, W).

    Raises:
        DecodeError: It is broken, of a decompression bomb's size, less than half as large as wanted, of several pages,
            or its values do not fit the bits.
    """
    with open_image(image) as opened:
        return to_pixels(opened, image_size, channels, bit_depth).pixels


def to_pixels(
    image: Image.Image, image_size: int | tuple[int, int], channels: int, bit_depth: int | None = None
) -> DecodedImage:
    """Decode an opened image as `decode` does."""
    (width, height), wanted = image.size, height_and_width(image_size)
    if _scale(image, wanted) > _LARGEST_SCALE:
        raise DecodeError(f"too small: {width}×{height} pixels for a size of {sides(image_size)}")
    pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
    if pages > 1:
        raise DecodeError(f"a TIFF of {pages} pages: save each as a file of its own")
    eight_bit, largest = _to_eight_bits(image, bit_depth)
    _refuse_alpha_alone(eight_bit)
    pixels = np.asarray(_fit(_to_mode(eight_bit, channels), wanted))
    return DecodedImage(pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1)), largest)


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
        with Image.open(_file_of(image), formats=readable_formats()) as opened:
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


def _file_of(image: bytes | Path | Unreadable) -> io.BytesIO | Path:
    """Return what is read; not a pipe, for which it could wait for ever, or a device, which may never end."""
    if isinstance(image, bytes):
        return io.BytesIO(image)
    if isinstance(image, Unreadable):
        raise DecodeError(image.reason)
    if not image.is_file():
        raise DecodeError("not a regular file" if image.exists() else "a file that does not exist")
    return image


def _to_eight_bits(image: Image.Image, bit_depth: int | None) -> tuple[Image.Image, int | None]:
    """Return the image with eight bits a value, and its largest value if nobody says how many it has."""
    if has_signed_bytes(image):
        raise DecodeError("pixels are signed numbers, of which it is not known what is black")
    grey, colour = is_deep_grey(image), is_deep_colour(image)
    if not (grey or colour):
        return image, None
    bits = bit_depth or declared_bits(image)
    image.load()
    largest = None if bits else largest_value(image, colour=colour)
    if grey:
        try:
            return to_eight_bits(image, bits or _bits_for(largest), inverted=white_is_zero(image)), largest
        except ValueError as error:
            raise DecodeError(str(error)) from error
    if bits not in (None, 16):
        raise DecodeError(f"in colours of {bits} bits stored as 16, of which only the upper 8 are read: convert it")
    return image, largest


def _bits_for(largest: int | None) -> int:
    return 16 if largest is None or largest < 1 << 16 else 32


def _refuse_alpha_alone(image: Image.Image) -> None:
    """Raise if the alpha channel, which is dropped, has all that an image shows."""
    if image.mode not in ("RGBA", "LA"):
        return
    lowest, highest = np.array(image.getextrema()).T
    if lowest[-1] < highest[-1] and (lowest[:-1] == highest[:-1]).all():
        raise DecodeError("one colour, its picture is in the alpha channel: put it on a background")


def _to_mode(image: Image.Image, channels: int) -> Image.Image:
    if image.mode == "F":
        raise DecodeError("pixels are floating-point numbers without a known range")
    return image.convert("L" if channels == 1 else "RGB")


def _scale(image: Image.Image, wanted: tuple[int, int]) -> float:
    """Return the factor by which an image just covers a height and width."""
    return max(wanted[0] / image.height, wanted[1] / image.width)


def _fit(image: Image.Image, wanted: tuple[int, int]) -> Image.Image:
    width, height = image.size
    scale = _scale(image, wanted)
    if scale != 1:
        width, height = max(wanted[1], round(width * scale)), max(wanted[0], round(height * scale))
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - wanted[1]) // 2, (height - wanted[0]) // 2
    return image.crop((left, top, left + wanted[1], top + wanted[0]))
