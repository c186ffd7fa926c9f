"""The remote side of a store, at any location that fsspec knows."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mimia.runtime.artifacts import RECORD, read_record, safe_names
from mimia.runtime.errors import MimiaError


class Remote:
    """Artifacts at a remote location, each complete from when its record is there.

    Args:
        location: URL, for errors.
        filesystem: Of fsspec.
        root: Path in it.
    """

    def __init__(self, location: str, filesystem: Any, root: str) -> None:
        self._location = location
        self._filesystem = filesystem
        self._root = root

    def fetch(self, name: str, arriving: Path) -> bool:
        """Copy an artifact into an empty directory; return whether there is one.

        It is not checked: what is damaged there arrives damaged, and what is missing there is missing.
        """
        with self._clear_errors("read"):
            there = f"{self._root}/{name}"
            if not self._filesystem.exists(f"{there}/{RECORD}"):
                return False
            if self._filesystem.isfile(f"{there}/{RECORD}"):
                self._filesystem.get_file(f"{there}/{RECORD}", str(arriving / RECORD))
            record = read_record(arriving / RECORD)
            for file in (safe_names(record) or ()) if record else ():
                if self._filesystem.isfile(f"{there}/{file}"):
                    (arriving / file).parent.mkdir(parents=True, exist_ok=True)
                    self._filesystem.get_file(f"{there}/{file}", str(arriving / file))
        return True

    def publish(self, name: str, artifact: Path) -> None:
        """Copy an artifact to the remote location, in place of a damaged one."""
        with self._clear_errors("written"):
            there = f"{self._root}/{name}"
            self._filesystem.makedirs(there, exist_ok=True)
            if self._filesystem.exists(f"{there}/{RECORD}"):
                self._filesystem.rm(f"{there}/{RECORD}", recursive=True)
            files = sorted(path for path in artifact.rglob("*") if path.is_file() and path != artifact / RECORD)
            for path in [*files, artifact / RECORD]:
                target = f"{there}/{path.relative_to(artifact).as_posix()}"
                self._filesystem.makedirs(target.rpartition("/")[0], exist_ok=True)
                self._filesystem.put_file(str(path), target)

    @contextmanager
    def _clear_errors(self, done: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each file system has its own
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise MimiaError(
                f"The store {self._location} cannot be {done} ({reason[:120]}): see that it can be reached and has "
                "room, and run the same command again."
            ) from error
