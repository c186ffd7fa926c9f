"""Content-addressed artifacts: the same settings are never computed twice.

An artifact is a directory, named by its kind and by a fingerprint of everything that it was computed from. It is built
in a work directory and moved to its final place when it is complete, so that an artifact is whole or does not exist. A
work directory survives an interruption, and its builder resumes there. Each file of an artifact has a checksum, which
is compared on the first use in a process: a damaged artifact is put aside and made again. A store at a remote location
(any that fsspec knows) is mirrored in a local cache, because memory maps need local files.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec
from platformdirs import user_cache_path

from mimia.runtime.arrays import fingerprint
from mimia.runtime.artifacts import RECORD, damage, is_of_old_version, moved, write_record
from mimia.runtime.disk import as_disk_error, clear_disk_errors, concerns, disk_sentence
from mimia.runtime.errors import MimiaError
from mimia.runtime.locks import holding
from mimia.runtime.progress import say
from mimia.runtime.remote import Remote
from mimia.runtime.text import masked_address

WORK = "work"
"""Directory of artifacts that are being built, and of their locks."""
QUARANTINE = "quarantine"
"""Directory of damaged artifacts."""
MARK = "store.json"
"""File by which a directory is known to be a store."""
_VERSION = 3
"""Part of each fingerprint: raised when artifacts of the same settings are written otherwise."""


class Store:
    """Artifacts at one location.

    Args:
        location: A local directory, or an fsspec URL such as ``s3://bucket/mimia``; `Store.location` masks its secrets.
        cache: Where a remote store is mirrored; unused for a local one.

    Raises:
        MimiaError: fsspec does not know the protocol of the URL, or lacks a package for it.
    """

    _remedy = "choose another place with --store"

    def __init__(self, location: str | Path, cache: Path | None = None) -> None:
        address = str(location)
        self.location = masked_address(address)
        self._remote: Remote | None = None
        self.root = Path(address).expanduser()
        if "://" in address:
            try:
                self._remote = Remote(self.location, *fsspec.core.url_to_fs(address))
            except (ImportError, ValueError) as error:
                raise MimiaError(
                    f"The store {self.location} cannot be opened ({error}): pass a directory, or install what "
                    "fsspec needs for it."
                ) from error
            self.root = (cache or user_cache_path("mimia")) / fingerprint({"url": address})

    def __repr__(self) -> str:
        return f"Store({self.location!r})"

    def make(self, kind: str, settings: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """Return the directory of an artifact; build it first if the store does not have it, or has a damaged one.

        Args:
            kind: Name of its parent directory, such as ``models``.
            settings: Everything that its content depends on, as JSON values.
            build: Writes the artifact's files into a work directory, which may hold what an interrupted run left.

        Raises:
            MimiaError: The disk is full, or the location cannot be read or written.
        """
        name = _name(kind, settings)
        final, work = self.root / name, self.root / WORK / name
        with self._clear_errors(work):
            if not _is_whole(final):
                with self._held(name):
                    self._mark_version()
                    if not self._is_here(name, " and made again") and not self._fetch(name):
                        self._build(work, kind, settings, build)
                        if self._remote is not None:
                            self._remote.publish(name, work)
                        final.parent.mkdir(parents=True, exist_ok=True)
                        moved(work, final)
                    elif work.exists():
                        shutil.rmtree(work)
            with suppress(OSError):  # a store may be read-only
                os.utime(final / RECORD)  # when it was last used
        return final

    def find(self, kind: str, settings: Mapping[str, Any]) -> Path | None:
        """Return the directory of an artifact if the store has it here; a damaged one is put aside."""
        name = _name(kind, settings)
        with self._clear_errors(self.root):
            return self.root / name if self._is_here(name, "") else None

    def fetched(self, kind: str, settings: Mapping[str, Any]) -> Path | None:
        """Return the directory of an artifact if the store has it, here or at its remote location."""
        found, name = self.find(kind, settings), _name(kind, settings)
        if found is not None or self._remote is None:
            return found
        with self._clear_errors(self.root), self._held(name):
            return self.root / name if self._is_here(name, "") or self._fetch(name) else None

    def quarantine(self, name: str, why: str, consequence: str) -> None:
        """Put a damaged artifact aside, and say so.

        Args:
            name: Path of the artifact in the store.
            why: What is wrong with it, such as ``lacks pixels.u8``.
            consequence: What happens next, for the message.
        """
        flat = name.replace("/", "-")
        place = self.root / QUARANTINE
        place.mkdir(parents=True, exist_ok=True)
        free = next(path for number in range(1, 1000) if not (path := place / f"{flat}-{number}").exists())
        try:
            (self.root / name).replace(free)
        except FileNotFoundError:  # another process has put it aside
            return
        say(f"{name} in the store {self.location} {why}: it is moved to {QUARANTINE}/{free.name}{consequence}.")

    @contextmanager
    def _held(self, name: str) -> Iterator[None]:
        """Keep other processes from an artifact until the block ends."""
        work = self.root / WORK / name
        work.parent.mkdir(parents=True, exist_ok=True)
        with holding(work.with_name(f"{work.name}.lock"), f"{name} in the store {self.location}"):
            yield

    def _is_here(self, name: str, consequence: str) -> bool:
        """Return whether a whole artifact is in the local store; put a damaged one aside."""
        final = self.root / name
        if not os.path.lexists(final):
            return False
        why = damage(final)
        if why is not None:
            self.quarantine(name, why, consequence)
        return why is None

    def _build(self, work: Path, kind: str, settings: Mapping[str, Any], build: Callable[[Path], None]) -> None:
        """Complete an artifact in its work directory, unless an earlier run has and could not move it."""
        work.mkdir(parents=True, exist_ok=True)
        if damage(work) is None:
            return
        (work / RECORD).unlink(missing_ok=True)
        build(work)
        for left in work.glob("*.partial"):  # of a process that was killed as it wrote
            left.unlink()
        write_record(work, kind, settings)

    def _fetch(self, name: str) -> bool:
        """Copy an artifact from the remote store; return whether it is here and whole."""
        if self._remote is None:
            return False
        final = self.root / name
        arriving = final.with_name(f"{final.name}.arriving")
        shutil.rmtree(arriving, ignore_errors=True)
        arriving.mkdir(parents=True)
        if not self._remote.fetch(name, arriving):
            shutil.rmtree(arriving)
            return False
        why = damage(arriving)
        if why is not None:
            self.quarantine(f"{name}.arriving", f"{why} in its remote copy", " and made again")
            return False
        moved(arriving, final)
        return True

    def _mark_version(self) -> None:
        """Write the version of the store; say so, once, if artifacts of an older version lie there."""
        mark = self.root / MARK
        with suppress(ValueError, FileNotFoundError):
            if json.loads(mark.read_bytes()) == {"version": _VERSION}:
                return
        old = {path.parent.parent.name for path in self.root.glob(f"*/*/{RECORD}") if is_of_old_version(path)}
        if old:
            say(
                f"The store {self.location} has artifacts of an older version of mimia, which are not used: run `mimia "
                f"store gc --delete` to free the space of its {', '.join(sorted(old))}."
            )
        mark.write_text(json.dumps({"version": _VERSION}))

    @contextmanager
    def _clear_errors(self, work: Path) -> Iterator[None]:
        try:
            yield
        except MimiaError:
            raise
        except Exception as raised:
            error = as_disk_error(raised, work)
            if error is None or not concerns(error, self.root) or isinstance(error, FileNotFoundError):
                raise
            raise MimiaError(disk_sentence(error, f"the store {self.location}", self._remedy)) from raised


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file so that it is never seen half-written: yield a temporary path, and move it when done.

    Raises:
        OSError: The disk is full, also where the writing library raises another error, as torch and safetensors do.
    """
    temporary = path.with_name(f"{path.name}.partial")
    try:
        with clear_disk_errors(path):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_whole(directory: Path) -> bool:
    try:
        return os.path.lexists(directory) and damage(directory) is None
    except FileNotFoundError:  # another process has just moved it
        return False


def _name(kind: str, settings: Mapping[str, Any]) -> str:
    return f"{kind}/{fingerprint({'store': _VERSION, 'settings': settings})}"
