"""What stands in other people's files, as nothing but data: no code in a file runs.

A ``.pth`` file is a pickle, and a pickle can run code. It is read here as a description (`pickles`): nothing that it
names is imported or called, and a file that names what could run code (`names`) is refused.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mimia.models.checkpoints.archive import read_legacy, read_zip, refuse_large_file
from mimia.models.checkpoints.foreign import kind_of
from mimia.models.checkpoints.names import ForbiddenNameError
from mimia.models.checkpoints.pickles import Made
from mimia.models.checkpoints.strict import in_short
from mimia.runtime.errors import MimiaError
from mimia.runtime.text import shortened

MOST_WEIGHTS = 20_000
_MOST_NUMBERS = 3 * 10**9  # a ViT-Huge with its decoder has 0.66
_TYPES = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
}


@dataclass(frozen=True)
class Contents:
    """Weights in a file.

    Attributes:
        path: The file.
        state: The weights, under the names that the file gives them, without what wraps them; mapped, not copied, where
            the format allows it.
        beside: What else stands in the file, such as the arguments of the training, as plain values.
    """

    path: Path
    state: dict[str, Tensor]
    beside: Mapping[str, Any]


def read_contents(path: Path) -> Contents:
    """Read a file with one dictionary of weights, as those in directories are.

    Raises:
        MimiaError: It has none or several, or as for `read_values`.
    """
    values = read_values(path)
    if not isinstance(values, dict):
        raise no_weights(path)
    tables = [table for table in (values, *values.values()) if _is_state(table)]
    if len(tables) != 1:
        raise no_weights(path)
    state = tables[0]
    check_weights(state, path)
    beside = {
        key: value
        for key, value in values.items()
        if isinstance(key, str) and not isinstance(value, Tensor) and value is not state
    }
    return Contents(path, _without_common_prefix(state), beside)


def _is_state(table: object) -> bool:
    return isinstance(table, dict) and bool(table) and all(isinstance(value, Tensor) for value in table.values())


def _without_common_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights without what data parallelism and torch.compile put before every name."""
    first = next(iter(state)).partition(".")[0] + "."
    if len(state) == 1 or not all(name.startswith(first) for name in state):
        return state
    return _without_common_prefix({name.removeprefix(first): value for name, value in state.items()})


def no_weights(path: Path) -> MimiaError:
    """Return the error of a file without weights."""
    return MimiaError(
        f"{path} holds no weights by name: save them with torch.save(model.state_dict(), path) and pass that file."
    )


def read_values(path: Path) -> object:
    """Return what stands in a file of safetensors or torch: dictionaries, lists, numbers, texts and tensors.

    Raises:
        MimiaError: It is damaged, or no checkpoint, or holds more than data.
    """
    refuse_large_file(path)
    if path.suffix == ".safetensors":
        return load_safetensors(path)
    with path.open("rb") as file:
        starts_as_zip = file.read(2) == b"PK"
    zipped = _is_zip(path)
    try:
        return read_zip(path) if zipped else read_legacy(path)
    except MimiaError:
        raise
    except ForbiddenNameError as error:
        raise MimiaError(
            f"{path} holds {shortened(str(error), 40)}, which is no data and could run code, and is not opened: save "
            "the weights alone, with torch.save(model.state_dict(), path)."
        ) from error
    except Exception as error:  # a damaged file can fail in any way
        kind = kind_of(path)
        if zipped:
            mend = "pass the .pth, .pt, .bin or .safetensors file itself, or copy it again if it is damaged"
            reason = f"is a zip archive, but no checkpoint: {f'it is {kind}' if kind else mend}"
        elif starts_as_zip:
            reason = "is damaged or cut off: copy it again"
        else:
            mend = "or is damaged: pass a file of weights"
            reason = f"is no checkpoint that torch or safetensors wrote, {f'but {kind}' if kind else mend}"
        raise MimiaError(f"{path} {reason}.") from error


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the weights of a file of safetensors, mapped into memory.

    Raises:
        MimiaError: It is damaged, too large, or holds something else than plain weights.
    """
    refuse_large_file(path)
    try:
        weights = load_file(path)
    except Exception as error:  # a damaged file can fail in any way
        raise MimiaError(f"{path} is damaged or no file of safetensors ({in_short(error)}): copy it again.") from error
    check_weights(weights, path)
    return weights


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # of an archive in several parts
        return False


def check_weights(weights: Mapping[Any, Any], path: Path) -> None:
    """Raise if weights are not plain arrays of numbers with names, or are too many.

    Raises:
        MimiaError: They are not.
    """
    if len(weights) > MOST_WEIGHTS:
        raise MimiaError(f"{path} holds {len(weights):,} weights, and {MOST_WEIGHTS:,} are the most.")
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
        return f"is a {shortened(str(value.by), 60) if isinstance(value, Made) else type(value).__name__}"
    assert isinstance(value, Tensor)
    if value.layout != torch.strided or value.is_quantized or value.dtype not in _TYPES:
        return f"is of type {value.dtype} and layout {value.layout}"
    if value.device.type == "meta":
        return "has a shape, but no numbers"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return f"has the shape {shortened(str(tuple(value.shape)))}, but fewer numbers"
    return ""
