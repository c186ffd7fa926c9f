"""Vectors of images that a function or an endpoint gave, and what is wrong with them."""

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mimia.runtime.arrays import Floats
from mimia.runtime.errors import MimiaError
from mimia.runtime.text import shortened

WIDEST = 65_536
"""Numbers of a vector at most."""
_LARGEST = 1e15  # of a number: squares of more do not fit into float32, with which vectors are compared
_SMALLEST = 1e-15
_SAME = 1e-6  # relative: what rounding in float32 may do
_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 4096  # bytes; NumPy writes 128


def read_vectors(read: Callable[[int], bytes], rows: int, name: str) -> Floats:
    """Read a ``.npy`` file of vectors, and no more of it than so many rows can have.

    Args:
        read: Returns the next bytes of the file: fewer than asked for only at its end.
        rows: Number of vectors.
        name: What errors call the place that it comes from.

    Raises:
        MimiaError: It is no such file, or has another number of rows.

    >>> file = io.BytesIO()
    >>> np.save(file, np.eye(2, 3))
    >>> read_vectors(io.BytesIO(file.getvalue()).read, 2, "a file").shape
    (2, 3)
    """
    shape, dtype, fortran = _header(read, name)
    if len(shape) != 2 or shape[0] != rows or dtype.kind != "f" or dtype.itemsize > 8:
        raise MimiaError(
            f"{name} returned an array of the shape {_shape_text(shape)} and type {shortened(str(dtype), 40)} for "
            f"{rows} images: it must return one row of floating-point numbers an image."
        )
    _check_width(shape[1], name)
    wanted = math.prod(shape) * dtype.itemsize
    content = read(wanted)
    if len(content) < wanted or read(1):
        length = "shorter" if len(content) < wanted else "longer"
        raise MimiaError(f"{name} gives a .npy file that is {length} than its header says: see how it is written.")
    found = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
    vectors: Floats = found.astype(np.float64 if dtype.itemsize == 8 else np.float32)
    return vectors


def _header(read: Callable[[int], bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    start = read(len(_MAGIC) + 2)
    is_first = start[len(_MAGIC) :] == b"\x01\x00"  # version, which says how the length is written
    length = read(2 if is_first else 4)
    size = int.from_bytes(length, "little")
    text = io.BytesIO(length + read(min(size, _LONGEST_HEADER)))
    parse = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
    if not start.startswith(_MAGIC) or size > _LONGEST_HEADER:
        raise MimiaError(f"{name} answers with something that is no .npy file of vectors: use numpy.save.")
    try:
        shape, fortran, dtype = parse(text)
    except Exception as error:  # a header can be wrong in any way
        raise MimiaError(f"{name} answers with something that is no .npy file of vectors: use numpy.save.") from error
    return shape, dtype, fortran


def check_vectors(vectors: Any, rows: int, before: int | None, name: str) -> Floats:
    """Return vectors if they are one finite row of numbers for each image, of the same length each time.

    Args:
        vectors: What a function returned.
        rows: Number of images.
        before: Length of the vectors that it returned before, if it did.
        name: What errors call it.

    Raises:
        MimiaError: They are not, or are too large to be compared, or all zero.
    """
    try:
        found = np.asarray(vectors)
    except Exception as error:  # such as of lists of different lengths
        raise MimiaError(
            f"{name} returned a {type(vectors).__name__} that is no array: return a NumPy array."
        ) from error
    if found.ndim != 2 or len(found) != rows or found.dtype.kind != "f":
        raise MimiaError(
            f"{name} returned an array of the shape {_shape_text(found.shape)} and type {found.dtype} for {rows} "
            "images: it must return one row of floating-point numbers an image."
        )
    _check_width(found.shape[1], name)
    if before not in (None, found.shape[1]):
        raise MimiaError(
            f"{name} returned vectors of {found.shape[1]:,} numbers, and of {before:,} before: all must be of one "
            "length."
        )
    if not np.isfinite(found).all():
        raise MimiaError(f"{name} returned numbers that are not finite: see that it takes pixels from 0 to 255.")
    largest = float(np.abs(found).max())
    if largest > _LARGEST:
        raise MimiaError(
            f"{name} returned numbers as large as {largest:.3g}, which cannot be compared: scale them down."
        )
    if largest < _SMALLEST:
        raise MimiaError(f"{name} returned vectors of zeros alone: see that it runs the model.")
    return found


def check_variety(values: Floats, what: str) -> None:
    """Raise if the values of different images do not differ, from which nothing can be learned.

    Args:
        values: (images, numbers).
        what: Gave them, for a person.

    Raises:
        MimiaError: They do not, up to rounding in float32.
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return
    if (np.ptp(values, axis=0) <= _SAME * np.abs(values).max()).all():
        raise MimiaError(
            f"{what} the same for all of {len(values):,} different images, so that nothing can be learned: see that it "
            "runs the model on what it is given."
        )


def _check_width(width: int, name: str) -> None:
    if not 1 <= width <= WIDEST:
        raise MimiaError(f"{name} returned vectors of {_size_text(width)} numbers: from 1 to {WIDEST:,} work.")


def _shape_text(shape: tuple[Any, ...]) -> str:
    """Write a shape; of numbers without end, a part."""
    shown = ", ".join(map(_size_text, shape[:5]))
    return f"({shown}{', …' if len(shape) > 5 else ''})"


def _size_text(size: int) -> str:
    return str(size) if abs(size) < 10**12 else "more than 10¹²"
