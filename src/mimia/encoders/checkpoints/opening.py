"""One way to open a model, whoever trained it: safely, strictly, and mapped into memory.

Layouts are told apart by what stands in a directory, or by the names of the weights in a file.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from mimia.config import CheckpointSettings
from mimia.encoders.base import Reconstructor
from mimia.encoders.checkpoints import (
    mmpretrain,
    native,
    official_mae,
    official_simmim,
    timm,
    transformers_mae,
    transformers_masked,
)
from mimia.encoders.checkpoints.hub import fetch, is_hub_name
from mimia.encoders.checkpoints.pretrained import Directory, read_json
from mimia.encoders.checkpoints.reading import Reading
from mimia.encoders.checkpoints.safe import Contents, read_contents
from mimia.encoders.checkpoints.strict import fill
from mimia.encoders.families import build
from mimia.errors import MimiaError

_Reader = Callable[[Contents, CheckpointSettings], Reading]
_LAYOUTS: dict[str, _Reader] = {  # by a name that only its files have
    r"backbone\.patch_embed\.projection\.": mmpretrain.read,
    r"encoder\.patch_embed\.proj\.": official_simmim.read,
    r"patch_embed\.proj\.": official_mae.read,
}
_OF_TRANSFORMERS = r"(\w+\.)?embeddings\.(patch_embeddings|position_embeddings)"


@dataclass(frozen=True)
class Opened:
    """A model, and how it was opened.

    Attributes:
        model: In evaluation mode, on the CPU.
        layout: What the checkpoint is, in words for a person.
        files: Its weights.
        assumed: What they do not say and was taken for granted, one sentence each.
        own: The directory, if it is one of mimia's own.
    """

    model: Reconstructor
    layout: str
    files: tuple[Path, ...]
    assumed: tuple[str, ...] = ()
    own: Path | None = None

    @property
    def access(self) -> Literal["decoder", "encoder"]:
        """How much of the model there is."""
        return "decoder" if self.model.has_decoder else "encoder"

    @cached_property
    def id(self) -> str:
        """Name of the model by its weights: SHA-256 of the file, or of all files one after the other."""
        digest = hashlib.sha256()
        for file in self.files:
            with file.open("rb") as content:
                hashlib.file_digest(content, lambda: digest)
        return digest.hexdigest()


def open_checkpoint(source: str | Path, given: CheckpointSettings | None = None) -> Opened:
    """Open a checkpoint of mimia, transformers, the official MAE or SimMIM, timm or mmpretrain.

    Args:
        source: A directory, a file, or a name on the hub.
        given: What the checkpoint does not say of itself; one of mimia's own says all.

    Raises:
        MimiaError: It cannot be found, is damaged, holds more than data, or is no masked image model that is known.
    """
    given = given or CheckpointSettings()
    path = Path(source).expanduser()
    if path.is_dir():
        return _open_directory(path, given)
    if path.is_file():
        return _finish(_read_file(path, given), (path,), path)
    if is_hub_name(path.as_posix()):
        return _open_directory(fetch(path.as_posix()), given)
    raise MimiaError(
        f"There is no checkpoint at {source}: pass a directory of mimia or transformers, a .pth or .safetensors file, "
        "or a name on the hub, such as facebook/vit-mae-base."
    )


def _open_directory(path: Path, given: CheckpointSettings) -> Opened:
    if not (path / native.CONFIG).is_file():
        raise MimiaError(
            f"{path} is no checkpoint: it has no {native.CONFIG}. Pass a directory that `mimia pretrain` or "
            "transformers wrote, or the file of the weights itself."
        )
    config = read_json(path / native.CONFIG)
    if config.get("format") == "mimia":
        unused = ("it says all of itself: the settings of [checkpoint] are not used",)
        assumed = () if given == CheckpointSettings() else unused
        return Opened(native.load(path), "mimia's own", (path / native.WEIGHTS,), assumed, own=path)
    directory = Directory(path, config)
    if "model_type" in config:
        files = tuple(directory.files())
        read = transformers_mae.read if config["model_type"] == "vit_mae" else transformers_masked.read
        return _finish(read(directory, given), files, path)
    if "architecture" in config:
        file = directory.files()[0]
        return _finish(timm.read(read_contents(file), config, given), (file,), path)
    raise MimiaError(
        f"{path / native.CONFIG} is of neither mimia nor transformers nor timm: pass the file of the weights itself."
    )


def _read_file(path: Path, given: CheckpointSettings) -> Reading:
    contents = read_contents(path)
    for telltale, read in _LAYOUTS.items():
        if any(re.match(telltale, name) for name in contents.state):
            return read(contents, given)
    if any(re.match(_OF_TRANSFORMERS, name) for name in contents.state):
        raise MimiaError(f"{path} holds weights of transformers, which need their config.json: pass their directory.")
    names = ", ".join(sorted(contents.state)[:3])
    raise MimiaError(
        f"{path} holds weights of no layout that is known (its first names are {names}): pass a checkpoint of the "
        "official MAE or SimMIM, timm, mmpretrain, transformers or mimia."
    )


def _finish(reading: Reading, files: tuple[Path, ...], path: Path) -> Opened:
    state, assumed = _as_float32(reading.state)
    model = build(reading.spec, reading.architecture)
    fill(model, state, f"{path} ({reading.layout})", "the rest of it")
    return Opened(model, reading.layout, files + reading.also, reading.assumed + assumed)


def _as_float32(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Bring weights to float32, in which everything is computed; what is float32 is not copied."""
    others = {value.dtype for value in state.values() if value.is_floating_point()} - {torch.float32}
    notes = tuple(f"weights are stored as {dtype} and computed with as torch.float32" for dtype in others)
    return {
        name: value.detach().float() if value.is_floating_point() else value for name, value in state.items()
    }, notes
