"""Content-addressed artifacts: the same settings are never computed twice.

An artifact is a directory, named by its kind and by a fingerprint of everything that it was computed from. It is built
in a work directory and moved to its final place when it is complete, so that an artifact is whole or does not exist. A
work directory survives an interruption, and its builder resumes there. A store at a remote location (any that fsspec
knows) is mirrored in a local cache, because memory maps need local files.
"""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from filelock import FileLock
from platformdirs import user_cache_path

from mimia.runtime.arrays import fingerprint
from mimia.runtime.errors import MimiaError
from mimia.runtime.progress import console

_RECORD = "artifact.json"  # written last: its presence says that an artifact is complete
_STORE = "store.json"
_VERSION = 2
"""Part of each fingerprint: raised when artifacts of the same settings are written otherwise."""
_OLD_KINDS = ("images", "models", "signals", "decoders")
_FULL = 1 << 16  # bytes that are left on a disk that counts as full


class Store:
    """Artifacts at one location.

    Args:
        location: A local directory, or an fsspec URL such as ``s3://bucket/mimia``.
        cache: Where a remote store is mirrored; unused for a local one.

    Raises:
        MimiaError: fsspec does not know the protocol of the URL, or lacks a package for it.
    """

    def __init__(self, location: str | Path, cache: Path | None = None) -> None:
        self.location = str(location)
        self._remote: Any = None
        self.root = Path(self.location).expanduser()
        if "://" in self.location:
            try:
                self._remote, self._remote_root = fsspec.core.url_to_fs(self.location)
            except (ImportError, ValueError) as error:
                raise MimiaError(
                    f"The store {self.location} cannot be opened ({error}): pass a directory, or install what "
                    "fsspec needs for it."
                ) from error
            self.root = (cache or user_cache_path("mimia")) / fingerprint({"url": self.location})

    def __repr__(self) -> str:
        return f"Store({self.location!r})"

    def make(self, kind: str, settings: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """Return the directory of an artifact; build it first if the store does not have it.

        Args:
            kind: Name of its parent directory, such as ``models``.
            settings: Everything that its content depends on, as JSON values.
            build: Writes the artifact's files into a work directory, which may hold what an interrupted run left.

        Raises:
            MimiaError: The disk is full, or the location cannot be written.
        """
        name = _name(kind, settings)
        final = self.root / name
        with _clear_disk_errors(self.location):
            if (final / _RECORD).exists():
                return final
            work = self.root / "work" / name
            work.mkdir(parents=True, exist_ok=True)
            self._mark_version()
            with FileLock(self.root / "work" / f"{name}.lock"):
                if not (final / _RECORD).exists() and not self._fetch(name, final):
                    work.mkdir(parents=True, exist_ok=True)
                    build(work)
                    record = {"kind": kind, "settings": settings}
                    (work / _RECORD).write_text(json.dumps(record, indent=1))
                    self._publish(name, work)
                    final.parent.mkdir(parents=True, exist_ok=True)
                    work.replace(final)
                elif work.exists():
                    shutil.rmtree(work)
        return final

    def find(self, kind: str, settings: Mapping[str, Any]) -> Path | None:
        """Return the directory of an artifact if the store has it here."""
        final = self.root / _name(kind, settings)
        return final if (final / _RECORD).exists() else None

    def _mark_version(self) -> None:
        """Write the version of the store; say so, once, if artifacts of an older version lie there."""
        mark = self.root / _STORE
        if mark.exists():
            return
        if any((self.root / kind).is_dir() for kind in _OLD_KINDS):
            console.print(
                f"The store {self.location} has artifacts of an older version of mimia, which are not used: delete its "
                f"folders {', '.join(kind for kind in _OLD_KINDS if (self.root / kind).is_dir())} to free their space."
            )
        mark.write_text(json.dumps({"version": _VERSION}))

    def _fetch(self, name: str, final: Path) -> bool:
        if self._remote is None or not self._remote.exists(f"{self._remote_root}/{name}/{_RECORD}"):
            return False
        arriving = final.with_name(f"{final.name}.arriving")
        shutil.rmtree(arriving, ignore_errors=True)
        arriving.mkdir(parents=True)
        for path in self._remote.ls(f"{self._remote_root}/{name}", detail=False):
            self._remote.get_file(path, str(arriving / Path(path).name))
        arriving.replace(final)
        return True

    def _publish(self, name: str, work: Path) -> None:
        if self._remote is None:
            return
        self._remote.makedirs(f"{self._remote_root}/{name}", exist_ok=True)
        for path in sorted(work.iterdir(), key=lambda path: path.name == _RECORD):
            self._remote.put_file(str(path), f"{self._remote_root}/{name}/{path.name}")


def _name(kind: str, settings: Mapping[str, Any]) -> str:
    return f"{kind}/{fingerprint({'store': _VERSION, 'settings': settings})}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file so that it is never seen half-written: yield a temporary path, and move it when done.

    Raises:
        OSError: The disk is full, also where the writing library raises another error, as torch and safetensors do.
    """
    temporary = path.with_name(f"{path.name}.partial")
    try:
        yield temporary
        temporary.replace(path)
    except Exception as error:
        if shutil.disk_usage(path.parent).free < _FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _clear_disk_errors(location: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MimiaError(
                f"The disk of the store {location} is full: free some space and run the same command "
                "again, or choose another place with --store."
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.ENOTDIR) and error.filename is not None:
            raise MimiaError(f"The store {location} cannot be written: choose another place with --store.") from error
        raise
