"""Directories without a ``config.json``, as trainers leave them: which file holds the weights."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from mimia.models.checkpoints import deepspeed
from mimia.models.checkpoints.safe import check_weights, no_weights, read_values
from mimia.models.checkpoints.transformers_files import INDEX, listed_in
from mimia.runtime.errors import MimiaError
from mimia.runtime.text import shortened

_WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".pth.tar")
_TRAINING = ("optimizer", "scheduler", "scaler", "sampler", "random_states", "rng_state", "training_args", "dl_state")
"""How names of files begin that accelerate and transformers save beside the weights."""
_DISTRIBUTED = ".metadata"  # of torch.distributed.checkpoint
_FOREIGN = (".pb", ".h5", ".msgpack", ".onnx", ".index", ".npz", ".keras", ".pt2", "_CHECKPOINT_METADATA")


def files_of(directory: Path) -> list[Path]:
    """Return the file with the weights of a directory without a ``config.json``, or all that its index lists.

    Raises:
        MimiaError: There are none or several, or they are not whole without others.
    """
    _refuse_distributed(directory)
    place = deepspeed.place_of(directory)
    if place is not None:
        return [deepspeed.states_in(place)]
    files = sorted(path for path in directory.iterdir() if path.is_file() and not path.name.startswith("."))
    parts = {path: listed_in(path) for path in files if path.name.endswith(INDEX)}
    single = [path for path in files if path.name.endswith(_WEIGHTS) and not path.name.startswith(_TRAINING)]
    candidates = [path for path in single if not any(path in listed for listed in parts.values())] + list(parts)
    if len(candidates) > 1:
        names = ", ".join(shortened(path.name, 40) for path in candidates[:4])
        raise MimiaError(f"{directory} has {len(candidates)} files of weights ({names}): pass one of them.")
    if not candidates:
        raise _no_file(directory, files)
    return parts.get(candidates[0], candidates)


def read_together(files: Sequence[Path]) -> object:
    """Return the values of a file, or the weights of several that are the parts of one.

    Raises:
        MimiaError: A part holds something else than weights by name, or a name is in two of them.
    """
    if len(files) == 1:
        return read_values(files[0])
    together: dict[object, object] = {}
    for file in files:
        values = read_values(file)
        if not isinstance(values, dict) or not all(isinstance(value, Tensor) for value in values.values()):
            raise no_weights(file)
        check_weights(values, file)
        twice = next((name for name in values if name in together), None)
        if twice is not None:
            raise MimiaError(f"{file} holds {shortened(str(twice))}, as another part does: copy the directory again.")
        together |= values
    return together


def _refuse_distributed(directory: Path) -> None:
    if (directory / _DISTRIBUTED).exists() or any(directory.glob("*.distcp")):
        raise MimiaError(
            f"{directory} is a checkpoint of torch.distributed.checkpoint, in parts: run `python -m "
            "torch.distributed.checkpoint.format_utils dcp_to_torch DIR OUT.pth` on it and pass OUT.pth."
        )


def _no_file(directory: Path, files: Sequence[Path]) -> MimiaError:
    """Return the error of a directory without weights."""
    foreign = next((path.name for path in files if path.name.endswith(_FOREIGN)), None)
    if foreign is not None:
        return MimiaError(
            f"{directory} has no weights of torch or safetensors, but {shortened(foreign, 40)}, of another library: "
            "convert its weights to safetensors, by the names that they have in torch."
        )
    inner = sorted(path.name for path in directory.iterdir() if path.is_dir() and (path / _DISTRIBUTED).exists())
    if inner:
        _refuse_distributed(directory / inner[0])
    return MimiaError(
        f"{directory} is no checkpoint: it has no config.json. Pass a directory that `mimia pretrain` or transformers "
        "wrote, or the file of the weights itself."
    )
