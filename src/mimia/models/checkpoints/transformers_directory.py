"""Directories that transformers wrote, by way of its own loader, which alone knows the names in its files."""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from mimia.config.settings import Deviation, Mean
from mimia.models.checkpoints.hub import fetch
from mimia.models.checkpoints.parsed import WHERE_IS_THE_DECODER
from mimia.models.checkpoints.safe import read_contents
from mimia.models.checkpoints.strict import in_short, outline, refuse_more_blocks
from mimia.models.checkpoints.transformers_files import weight_files
from mimia.models.sizes import blocks_of, checked
from mimia.runtime.errors import MimiaError, first_mistake
from mimia.runtime.strict_json import read_object
from mimia.runtime.text import shortened

_Config = TypeVar("_Config")
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json", "generation_config.json")
_MARGIN = 8  # by how much the model may be larger than its file, for which another error says what is missing


@dataclass(frozen=True)
class Directory:
    """A directory with a ``config.json``.

    Attributes:
        path: Where it is.
        config: Content of ``config.json``; a number in it that is out of bounds raises `MimiaError`.
    """

    path: Path
    config: dict[str, Any]

    def __post_init__(self) -> None:
        try:
            checked(self.config)
        except ValueError as error:
            raise MimiaError(f"{self.path / 'config.json'} cannot be used: {error}.") from error

    @property
    def architecture(self) -> str:
        """Class of transformers that was saved, empty if the directory does not say."""
        return class_name(self.config)

    def parsed(self, kind: type[_Config]) -> _Config:
        """Return the configuration as a class of transformers, which knows the defaults.

        Raises:
            MimiaError: A value is of the wrong type.
        """
        try:
            return kind(**self.config)
        except Exception as error:  # each version has its own
            raise MimiaError(
                f"{self.path / 'config.json'} is no {kind.__name__} ({in_short(error)}): copy it again."
            ) from error

    def settings(self, *without: str) -> dict[str, Any]:
        """Return the settings that shape the model, without those of every configuration and those named."""
        from transformers import PreTrainedConfig

        left_out = {*PreTrainedConfig().to_dict(), "model_type", "torch_dtype", *without}
        return {name: value for name, value in self.config.items() if name not in left_out}

    def square(self, name: str, value: object) -> int:
        """Return a size that has to be the same in both directions.

        Raises:
            MimiaError: It is not.
        """
        sizes = set(value) if isinstance(value, list | tuple) else {value}
        size = sizes.pop() if len(sizes) == 1 else None
        if not isinstance(size, int):
            raise MimiaError(f"{self.path} has {name} = {value}: only square images and patches work.")
        return size

    @property
    def place(self) -> str:
        """Return for a reader where `said` has its facts from."""
        found = [name for name in _PROCESSORS if (self.path / name).is_file()]
        return " and ".join(["its config.json", *found[:1]])

    def said(self) -> dict[str, Any]:
        """Return pixel statistics and the order of the colours, if the directory has a pre-processing that says them.

        Raises:
            MimiaError: Pixels are scaled otherwise than to [0, 1] before.
        """
        for name in _PROCESSORS:
            if (self.path / name).is_file():
                processor = _Processor.read(self.path / name)
                scale = 255 * (processor.rescale_factor or 1 / 255) if processor.do_rescale else 255
                if not 0.999 < scale < 1.001:
                    raise MimiaError(
                        f"{self.path / name} scales pixels otherwise than from 0…255 to [0, 1]: models of such images "
                        "do not open."
                    )
                said: dict[str, Any] = {"mean": processor.image_mean, "std": processor.image_std}
                if not processor.do_normalize:
                    said = {"mean": 0.0, "std": 1.0}
                if processor.do_flip_channel_order is not None:
                    said["channel_order"] = "bgr" if processor.do_flip_channel_order else "rgb"
                return {name: value for name, value in said.items() if value is not None}
        return {}

    def files(self) -> list[Path]:
        """List the files of the weights that transformers loads, and no others.

        Raises:
            MimiaError: There is none, or the weights are elsewhere.
        """
        return weight_files(self.path, self.config)


class _Processor(BaseModel):
    """What is read of a pre-processing, with transformers' defaults."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    do_rescale: bool | None = True
    rescale_factor: float | None = None
    do_normalize: bool | None = True
    do_flip_channel_order: bool | None = None
    image_mean: Mean | tuple[Mean, ...] | None = None
    image_std: Deviation | tuple[Deviation, ...] | None = None

    @classmethod
    def read(cls, path: Path) -> "_Processor":
        """Read the file of a pre-processing, or of one with others beside it.

        Raises:
            MimiaError: It is no JSON, or a value is of the wrong type.
        """
        content = read_object(path)
        try:
            return cls.model_validate(content.get("image_processor", content))
        except ValidationError as error:
            raise MimiaError(f"{path} cannot be used ({first_mistake(error)}): correct it.") from error


def class_name(config: Mapping[str, Any]) -> str:
    """Return the class of transformers that a ``config.json`` names, or an empty text."""
    classes = config.get("architectures") or [""]
    return str(classes[0]) if isinstance(classes, list) else ""


def open_directory(source: str | Path) -> Directory:
    """Return a directory that transformers wrote, here or on the hub.

    Raises:
        MimiaError: It is not to be had.
    """
    path = Path(source).expanduser()
    if not path.is_dir():
        path = fetch(path.as_posix())
    return Directory(path, read_object(path / "config.json"))


def load_weights(directory: Directory, kind: Any, optional: str = r"$^", **options: Any) -> dict[str, Tensor]:
    """Load a directory as a class of transformers, and return the weights by their names in memory.

    Args:
        directory: What transformers wrote.
        kind: The class.
        optional: Pattern of the names of parameters that may be missing; those that are, are not returned.
        options: Arguments of the class.

    Raises:
        MimiaError: A parameter would be made up, left out or shaped otherwise than the configuration says.
    """
    path = directory.path
    held = _read_held(directory, kind)
    try:
        with silence():
            model, found = kind.from_pretrained(
                path,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                local_files_only=True,
                dtype="auto",
                **options,
            )
    except Exception as error:  # a damaged file can fail in any way
        raise MimiaError(
            f"{path} cannot be opened by transformers as {kind.__name__} ({in_short(error)}): copy it again, or "
            "correct its config.json."
        ) from error
    missing = {name for name in found["missing_keys"] if re.search(optional, name)}
    for name in sorted(set(found["missing_keys"]) - missing):
        hint = f"it seems to hold an encoder alone ({WHERE_IS_THE_DECODER})" if "decoder" in name else "it is not whole"
        raise MimiaError(f"{path} lacks parameter {shortened(name)}, which would be made up at random: {hint}.")
    for name in sorted(found["unexpected_keys"]):
        raise MimiaError(
            f"{path} has the unexpected parameter {shortened(name)}, which {kind.__name__} leaves out: it seems to be "
            "another model, supervised or fine-tuned."
        )
    for name, in_file, wanted in sorted(found["mismatched_keys"]):
        raise MimiaError(f"{path}: {name} has the shape {tuple(in_file)}, but config.json asks for {tuple(wanted)}.")
    weights = {name: value for name, value in model.state_dict().items() if name not in missing}
    # Some versions swap parameters on loading, such as two layer norms of BEiT: a name in the file means what it says.
    return {name: held.get(name, value) for name, value in weights.items()}


def _read_held(directory: Directory, kind: Any) -> dict[str, Tensor]:
    """Return the weights by their names in the files.

    Raises:
        MimiaError: The configuration asks for a much larger model than the files hold: before transformers makes room.
    """
    path, by = directory.path, "config.json"
    for name in _INDICES:  # which transformers' loader reads too
        if (path / name).is_file():
            read_object(path / name)
    held: dict[str, Tensor] = {}
    for file in directory.files():
        held |= read_contents(file).state
    blocks = blocks_of(directory.config)
    refuse_more_blocks(blocks, len(held), str(path), by)
    model = outline(partial(kind, directory.parsed(kind.config_class)), str(path), by)
    wanted = sum(value.numel() for value in model.state_dict().values())
    found = sum(value.numel() for value in held.values())
    if wanted > _MARGIN * found:
        raise MimiaError(
            f"{path}: {by} asks for a model of {wanted:,} numbers, and the weights have {found:,}: it is of another "
            "model."
        )
    return held


@contextmanager
def silence() -> Iterator[None]:
    """Keep transformers' bars and its report of the loading, which is checked here, from the terminal."""
    from transformers.utils import logging as reports

    theirs: Any = reports  # its functions have no types
    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity(logging.CRITICAL)
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()
