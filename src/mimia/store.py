"""Content-addressed artifacts: what was computed once from the same settings is never computed again.

An artifact is a directory, named by its kind and by a fingerprint of everything that it was computed
from. It is built in a work directory beside its final place and moved there when it is complete, so that an
artifact either is whole or does not exist; a work directory outlives an interruption, so that its builder
can go on where it stopped. A store on a remote location (any that fsspec knows) is mirrored in a local cache,
because memory maps need local files.
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

from mimia.arrays import fingerprint
from mimia.errors import MimiaError

_RECORD = "artifact.json"  # written last: its presence says that an artifact is complete
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
        """Give the directory of an artifact; build it first if the store does not have it.

        Args:
            kind: What sort of artifact it is; the name of its parent directory.
            settings: Everything that its content depends on, as JSON values.
            build: Writes the artifact's files into the work directory that it is given. It may find
                there what an interrupted run has left.

        Raises:
            MimiaError: The disk is full, or the location cannot be written.
        """
        name = f"{kind}/{fingerprint(settings)}"
        final = self.root / name
        with _clear_disk_errors(self.location):
            if (final / _RECORD).exists():
                return final
            work = self.root / "work" / name
            work.mkdir(parents=True, exist_ok=True)
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
        """Give the directory of an artifact if the store has it here."""
        final = self.root / kind / fingerprint(settings)
        return final if (final / _RECORD).exists() else None

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


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file so that it is never seen half-written: give a temporary path, move it when done.

    Raises:
        OSError: The disk is full, even if what writes the file tells it otherwise, as torch and safetensors do.
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
