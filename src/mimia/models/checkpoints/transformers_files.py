"""Which files of a directory transformers loads, all of which have to be there, and nowhere else."""

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from mimia.models.checkpoints import deepspeed
from mimia.runtime.errors import MimiaError
from mimia.runtime.strict_json import read_object
from mimia.runtime.text import shortened

INDEX = ".index.json"
"""End of the name of a file that lists the files of weights."""
_WEIGHTS = ("model.safetensors", f"model.safetensors{INDEX}", "pytorch_model.bin", f"pytorch_model.bin{INDEX}")
"""Of these, transformers loads the first that is there; an index names several files."""


def weight_files(directory: Path, config: Mapping[str, Any]) -> list[Path]:
    """Return the files of weights that transformers loads from a directory, and no others.

    Args:
        directory: With a ``config.json``.
        config: Content of that.

    Raises:
        MimiaError: There is none, or the weights are elsewhere.
    """
    if config.get("transformers_weights"):
        raise MimiaError(
            f"{directory / 'config.json'} names another file of weights (transformers_weights): call that file "
            "model.safetensors and delete this setting."
        )
    if (directory / "adapter_config.json").exists():
        raise MimiaError(
            f"{directory} holds an adapter, whose weights come on top of those of another model: merge them "
            "(merge_and_unload) and save the whole."
        )
    for path in (directory / name for name in _WEIGHTS):
        if path.is_file():
            return listed_in(path) if path.name.endswith(INDEX) else [path]
    if deepspeed.place_of(directory) is not None:
        raise deepspeed.split(directory)
    raise MimiaError(
        f"{directory} has no weights: model.safetensors or pytorch_model.bin is missing, or the index of several "
        f"files (model.safetensors{INDEX})."
    )


def listed_in(index: Path) -> list[Path]:
    """Return the files that an index names.

    Raises:
        MimiaError: It is no index, or one of them is not in its directory.
    """
    entries = read_object(index).get("weight_map")
    if not isinstance(entries, dict) or not entries or not all(isinstance(name, str) for name in entries.values()):
        raise MimiaError(f"{index} is no index of weights: it has no weight_map of names; copy it again.")
    names = sorted(set(entries.values()))
    for name in names:
        pure = PurePath(name)
        if pure.is_absolute() or ".." in pure.parts:
            raise MimiaError(
                f"{index} names {shortened(name)}, which lies outside of its directory: put all files of the model "
                "into one."
            )
        if not (index.parent / name).is_file():
            raise MimiaError(f"{index} names {shortened(name)}, which is not there: copy the directory again.")
    return [index.parent / name for name in names]
