"""What a user types, as settings and directories."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimia.errors import MimiaError

if TYPE_CHECKING:  # heavy, and not needed for --help
    from mimia.config import Settings
    from mimia.experiments.grid import Profile


def settings_of(config: Path | None, assignments: list[str] | None, flags: dict[str, Any]) -> "Settings":
    """Put together a file, ``--set`` assignments and named flags; the later win."""
    from mimia.config import read_settings

    values: dict[str, Any] = {}
    pairs = [_assignment(text) for text in assignments or []]
    for key, value in [*pairs, *((key, value) for key, value in flags.items() if value is not None)]:
        *tables, name = key.split(".")
        table = values
        for part in tables:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise MimiaError(
                    f"--set {part}={table} gives one value to a table of settings: name a key, {part}.KEY."
                )
        table[name] = value
    return read_settings(config, values)


def profile_of(text: str) -> "Profile":
    """Give the profile of a name.

    Raises:
        MimiaError: There is none of this name.
    """
    from typing import get_args

    from mimia.experiments.grid import Profile

    profiles: dict[str, Profile] = {name: name for name in get_args(Profile)}
    if text not in profiles:
        raise MimiaError(f"There is no profile {text!r}: choose from {', '.join(profiles)}.")
    return profiles[text]


def names_of(text: str | None) -> list[str] | None:
    """Take names with commas between them apart.

    >>> names_of("threshold, calibrated")
    ['threshold', 'calibrated']
    """
    return None if text is None else [name.strip() for name in text.split(",")]


def _assignment(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise MimiaError(f"--set takes KEY=VALUE, as in recipe.epochs=800, and got {text!r}.")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def run_directory(kind: str, settings: "Settings", *parts: str) -> Path:
    """Give the directory of a run: equal settings share one."""
    from mimia.arrays import fingerprint

    if settings.out is not None:
        return writable(settings.out)
    deciding = settings.model_dump(mode="json", exclude={"store", "out"})
    return writable(Path("mimia-runs")) / f"{kind}-{fingerprint({'settings': deciding, 'parts': parts})[:10]}"


def writable(directory: Path) -> Path:
    """Refuse, before hours of work, a directory that cannot be made or written."""
    nearest = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise MimiaError(f"{directory} cannot be written ({nearest} is a file or write-protected): name another.")
    return directory
