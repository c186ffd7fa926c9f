"""Files of torch before torch reads them: what would take memory or time without end is refused."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from mimia.runtime.errors import MimiaError
from mimia.runtime.text import shortened

GIBIBYTE = 1 << 30
_LARGEST_FILE = 32 * GIBIBYTE
_LARGEST_PICKLE = 32 << 20  # bytes; that of a ViT-Huge with its optimiser has half of one MiB
_MOST_STEPS = 5_000_000  # of a pickle that stands at the start of a file
_MOST_WEIGHTS = 20_000
_MOST_NUMBERS = 3 * 10**9  # a ViT-Huge with its decoder has 0.66
_TYPES = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
}


def refuse_large_file(path: Path) -> None:
    """Raise if a file is larger than any checkpoint that mimia takes.

    Raises:
        MimiaError: It is.
    """
    size = path.stat().st_size
    if size > _LARGEST_FILE:
        raise MimiaError(
            f"{path} has {size / GIBIBYTE:,.0f} GiB, and {_LARGEST_FILE // GIBIBYTE} are the most: save the weights "
            "alone."
        )


def refuse_bomb(path: Path) -> None:
    """Raise if a zip archive of torch would grow when it is read.

    Raises:
        MimiaError: Its members are larger than the file, or its pickle is larger than one of weights.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise MimiaError(f"{path} is damaged or cut off: copy it again.") from error
    if sum(member.file_size for member in members) > 4 * path.stat().st_size:
        raise MimiaError(f"{path} is much larger unpacked than packed, as no checkpoint is: it is not opened.")
    if any(member.file_size > _LARGEST_PICKLE for member in members if member.filename.endswith(".pkl")):
        raise MimiaError(
            f"{path} has more than {_LARGEST_PICKLE >> 20} MiB beside its weights: save the weights alone, with "
            "torch.save(model.state_dict(), path)."
        )


class BoundedFile:
    """A file whose pickle may have a bounded number of steps; each reads one byte first."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._steps = 0

    def read(self, size: int = -1) -> bytes:
        """Read bytes.

        Raises:
            ValueError: There were too many reads.
        """
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise ValueError("the pickle has too many steps")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def check_weights(weights: Mapping[Any, Any], path: Path) -> None:
    """Raise if weights are not plain arrays of numbers with names, or are too many.

    Raises:
        MimiaError: They are not.
    """
    if len(weights) > _MOST_WEIGHTS:
        raise MimiaError(f"{path} holds {len(weights):,} weights, and {_MOST_WEIGHTS:,} are the most.")
    total = 0
    for name, value in weights.items():
        if not isinstance(name, str):
            raise MimiaError(
                f"{path} names a weight by a {type(name).__name__} and not by a text: save model.state_dict()."
            )
        reason = _oddity(value)
        if reason:
            raise MimiaError(f"{path}: {shortened(name)} {reason}: save the weights as ordinary tensors.")
        total += value.numel()
    if total > _MOST_NUMBERS:
        raise MimiaError(f"{path} holds {total:,} numbers in its weights, and {_MOST_NUMBERS:,} are the most.")


def _oddity(value: object) -> str:
    """Return why a value is no plain array of numbers, or an empty text."""
    if type(value) not in (Tensor, nn.Parameter):
        return f"is a {type(value).__name__}"
    assert isinstance(value, Tensor)
    if value.layout != torch.strided or value.is_quantized or value.dtype not in _TYPES:
        return f"is of type {value.dtype} and layout {value.layout}"
    if value.device.type == "meta":
        return "has a shape, but no numbers"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return f"has the shape {shortened(str(tuple(value.shape)))}, but fewer numbers"
    return ""
