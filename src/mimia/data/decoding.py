"""The one way from an image to pixels, for members and non-members alike.

It is that of the official MAE's evaluation: `Image.convert("RGB")` (an alpha channel is dropped, an EXIF
orientation is not applied, because training did not see it either), the shorter side resized (bicubic), and the
centre cropped. Of images of other bands than grey and RGB, each band is resized and cropped so.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from mimia.config.sizes import height_and_width, sides
from mimia.data.array_bands import SUFFIX, array_image, open_npy
from mimia.data.bands import COLOURS, BandImage, DecodeError, Values, bands_to_pixels
from mimia.data.bit_depth import (
    bits_for,
    declared_bits,
    has_signed_bytes,
    is_deep_colour,
    is_deep_grey,
    largest_value,
    to_eight_bits,
    white_is_zero,
)
from mimia.data.tiff_bands import ALPHA_LEFT_OUT, is_tiff, tiff_image
from mimia.runtime.arrays import Pixels


class Unreadable(NamedTuple):
    """Stands for an image that its source cannot read, with the reason."""

    reason: str


ImageInput: TypeAlias = bytes | Path | Image.Image | Values | Unreadable
"""Content of an image file, its path, an image of Pillow's, or an array of one of bands; or why there is none."""

FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "JPEG2000", "AVIF", "PPM", "DIB", "ICO", "TGA"),
    *("QOI", "PCX", "SGI"),
    "NPY",
)
"""What is read, by Pillow's names, and NumPy's arrays: no format that another program draws, as EPS is. New ones go to
the end, because the store keeps their places."""


@cache
def readable_formats() -> tuple[str, ...]:
    """Return those of the formats that this machine's Pillow reads; the names of some of them go for others too."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


_LARGEST_SCALE = 2.0  # by which an image is enlarged


@contextmanager
def refuse_bombs() -> Iterator[None]:
    """Make Pillow raise, not warn, at an image of a decompression bomb's size, in all threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks about odd files
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def shorter_side(image: ImageInput, channels: int | None = None) -> int:
    """Return the length of the shorter side in pixels; only the header of a file is read.

    Args:
        image: An image.
        channels: Bands that are wanted, if that is known.

    Raises:
        DecodeError: It is no image, or one of a decompression bomb's size.
    """
    with open_image(image, channels) as opened:
        return min(opened.size)


class DecodedImage(NamedTuple):
    """Pixels, and what is not certain about them.

    Attributes:
        pixels: uint8, (C, H, W).
        largest: Largest value of a deep image whose file does not say how many bits it has; it was read as one of 16.
        remark: What a reader of the report has to know of how it was read.
    """

    pixels: Pixels
    largest: int | None = None
    remark: str | None = None


def decode(image: ImageInput, image_size: int | tuple[int, int], channels: int, bit_depth: int | None = None) -> Pixels:
    """Decode an image, scale it until it covers the size, and crop the centre.

    Args:
        image: Content of an image file, its path, an image of Pillow's, or an array of one of bands.
        image_size: Side of a square in pixels, or height and width.
        channels: 1 (grey), 3 (RGB), or the number of bands.
        bit_depth: Bits of the values of grey images of 16 or 32 bits; by default what the file says, or else 16.

    Returns:
        uint8, (C, H, W).

    Raises:
        DecodeError: It is broken, of a decompression bomb's size, less than half as large as wanted, of several pages,
            or its values do not fit the bits.
    """
    with open_image(image, channels) as opened:
        return to_pixels(opened, image_size, channels, bit_depth).pixels


def to_pixels(
    image: Image.Image | BandImage, image_size: int | tuple[int, int], channels: int, bit_depth: int | None = None
) -> DecodedImage:
    """Decode an opened image as `decode` does."""
    (width, height), wanted = image.size, height_and_width(image_size)
    if max(wanted[0] / height, wanted[1] / width) > _LARGEST_SCALE:
        raise DecodeError(f"too small: {width}×{height} pixels for a size of {sides(image_size)}")
    if isinstance(image, Image.Image):
        pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
        if pages > 1:
            raise DecodeError(f"a TIFF of {pages} pages: save each as a file of its own")
        if channels in COLOURS:
            return _colours_to_pixels(image, wanted, channels, bit_depth)
        image = _bands_of(image, channels)
    if image.bands != channels and not {image.bands, channels} <= set(COLOURS):
        raise DecodeError(f"bands: {image.bands}, where {channels} are wanted")
    values, largest = bands_to_pixels(image, bit_depth)
    if channels in COLOURS:
        return DecodedImage(_planes(_fit(_to_mode(to_image(values), channels), wanted)), largest, image.remark)
    fitted = [_planes(_fit(Image.fromarray(band), wanted)) for band in values]
    return DecodedImage(np.concatenate(fitted), largest, image.remark)


def _colours_to_pixels(
    image: Image.Image, wanted: tuple[int, int], channels: int, bit_depth: int | None
) -> DecodedImage:
    remark = ALPHA_LEFT_OUT if image.format == "TIFF" and "A" in image.getbands() else None
    eight_bit, largest = _to_eight_bits(image, bit_depth)
    _refuse_alpha_alone(eight_bit)
    return DecodedImage(_planes(_fit(_to_mode(eight_bit, channels), wanted)), largest, remark)


def _bands_of(image: Image.Image, channels: int) -> BandImage:
    """Return an image of Pillow's whose alpha channel counts as one of its bands."""
    bands = image.getbands()
    if len(bands) != channels or "A" not in bands:
        raise DecodeError(f"bands: {len(bands)}, where {channels} are wanted")
    return BandImage(image.size, channels, lambda: np.asarray(image).transpose(2, 0, 1))


def _planes(image: Image.Image) -> Pixels:
    """Return the pixels of a grey or RGB image, (C, H, W)."""
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def to_image(pixels: Pixels) -> Image.Image:
    """Return the image of pixels of 1 or 3 bands, uint8, (C, H, W); saved without loss, it decodes to the same."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


@contextmanager
def open_image(image: ImageInput, channels: int | None = None) -> Iterator[Image.Image | BandImage]:
    """Open an image for a block; only the header of a file is read. An image of Pillow's stays open afterwards.

    Args:
        image: An image.
        channels: Bands that are wanted, if that is known.

    Raises:
        DecodeError: It is no image, or one of a decompression bomb's size, or anything fails in the block.
    """
    try:
        if isinstance(image, Image.Image):
            yield image
            return
        with ExitStack() as stack:
            yield _header_of(image, channels, stack)
    except DecodeError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DecodeError("of a decompression bomb's size") from error
    except UnidentifiedImageError as error:
        raise DecodeError("not an image") from error
    # Pillow's decoders meet broken files with nearly every type of exception.
    except Exception as error:
        raise DecodeError(f"broken: {error}") from error


def _header_of(
    image: bytes | Path | Values | Unreadable, channels: int | None, stack: ExitStack
) -> Image.Image | BandImage:
    if isinstance(image, np.ndarray):
        return array_image(image, channels)
    place = _place_of(image)
    if isinstance(place, Path) and place.suffix.lower() == SUFFIX:
        return array_image(open_npy(place), channels, "NPY")
    file = stack.enter_context(place.open("rb")) if isinstance(place, Path) else place
    bands = tiff_image(file, channels) if is_tiff(file) else None
    return bands or stack.enter_context(Image.open(file, formats=readable_formats()))


def _place_of(image: bytes | Path | Unreadable) -> io.BytesIO | Path:
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
            values = to_eight_bits(np.asarray(image), bits or bits_for(largest), inverted=white_is_zero(image))
            return Image.fromarray(values), largest
        except ValueError as error:
            raise DecodeError(str(error)) from error
    if bits not in (None, 16):
        raise DecodeError(f"in colours of {bits} bits stored as 16, of which only the upper 8 are read: convert it")
    return image, largest


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


def _fit(image: Image.Image, wanted: tuple[int, int]) -> Image.Image:
    width, height = image.size
    scale = max(wanted[0] / height, wanted[1] / width)
    if scale != 1:
        width, height = max(wanted[1], round(width * scale)), max(wanted[0], round(height * scale))
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - wanted[1]) // 2, (height - wanted[0]) // 2
    return image.crop((left, top, left + wanted[1], top + wanted[0]))
