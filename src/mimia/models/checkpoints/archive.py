"""Files of torch before torch reads them: what would take memory or time without end is refused."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mimia.models.checkpoints.pickles import LARGEST, check_pickle, check_pickles
from mimia.runtime.errors import MimiaError
from mimia.runtime.text import shortened

GIBIBYTE = 1 << 30
_LARGEST_FILE = 32 * GIBIBYTE
_GROWTH = 4  # of an archive that is unpacked; torch packs nothing
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
    """Raise if a zip archive of torch would grow when it is read, or its pickle would take time without end.

    Raises:
        MimiaError: It would, or is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _refuse_growth(archive, path)
            for member in archive.infolist():
                if member.filename.endswith(".pkl"):
                    _refuse_endless_member(archive, member, path)
    except MimiaError:
        raise
    except Exception as error:  # a damaged file can fail in any way
        raise MimiaError(f"{path} is a zip archive, but no checkpoint, or is damaged: copy it again.") from error


def _refuse_growth(archive: zipfile.ZipFile, path: Path) -> None:
    if sum(member.file_size for member in archive.infolist()) > _GROWTH * path.stat().st_size:
        raise MimiaError(f"{path} is much larger unpacked than packed, as no checkpoint is: it is not opened.")


def _refuse_endless_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    if member.file_size > LARGEST:
        raise MimiaError(
            f"{path} has more than {LARGEST >> 20} MiB beside its weights: save the weights alone, with "
            "torch.save(model.state_dict(), path)."
        )
    check_pickle(archive.read(member))


def refuse_endless(path: Path) -> None:
    """Raise if the pickles at the start of a file, as torch wrote it before 1.6, would take time without end.

    Raises:
        MimiaError: They would, or there is none.
    """
    with path.open("rb") as file:
        content = file.read(LARGEST)
    try:
        check_pickles(content)
    except Exception as error:  # a damaged file can fail in any way
        raise MimiaError(
            f"{path} is no checkpoint that torch or safetensors wrote, or is damaged: pass a file of weights."
        ) from error


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
