"""Files that an interrupted run goes on from, with their checksums beside them."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mimia.runtime.artifacts import checksum
from mimia.runtime.store import replacing


@contextmanager
def sealing(path: Path) -> Iterator[Path]:
    """Write a file whole or not at all, as `replacing` does, and its checksum beside it.

    The checksum comes first, beside that of the file before: whenever the process is killed, one of them is right.
    """
    with replacing(path) as temporary:
        yield temporary
        seals = [checksum(temporary), *_seals(path)[:1]]
        with replacing(_seal_file(path)) as beside:
            beside.write_text("\n".join(seals))


def is_intact(path: Path) -> bool:
    """Return whether a file is there and is as `sealing` wrote it."""
    return path.is_file() and checksum(path) in _seals(path)


def discard(path: Path) -> bool:
    """Delete a file, or whatever is in its place, with its checksum; return whether there was anything."""
    was_there = os.path.lexists(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    _seal_file(path).unlink(missing_ok=True)
    return was_there


def _seal_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.xxh3")


def _seals(path: Path) -> list[str]:
    try:
        return _seal_file(path).read_text().split()
    except (OSError, UnicodeDecodeError):
        return []
