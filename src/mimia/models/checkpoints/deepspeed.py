"""Directories of DeepSpeed, also as Lightning and accelerate write them: a file has the whole model, or parts of it."""

from pathlib import Path, PurePath

from mimia.runtime.errors import MimiaError

_STATES = "*_model_states.pt"
_WHOLE = "mp_rank_"  # how the name of a file begins that is not of one process of several
_LATEST = "latest"  # names the directory of the last step
_LONGEST = 255  # characters of a name


def place_of(directory: Path) -> Path | None:
    """Return where DeepSpeed saved the model, if it did: here, or in the directory that the file ``latest`` names."""
    if any(directory.glob(_STATES)):
        return directory
    if not (directory / _LATEST).is_file():
        return None
    with (directory / _LATEST).open(errors="replace") as file:
        name = file.read(_LONGEST).strip()
    is_inside = name == PurePath(name).name and name not in ("", "..")
    return directory / name if is_inside and any((directory / name).glob(_STATES)) else None


def states_in(place: Path) -> Path:
    """Return the file with the whole model in a directory where DeepSpeed saved one.

    Raises:
        MimiaError: There are several, each with a part.
    """
    states = list(place.glob(_STATES))
    if len(states) != 1 or not states[0].name.startswith(_WHOLE):
        raise split(place)
    return states[0]


def split(directory: Path) -> MimiaError:
    """Return the error of a directory of DeepSpeed from which the weights have to be put together first."""
    return MimiaError(
        f"{directory} is a checkpoint of DeepSpeed, and no file in it holds all weights by name (ZeRO stage 3 splits "
        "them): run `python zero_to_fp32.py . OUT` in it, or in the directory above, and pass OUT."
    )
