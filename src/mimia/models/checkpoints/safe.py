"""Weights out of other people's files, and nothing but data: no code in a file runs.

A ``.pth`` file is a pickle, and a pickle can run code. What is allowed in it is a short list of names: tensors, and
what official files carry beside them. Whatever else stands there, the file is refused.
"""

import argparse
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mimia.models.checkpoints.archive import check_weights, refuse_bomb, refuse_endless, refuse_large_file
from mimia.models.checkpoints.strict import in_short
from mimia.runtime.errors import MimiaError
from mimia.runtime.text import shortened

_NESTED = ("model", "state_dict")  # where files keep the weights, if not at the top
_WRAPPERS = ("module.", "_orig_mod.")  # what data parallelism and torch.compile put before every name


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        path: The file.
        state: Its weights, under the names that the file gives them; mapped, not copied, where the format allows it.
        beside: What else stands in the file, such as the arguments of the training.
    """

    path: Path
    state: dict[str, Tensor]
    beside: Mapping[str, Any]


class _Ignored:
    """Stands for a value that no one asks for, whatever a file says of it."""

    def __new__(cls, *_: object) -> "_Ignored":
        return object.__new__(cls)

    def __setstate__(self, _: object) -> None:
        """Take nothing over."""


_ALLOWED: list[Any] = [
    argparse.Namespace,  # arguments of the official MAE
    (OrderedDict, "yacs.config.CfgNode"),  # settings of the official SimMIM, a dictionary that needs yacs
    *(
        (_Ignored, name)  # scores, loss curves and folders
        for name in (
            "numpy.core.multiarray.scalar",
            "numpy._core.multiarray.scalar",
            "numpy.core.multiarray._reconstruct",
            "numpy._core.multiarray._reconstruct",
            "numpy.ndarray",
            "numpy.dtype",
            "pathlib.PosixPath",
            "pathlib._local.PosixPath",
            "mmengine.logging.history_buffer.HistoryBuffer",
        )
    ),
]


def read_contents(path: Path) -> Contents:
    """Read a file of safetensors or torch.

    Raises:
        MimiaError: It is damaged, or no checkpoint, or holds more than data.
    """
    refuse_large_file(path)
    if path.suffix == ".safetensors":
        return Contents(path, _without_wrappers(load_safetensors(path)), {})
    loaded = _load(path)
    state = _state(loaded)
    if state is None:
        raise MimiaError(
            f"{path} holds no weights by name: save them with torch.save(model.state_dict(), path) and pass that file."
        )
    assert isinstance(loaded, dict)
    check_weights(state, path)
    beside = {
        key: value
        for key, value in loaded.items()
        if isinstance(key, str) and not isinstance(value, Tensor) and value is not state
    }
    return Contents(path, _without_wrappers(state), beside)


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


def _load(path: Path) -> object:
    mapped = _is_zip(path)  # what torch wrote before 1.6 is no zip, and cannot be mapped
    if mapped:
        refuse_bomb(path)
    elif not _starts_as_zip(path):
        refuse_endless(path)
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a damaged file can fail in any way
        found = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if found:
            reason = (
                f"holds {shortened(found[1], 40)}, which is no data and could run code, and is not opened: save the "
                "weights alone, with torch.save(model.state_dict(), path)"
            )
        elif mapped:
            reason = "is a zip archive, but no checkpoint: pass the .pth, .pt, .bin or .safetensors file itself"
        elif _starts_as_zip(path):
            reason = "is damaged or cut off: copy it again"
        else:
            reason = "is no checkpoint that torch or safetensors wrote, or is damaged: pass a file of weights"
        raise MimiaError(f"{path} {reason}.") from error


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # of an archive in several parts
        return False


def _starts_as_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _state(loaded: object) -> dict[str, Tensor] | None:
    """Return the weights by name, under a usual key or at the top."""
    if not isinstance(loaded, dict):
        return None
    for candidate in (*(loaded.get(name) for name in _NESTED), loaded):
        if isinstance(candidate, dict) and candidate and all(isinstance(value, Tensor) for value in candidate.values()):
            return candidate
    return None


def _without_wrappers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    named = dict(state)
    for prefix in _WRAPPERS:
        if all(name.startswith(prefix) for name in named):
            named = {name.removeprefix(prefix): value for name, value in named.items()}
    return named
