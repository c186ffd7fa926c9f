"""The numbers of tensors in a file of torch, mapped into memory: nothing is read before it is used."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, UntypedStorage

from mimia.models.checkpoints.names import Named
from mimia.models.checkpoints.pickles import DamagedError, Stored

_DTYPES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexDouble": torch.complex128,
    "ComplexFloat": torch.complex64,
    "Untyped": torch.uint8,
}
_MOST_DIMENSIONS = 16

Place = tuple[int, int] | bytes
"""Where numbers stand in the file, first byte and length; or the bytes, if they are packed there."""


class Storages:
    """The numbers of a file by their keys.

    Args:
        path: The file.
        places: Where the numbers of each key stand.
    """

    def __init__(self, path: Path, places: Mapping[str, Place]) -> None:
        self._file = UntypedStorage.from_file(str(path), False, path.stat().st_size)
        self._places = places
        self._found: dict[tuple[str, int], UntypedStorage] = {}

    def tensor(self, stored: Any, offset: Any, shape: tuple[Any, Any], dtype: torch.dtype | None) -> Tensor:
        """Return the tensor that a pickle describes.

        Args:
            stored: Which numbers it is of.
            offset: How many of them come before it.
            shape: Its sizes and strides.
            dtype: Its type, where that is not the type of the numbers.

        Raises:
            DamagedError: The numbers are not there, or too few.
        """
        key, of_numbers, count, before = described(stored)
        size, stride = shape
        paired = isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= _MOST_DIMENSIONS
        numbers = (offset, before, count, *size, *stride) if paired else (None,)
        if not all(isinstance(each, int) and each >= 0 for each in numbers):
            raise DamagedError("a tensor has a shape that is none")
        length = count * of_numbers.itemsize
        dtype = dtype or of_numbers
        offset += before
        last = offset + sum((each - 1) * step for each, step in zip(size, stride, strict=True))
        if 0 not in size and (last + 1) * dtype.itemsize > length:
            raise DamagedError("a tensor has more values than numbers")
        return torch.empty(0, dtype=dtype).set_(self._numbers(key, length, dtype.itemsize), offset, size, stride)

    def _numbers(self, key: str, length: int, alignment: int) -> UntypedStorage:
        if (key, length) not in self._found:
            self._found[key, length] = self._read(self._places[key], length, alignment)
        return self._found[key, length]

    def _read(self, place: Place, length: int, alignment: int) -> UntypedStorage:
        available = len(place) if isinstance(place, bytes) else place[1]
        if length > available:
            raise DamagedError("the numbers of a tensor are cut off")
        if length == 0:
            return torch.empty(0).untyped_storage()
        if isinstance(place, bytes):
            return torch.frombuffer(bytearray(place[:length]), dtype=torch.uint8).untyped_storage()
        numbers: UntypedStorage = self._file[place[0] : place[0] + length]
        if place[0] % alignment == 0:
            return numbers
        return torch.empty(0, dtype=torch.uint8).set_(numbers).clone().untyped_storage()


def described(stored: object) -> tuple[str, torch.dtype, Any, Any]:
    """Return the key, type and count of the numbers that a pickle refers to, and how many of them come before its own.

    Raises:
        DamagedError: It refers to something else.
    """
    match stored:
        case Stored(id=("storage", Named(name=name), key, _, count, *view)):
            before = view[0][1] if view and isinstance(view[0], tuple) else 0  # of torch before 0.4
            return str(key), _DTYPES[name.removesuffix("Storage")], count, before
    raise DamagedError("a tensor is of no numbers that are known")


def lengths(references: Iterable[Stored]) -> dict[str, int]:
    """Return the number of bytes of one number of each key."""
    return {key: dtype.itemsize for key, dtype, *_ in map(described, references)}
