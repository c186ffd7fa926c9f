"""What lies in a store, which of it can go, and what is damaged."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mimia.runtime.artifacts import RECORD, damage, is_of_old_version, read_record
from mimia.runtime.locks import try_hold
from mimia.runtime.store import QUARANTINE, WORK, Store

_SECONDS_OF_A_DAY = 86_400


@dataclass(frozen=True)
class Entry:
    """An artifact in the local part of a store.

    Attributes:
        path: Its directory.
        record: What it was made from and when; None if that is damaged, or of an older version.
        old: Whether it is of an older version, and not used any more.
    """

    path: Path
    record: dict[str, Any] | None
    old: bool

    @property
    def name(self) -> str:
        """Path in the store."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def days_unused(self) -> float:
        """Days since it was last used."""
        used = (self.path / RECORD).stat().st_mtime
        return (datetime.now(UTC).timestamp() - used) / _SECONDS_OF_A_DAY


@dataclass(frozen=True)
class Garbage:
    """Something in a store that can go.

    Attributes:
        path: A file or directory.
        why: Why it can go.
        lock: File of the lock that a process holds as long as it is in use.
    """

    path: Path
    why: str
    lock: Path | None = None


def entries(store: Store) -> list[Entry]:
    """List the artifacts of the local part of a store, by name."""
    paths = (path for path in sorted(store.root.glob("*/*")) if path.parent.name not in (WORK, QUARANTINE))
    return [
        Entry(path, read_record(path / RECORD), is_of_old_version(path / RECORD))
        for path in paths
        if _is_fingerprint(path.name)
    ]


def broken(artifacts: list[Entry]) -> Iterator[tuple[Entry, str | None]]:
    """Yield each artifact with what is wrong with it, if anything; those of older versions have no checksums."""
    for entry in artifacts:
        if not entry.old:
            yield entry, damage(entry.path)


def garbage(store: Store, days: float | None = None) -> Iterator[Garbage]:
    """Yield what can go: leftovers of interrupted runs, damaged and old artifacts, and those that nobody uses.

    Args:
        store: Its local part is looked at.
        days: Artifacts that were not used for so many days can go; None: none of the present version.
    """
    for path in sorted((store.root / QUARANTINE).glob("*")):
        yield Garbage(path, "damaged")
    for path in sorted((store.root / WORK).glob("*/*")):
        if path.suffix not in (".lock", ".holder"):
            yield Garbage(path, "left by an interrupted run", _lock(store, path))
    for path in sorted(store.root.glob("*/*.arriving")):
        yield Garbage(path, "half fetched", _lock(store, path))
    for entry in entries(store):
        if entry.old:
            yield Garbage(entry.path, "of an older version")
        elif days is not None and (entry.path / RECORD).exists() and entry.days_unused >= days:
            yield Garbage(entry.path, f"unused for {entry.days_unused:.0f} days", _lock(store, entry.path))


def delete(store: Store, item: Garbage) -> bool:
    """Delete something, unless a process has it locked; return whether it is gone.

    It is moved away first, so that an artifact is whole or not there at any moment.
    """
    lock = None if item.lock is None else try_hold(item.lock)
    if item.lock is not None and lock is None:
        return False
    try:
        away = store.root / QUARANTINE / f"deleted-{os.getpid()}-{item.path.parent.name}-{item.path.name}"
        away.parent.mkdir(parents=True, exist_ok=True)
        item.path.replace(away)
        if away.is_dir() and not away.is_symlink():
            shutil.rmtree(away)
        else:
            away.unlink()
    finally:
        if lock is not None:
            lock.release()
    return True


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a directory."""
    files = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.lstat().st_size for file in files if not file.is_dir())


def _lock(store: Store, path: Path) -> Path:
    return store.root / WORK / path.parent.name / f"{path.name.partition('.')[0]}.lock"


def _is_fingerprint(name: str) -> bool:
    return len(name) == 32 and not set(name) - set("0123456789abcdef")
