"""How many bits the values of deep images have: 12 bits in files of 16, taken for 16, would be nearly black."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mimia.runtime.arrays import Pixels
from mimia.runtime.errors import MimiaError

DEEPEST = 32
"""Most bits of a value."""
_GREY = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_SCALED = ("PPM", "JPEG2000")  # Pillow scales their values to 16 bits
_LARGEST_VALUE, _PHOTOMETRIC, _SAMPLE_FORMAT, _SIGNED = 281, 262, 339, 2  # tags of a TIFF
_UPPER_BYTE = 257  # of 16 bits, which is all that Pillow reads of deep colours


def is_deep_grey(image: Image.Image) -> bool:
    """Return whether an image has grey values of 16 or 32 bits."""
    return image.mode in _GREY


def is_deep_colour(image: Image.Image) -> bool:
    """Return whether an image, not loaded yet, has colours of 16 bits, of which Pillow reads the upper eight."""
    return not is_deep_grey(image) and ";16" in _raw_mode(image)


def declared_bits(image: Image.Image) -> int | None:
    """Return how many bits a deep image's values have, if its file says so; it must not be loaded yet."""
    if image.format in _SCALED:
        return 16
    if ";12" in _raw_mode(image):
        return 12
    largest = getattr(image, "tag_v2", {}).get(_LARGEST_VALUE)
    return int(np.max(largest)).bit_length() if largest else None


def largest_value(image: Image.Image, *, colour: bool) -> int:
    """Return the largest value of a deep image on the scale of its file; ``colour`` is that of `is_deep_colour`."""
    opaque = len(image.getbands()) - ("A" in image.getbands())
    extrema = np.array(image.getextrema()).reshape(-1, 2)[:opaque]
    return int(extrema.max()) * (_UPPER_BYTE if colour else 1)


def has_signed_bytes(image: Image.Image) -> bool:
    """Return whether a TIFF says that its values of 8 bits are signed, which Pillow takes for unsigned ones."""
    return image.mode == "L" and _SIGNED in np.ravel(getattr(image, "tag_v2", {}).get(_SAMPLE_FORMAT, ()))


def white_is_zero(image: Image.Image) -> bool:
    """Return whether a TIFF says that its smallest value is white, which Pillow heeds for 8 bits or fewer alone."""
    return getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0


def bits_for(largest: int | None) -> int:
    """Return how many bits values are taken to have of which nobody says it."""
    return 16 if largest is None or largest < 1 << 16 else 32


def to_eight_bits(values: NDArray[Any], bits: int, *, inverted: bool = False) -> Pixels:
    """Return the upper eight bits of deep values, of the same shape.

    Raises:
        ValueError: A value does not fit into the bits.
    """
    values = values.astype(np.int64)
    if values.min() < 0 or values.max() >= 1 << bits:
        raise ValueError(f"has values from {values.min():,} to {values.max():,}, which are not of {bits} bits")
    values = (1 << bits) - 1 - values if inverted else values
    return (values >> (bits - 8) if bits >= 8 else values << (8 - bits)).astype(np.uint8)


def refuse_unknown_depth(name: str, largest: Sequence[int]) -> None:
    """Raise if the largest values of a source's deep images do not all show that they have 16 bits.

    Args:
        name: The source.
        largest: Of each deep image whose file does not say how many it has.

    Raises:
        MimiaError: One does not: a single bright pixel of another says nothing of it.
    """
    unclear = [value for value in largest if not 1 << 15 <= value < 1 << 16]
    if not unclear:
        return
    bits = max(8, max(unclear).bit_length())
    raise MimiaError(
        f"{name} has images of 16 or 32 bits whose values go up to {max(unclear):,}, and the files do not say which "
        f"value is white: pass --set data.bit_depth={bits} if it is {(1 << bits) - 1:,}, or 16 if it is 65,535."
    )


def _raw_mode(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None) or []
    return " ".join(str(tile[3]) for tile in tiles[:1])
