"""Directories that transformers wrote, by way of its own loader, which alone knows the names in its files."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from mimia.models.checkpoints.hub import fetch
from mimia.models.checkpoints.parsed import WHERE_IS_THE_DECODER
from mimia.models.checkpoints.transformers_files import read_json, weight_files
from mimia.runtime.errors import MimiaError

_Config = TypeVar("_Config")
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True)
class Directory:
    """A directory with a ``config.json``.

    Attributes:
        path: Where it is.
        config: Content of ``config.json``.
    """

    path: Path
    config: dict[str, Any]

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
                f"{self.path / 'config.json'} is no {kind.__name__} ({_first_line(error)}): copy it again."
            ) from error

    def settings(self, *without: str) -> dict[str, Any]:
        """Return the settings that shape the model, without those of every configuration and those named."""
        from transformers import PreTrainedConfig

        left_out = {*PreTrainedConfig().to_dict(), "model_type", "torch_dtype", *without}
        return {name: value for name, value in self.config.items() if name not in left_out}

    def square(self, name: str, value: int | list[int] | tuple[int, int]) -> int:
        """Return a size that has to be the same in both directions.

        Raises:
            MimiaError: It is not.
        """
        sizes = {value} if isinstance(value, int) else set(value)
        if len(sizes) != 1:
            raise MimiaError(f"{self.path} has {name} = {value}: only square images and patches work.")
        return sizes.pop()

    def said(self) -> dict[str, Any]:
        """Return the pixel statistics, mean and std, if the directory has a pre-processing that says them.

        Raises:
            MimiaError: Pixels are scaled otherwise than to [0, 1] before.
        """
        for name in _PROCESSORS:
            if (self.path / name).is_file():
                processor = read_json(self.path / name)
                processor = processor.get("image_processor", processor)
                scale = 255 * (processor.get("rescale_factor") or 1 / 255) if processor.get("do_rescale", True) else 255
                if not 0.999 < scale < 1.001:
                    raise MimiaError(
                        f"{self.path / name} scales pixels otherwise than from 0…255 to [0, 1]: models of such images "
                        "do not open."
                    )
                if not processor.get("do_normalize", True):
                    channels = self.config.get("num_channels", 3)
                    return {"mean": (0.0,) * channels, "std": (1.0,) * channels}
                return {"mean": processor.get("image_mean"), "std": processor.get("image_std")}
        return {}

    def files(self) -> list[Path]:
        """List the files of the weights that transformers loads, and no others.

        Raises:
            MimiaError: There is none, or the weights are elsewhere.
        """
        return weight_files(self.path, self.config)


def class_name(config: Mapping[str, Any]) -> str:
    """Return the class of transformers that a ``config.json`` names, or an empty text."""
    classes = config.get("architectures") or [""]
    return str(classes[0])


def open_directory(source: str | Path) -> Directory:
    """Return a directory that transformers wrote, here or on the hub.

    Raises:
        MimiaError: It is not to be had.
    """
    path = Path(source).expanduser()
    if not path.is_dir():
        path = fetch(path.as_posix())
    return Directory(path, read_json(path / "config.json"))


def load_weights(directory: Directory, kind: Any) -> dict[str, Tensor]:
    """Load a directory as a class of transformers, and return the weights by their names in memory.

    Args:
        directory: What transformers wrote.
        kind: The class.

    Raises:
        MimiaError: A parameter would be made up, left out or shaped otherwise than the configuration says.
    """
    path = directory.path
    directory.files()  # to refuse what transformers would load from elsewhere
    try:
        with silence():
            model, found = kind.from_pretrained(
                path, output_loading_info=True, ignore_mismatched_sizes=True, local_files_only=True, dtype="auto"
            )
    except Exception as error:  # a damaged file can fail in any way
        raise MimiaError(
            f"{path} cannot be opened by transformers as {kind.__name__} ({_first_line(error)}): copy it again, or "
            "correct its config.json."
        ) from error
    for name in sorted(found["missing_keys"]):
        hint = f"it seems to hold an encoder alone ({WHERE_IS_THE_DECODER})" if "decoder" in name else "it is not whole"
        raise MimiaError(
            f"{path} lacks parameter {name}, which transformers would make up at random: {hint}; pass a checkpoint as "
            "pre-training left it, with all of its parameters."
        )
    for name in sorted(found["unexpected_keys"]):
        raise MimiaError(
            f"{path} has the unexpected parameter {name}, which {kind.__name__} leaves out: it seems to be another "
            "model, supervised or fine-tuned."
        )
    for name, in_file, wanted in sorted(found["mismatched_keys"]):
        raise MimiaError(f"{path}: {name} has the shape {tuple(in_file)}, but config.json asks for {tuple(wanted)}.")
    weights: dict[str, Tensor] = model.state_dict()
    return weights


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


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
