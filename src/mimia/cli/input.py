"""What a user types, as values and directories."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimia.runtime.errors import MimiaError
from mimia.runtime.strict_json import parse_json
from mimia.runtime.text import shortened

if TYPE_CHECKING:
    from mimia.config.settings import Settings


def parse_names(text: str) -> list[str]:
    """Return the names in a text with commas between them.

    >>> parse_names("threshold, calibrated")
    ['threshold', 'calibrated']
    """
    return [name.strip() for name in text.split(",")]


def parse_assignment(text: str) -> tuple[str, Any]:
    """Return key and value of ``KEY=VALUE``; a value that is not JSON is a text.

    Raises:
        MimiaError: There is no ``=``.

    >>> parse_assignment("recipe.epochs=800"), parse_assignment("recipe.preset=mae-nano")
    (('recipe.epochs', 800), ('recipe.preset', 'mae-nano'))
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise MimiaError(f"--set takes KEY=VALUE, as in recipe.epochs=800, and got {shortened(text)!r}.")
    try:
        return key, parse_json(value)
    except ValueError:
        return key, value


def run_directory(command: str, settings: "Settings", *arguments: str) -> Path:
    """Return the directory of a run; runs with equal settings and arguments share one.

    Raises:
        MimiaError: It cannot be written.
    """
    from mimia.runtime.arrays import fingerprint
    from mimia.runtime.text import masked_values

    if settings.out is not None:
        return writable(Path(settings.out))
    inputs = {"settings": settings.model_dump(mode="json", exclude={"store", "out"}), "parts": arguments}
    return writable(Path("mimia-runs")) / f"{command}-{fingerprint(masked_values(inputs))[:10]}"


def writable(directory: Path) -> Path:
    """Return the directory if it exists or can be made, and can be written: checked before hours of work.

    Raises:
        MimiaError: It cannot be written.
    """
    nearest = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise MimiaError(f"{directory} cannot be written ({nearest} is a file or write-protected): name another.")
    return directory
