"""One way to load a model, whoever trained it: safely, strictly, and mapped into memory."""

import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias

import torch
from pydantic import ValidationError
from torch import Tensor

from mimia.config.settings import CheckpointSettings, DecoderSource
from mimia.models.base import MaskedImageModel
from mimia.models.checkpoints import native
from mimia.models.checkpoints.channel_order import in_rgb
from mimia.models.checkpoints.directories import files_of, read_together
from mimia.models.checkpoints.hub import fetch, is_hub_name
from mimia.models.checkpoints.layout import LAYOUTS, DirectoryLayout
from mimia.models.checkpoints.parsed import ParsedCheckpoint
from mimia.models.checkpoints.provenance import Fact, UnknownFact
from mimia.models.checkpoints.strict import build_for
from mimia.models.checkpoints.transformers_directory import Directory, silence
from mimia.models.checkpoints.transformers_files import INDEX, listed_in
from mimia.models.checkpoints.weight_choice import choose, refuse_head_beside
from mimia.models.checkpoints.wrappings import find
from mimia.runtime.disk import clear_disk_errors
from mimia.runtime.errors import MimiaError
from mimia.runtime.strict_json import read_object

ModelSource: TypeAlias = str | Path | MaskedImageModel | Any
"""A directory, a file, a name on the hub, a model of mimia, or a masked-image model of transformers."""


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A model, and where it comes from.

    Attributes:
        model: In evaluation mode, on the CPU.
        layout: What the checkpoint is, in words for a person.
        id: Name of the model by its weights: SHA-256 of the file, or of all files one after the other; where these hold
            several sets of weights, of that and the name of the set.
        own: The directory, if it is one of mimia's own.
        parsed: What it was built from; None of mimia's own, which say all of themselves.
        notes: What else a reader has to know of the loading, one sentence each.
    """

    model: MaskedImageModel
    layout: str
    id: str
    own: Path | None = None
    parsed: ParsedCheckpoint | None = None
    notes: tuple[str, ...] = ()

    @property
    def facts(self) -> Mapping[str, Fact]:
        """What is known of the model, by name, and where from."""
        return {} if self.parsed is None else self.parsed.facts

    @property
    def unknown(self) -> tuple[UnknownFact, ...]:
        """What is not known, and taken to be the first candidate."""
        return () if self.parsed is None else self.parsed.unknown

    @property
    def assumed(self) -> tuple[str, ...]:
        """What the checkpoint does not say and was taken for granted, one sentence each."""
        if self.parsed is None:
            return ()
        sentences = (fact.reason for fact in self.facts.values() if fact.origin == "assumed" and fact.reason)
        return (*sentences, *self.parsed.remarks)

    @property
    def access(self) -> Literal["decoder", "encoder"]:
        """How much of the model there is."""
        return "decoder" if self.model.has_decoder else "encoder"

    @property
    def usual_decoder(self) -> DecoderSource:
        """Whose decoder reconstructs if no setting says it: its own, or one that is fitted."""
        return "own" if self.model.has_decoder else "fitted"


def load_model(target: ModelSource, settings: CheckpointSettings | Mapping[str, Any] | None = None) -> MaskedImageModel:
    """Return a model of mimia as it is, and any other as `load_checkpoint` loads it.

    Args:
        target: A directory, a file, a name on the hub, or a masked-image model of mimia or transformers.
        settings: What the checkpoint does not say of itself, by the names of the settings ``checkpoint.*``, such as
            ``{"mean": [0.5], "std": [0.5]}``.

    Raises:
        MimiaError: A setting is wrong, or as for `load_checkpoint`.
    """
    if isinstance(target, MaskedImageModel):
        return target
    try:
        settings = CheckpointSettings.model_validate(settings or {})
    except ValidationError as error:
        raise MimiaError(f"The settings of the checkpoint are wrong: {error.errors()[0]['msg']}.") from error
    loaded = load_checkpoint(target, settings)
    refuse_unknown(loaded)
    return loaded.model


def refuse_unknown(loaded: LoadedCheckpoint) -> None:
    """Raise if something is not known of a checkpoint that may not be assumed.

    Raises:
        MimiaError: It names what is not known, and what to pass.
    """
    for unknown in loaded.unknown:
        if not unknown.has_default:
            raise MimiaError(
                f"The checkpoint ({loaded.layout}) does not say its {unknown.name.replace('_', ' ')}, of which there "
                f"may be several ({', '.join(unknown.candidates)}): pass {unknown.flag}."
            )


def load_checkpoint(target: ModelSource, settings: CheckpointSettings | None = None) -> LoadedCheckpoint:
    """Load a checkpoint of mimia, transformers, the official MAE or SimMIM, timm or mmpretrain, or copy a model.

    Args:
        target: A directory, a file, a name on the hub, a model of mimia, or a masked-image model of transformers.
        settings: What the checkpoint does not say of itself; mimia's own say all.

    Raises:
        MimiaError: It cannot be found, is damaged, holds more than data, or is no masked-image model that is known.
    """
    settings = settings or CheckpointSettings()
    if not isinstance(target, str | Path):
        return _load_object(target, settings)
    path = Path(target).expanduser()
    if path.is_dir():
        return _load_directory(path, settings)
    if path.is_file():
        return _load_file(path, settings)
    if is_hub_name(path.as_posix()):
        return _load_directory(fetch(path.as_posix()), settings)
    raise MimiaError(
        f"There is no checkpoint at {target}: pass a directory of mimia or transformers, a .pth or .safetensors file, "
        "or a name on the hub, such as facebook/vit-mae-base."
    )


def _load_object(target: Any, settings: CheckpointSettings) -> LoadedCheckpoint:
    """Save a model in memory and load what was saved, so that it is checked as any checkpoint."""
    # On Windows, files that are mapped into memory cannot be deleted.
    with TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        directory = Path(temporary) / type(target).__name__
        if isinstance(target, MaskedImageModel):
            native.save(directory, target)
        elif _is_of_transformers(target):
            with silence(), clear_disk_errors(directory):
                target.save_pretrained(directory)
        else:
            raise MimiaError(
                f"A {type(target).__name__} is no masked-image model: pass a path, a name on the hub, a mimia model, "
                "or a model of transformers, such as a ViTMAEForPreTraining."
            )
        return replace(_load_directory(directory, settings), own=None)


def _is_of_transformers(target: Any) -> bool:
    """Return whether it is a model of transformers, without importing transformers."""
    return "transformers" in sys.modules and isinstance(target, sys.modules["transformers"].PreTrainedModel)


def _load_directory(path: Path, settings: CheckpointSettings) -> LoadedCheckpoint:
    if not (path / native.CONFIG).is_file():
        return _load_files(files_of(path), path, settings)
    if settings.weights is not None:
        raise MimiaError(f"{path} has one set of weights: leave out --weights (checkpoint.weights).")
    config = read_object(path / native.CONFIG)
    if config.get("format") == "mimia":
        unused = ("it says all of itself: the settings of [checkpoint] are not used",)
        notes = () if settings == CheckpointSettings() else unused
        model = native.load(path)
        return LoadedCheckpoint(model, "mimia's own", native.model_id(path), own=path, notes=notes)
    directory = Directory(path, config)
    for layout in LAYOUTS.values():
        if isinstance(layout, DirectoryLayout) and layout.recognise(config):
            files = directory.files()
            return _filled(layout.read(directory, settings), files, path)
    if "model_type" in config:
        raise MimiaError(
            f"{path} holds a {directory.architecture or config['model_type']}, which is no masked-image model that is "
            "known: supervised models have no mask token and no decoder; pass a ViTMAEForPreTraining, or one of a "
            "class …ForMaskedImageModeling."
        )
    raise MimiaError(
        f"{path / native.CONFIG} is of neither mimia nor transformers nor timm: pass the file of the weights itself."
    )


def _load_file(path: Path, settings: CheckpointSettings) -> LoadedCheckpoint:
    if re.search(r"-\d{5}-of-(?!00001)\d{5}\.", path.name):
        raise MimiaError(
            f"{path} is one of the parts of a checkpoint: pass their directory, or their index (…{INDEX})."
        )
    if not path.name.endswith(INDEX):
        return _load_files([path], path, settings)
    if (path.parent / native.CONFIG).is_file():
        return _load_directory(path.parent, settings)
    return _load_files(listed_in(path), path, settings)


def _load_files(files: Sequence[Path], path: Path, settings: CheckpointSettings) -> LoadedCheckpoint:
    """Load the one model in files that no configuration describes; they are the parts of one file, if several."""
    path = files[0] if len(files) == 1 else path
    found = find(read_together(files), path)
    weights, notes = choose(found, settings.weights, path)
    loaded = _filled(weights.layout.read(weights.contents, settings), files, path)
    if not loaded.model.has_decoder:
        refuse_head_beside(found.others, path)
    of_several = hashlib.sha256(f"{loaded.id} {weights.name}".encode()).hexdigest()
    return replace(loaded, id=of_several if len(found.sets) > 1 else loaded.id, notes=loaded.notes + notes)


def _filled(parsed: ParsedCheckpoint, files: Sequence[Path], path: Path) -> LoadedCheckpoint:
    state, notes = _as_float32(parsed.state)
    parsed = in_rgb(replace(parsed, state=state))
    model = build_for(parsed.state, parsed.spec, parsed.architecture, f"{path} ({parsed.layout})", "the rest of it")
    return LoadedCheckpoint(model, parsed.layout, _id_of([*files, *parsed.also]), parsed=parsed, notes=notes)


def _id_of(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            hashlib.file_digest(content, lambda: digest)
    return digest.hexdigest()


def _as_float32(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Bring weights to float32, in which everything is computed; what is float32 is not copied."""
    others = {value.dtype for value in state.values() if value.is_floating_point()} - {torch.float32}
    notes = tuple(f"weights are stored as {dtype} and computed with as torch.float32" for dtype in others)
    return {
        name: value.detach().float() if value.is_floating_point() else value for name, value in state.items()
    }, notes
