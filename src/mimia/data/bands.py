"""Images of any number of bands, as satellites and microscopes make them, and how their values become eight bits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mimia.data.bit_depth import bits_for, to_eight_bits
from mimia.runtime.arrays import Pixels

Values: TypeAlias = NDArray[Any]
"""Numbers of an image as its file has them: integers of any depth, or floating-point."""
MOST_BANDS = 256
COLOURS = (1, 3)
"""Numbers of bands that are grey or RGB, and are converted to one another."""
_VALUES_OF_A_PIXEL = 3  # Pillow's limit for decompression bombs counts pixels


class DecodeError(Exception):
    """Why an image cannot be used."""


@dataclass(frozen=True)
class BandImage:
    """An image of any number of bands, of which the header is read.

    Attributes:
        size: Width and height, in Pillow's order.
        bands: Number of bands.
        read: Returns the values, (C, H, W).
        bits: Bits of integers of more than eight, if the file says so.
        inverted: Whether the smallest value is white.
        no_data: The value in all bands of a pixel without data, if the file names one.
        remark: What a reader of the report has to know of how it is read.
        format: Name of the file format; empty for an image in memory.
        tags: Number of the file's tags.
        icc_bytes: Bytes of its ICC profile.
    """

    size: tuple[int, int]
    bands: int
    read: Callable[[], Values]
    bits: int | None = None
    inverted: bool = False
    no_data: float | None = None
    remark: str | None = None
    format: str = ""
    tags: int = 0
    icc_bytes: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.bands <= MOST_BANDS:
            raise DecodeError(f"{self.bands:,} bands, and from 1 to {MOST_BANDS} are read")
        values, limit = self.bands * self.size[0] * self.size[1], Image.MAX_IMAGE_PIXELS
        if limit is not None and values > _VALUES_OF_A_PIXEL * limit:
            raise DecodeError("of a decompression bomb's size")


def bands_to_pixels(image: BandImage, bit_depth: int | None) -> tuple[Pixels, int | None]:
    """Return the values of an image with eight bits each, and its largest value if nobody says how many it has.

    Integers of more bits keep their upper eight, as grey images of 16 bits do. Floating-point values from 0 to 1 are
    rounded to the nearest of the 256.

    Raises:
        DecodeError: Some pixels have no data, or the values are signed, infinite, out of range, or of no such type.
    """
    values = image.read()
    if image.no_data is not None and (values == image.no_data).all(axis=0).any():
        raise DecodeError(f"pixels without data (all bands are {image.no_data:g}): fill them or cut them off")
    if values.dtype == np.uint8:
        return np.invert(values) if image.inverted else values, None
    if values.dtype.kind == "f":
        return _from_floats(values, inverted=image.inverted), None
    if values.dtype.kind not in "iu" or values.dtype.itemsize == 1:
        raise DecodeError(f"values of type {values.dtype}, of which it is not known what is black")
    bits = bit_depth or image.bits
    largest = None if bits else int(values.max())
    try:
        deep = bits or bits_for(largest)
        return np.stack([to_eight_bits(band, deep, inverted=image.inverted) for band in values]), largest
    except ValueError as error:
        raise DecodeError(str(error)) from error


def _from_floats(values: Values, *, inverted: bool) -> Pixels:
    if not np.isfinite(values).all():
        raise DecodeError("values that are not finite (NaN, infinity): fill them or cut them off")
    lowest, highest = values.min(), values.max()
    if lowest < 0 or highest > 1:
        raise DecodeError(f"floating-point values from {lowest:g} to {highest:g}, not from 0 to 1: scale them")
    scaled: Pixels = np.rint(values.astype(np.float64) * 255).astype(np.uint8)
    return np.invert(scaled) if inverted else scaled
