"""Images at a URL that fsspec opens, such as ``s3://bucket/photos`` or ``https://host/images.parquet``."""

import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import fsspec
from platformdirs import user_cache_path

from mimia.data.sources.base import Source, SourceImage
from mimia.data.sources.files import directory_and_split, one_line
from mimia.runtime.arrays import fingerprint
from mimia.runtime.errors import MimiaError
from mimia.runtime.text import masked_address

_SAYS_NOTHING = frozenset({"name", "type", "atime"})  # of a file's content


class Remote(Source):
    """A file or a folder at a URL: ``file://`` is read where it lies, all else copied to the user's cache before.

    Raises:
        MimiaError: fsspec lacks what the URL needs, or cannot read there; or what it finds there holds no images.
    """

    def __init__(self, value: str) -> None:
        from mimia.data.sources import open_source

        self.name = masked_address(value)
        path, split = _local_copy(value)
        try:
            self._local = open_source(f"{path}:{split}" if split else str(path))
        except MimiaError as error:  # which names the copy
            raise MimiaError(str(error).replace(str(path), self.name.removesuffix(f":{split}"))) from error
        self.unread, self.notes = self._local.unread, self._local.notes

    @property
    def channels(self) -> int:
        return self._local.channels

    @property
    def fingerprint(self) -> str:
        return self._local.fingerprint

    @staticmethod
    def recognise(value: object) -> bool:
        return isinstance(value, str) and "://" in value

    def __len__(self) -> int:
        return len(self._local)

    def __iter__(self) -> Iterator[SourceImage]:
        return iter(self._local)


def _local_copy(url: str) -> tuple[Path, str]:
    """Return the local path of what is at ``URL`` or ``URL:SPLIT``, and the split or an empty text."""
    name = masked_address(url)
    if url.startswith("file://"):
        path = Path(unquote(url.removeprefix("file://").removeprefix("localhost")))
        if not path.is_absolute():
            raise MimiaError(f"{name} is no address of a file: it has to be file:///ABSOLUTE/PATH.")
        return directory_and_split(path) or (path, "")
    try:
        files, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MimiaError(f"{name} cannot be opened ({one_line(error)}): install what fsspec needs for it.") from error
    except Exception as error:  # each file system has its own
        raise MimiaError(f"{name} cannot be opened ({_reason(error, url)}): check the address.") from error
    try:
        split = ""
        if not files.exists(root):
            whole, _, split = root.rpartition(":")
            root, split = (whole, split) if whole and files.exists(whole) else (root, "")
        return _copied(files, root, files.find(root, detail=True) or {root: files.info(root)}), split
    except Exception as error:  # each file system has its own
        raise MimiaError(f"{name} cannot be read ({_reason(error, url)}): check the address and the access.") from error


def _reason(error: Exception, url: str) -> str:
    """Return why, without what the error repeats of an address with a user or a password."""
    return type(error).__name__ if "@" in url else f"{type(error).__name__}: {one_line(error)}"


def _copied(files: Any, root: str, found: dict[str, dict[str, Any]]) -> Path:
    """Copy files to the cache, if they are not there; those that have changed are other files.

    What the file system says of each file, but for its last reading, tells whether it has. Where that is the size
    alone, they are copied each time.
    """
    state = {
        path: {key: str(value) for key, value in info.items() if key not in _SAYS_NOTHING}
        for path, info in found.items()
    }
    place = user_cache_path("mimia") / "downloads" / fingerprint({"root": root, "files": state})
    single = list(found) == [root]
    if any(facts.keys() <= {"size"} for facts in state.values()):
        shutil.rmtree(place, ignore_errors=True)
    if not place.exists():
        arriving = place.with_name(f"{place.name}.arriving")
        shutil.rmtree(arriving, ignore_errors=True)
        for path in found:
            inside = PurePosixPath(path).name if single else str(PurePosixPath(path).relative_to(root))
            target = arriving / inside
            if not target.resolve().is_relative_to(arriving.resolve()):
                raise ValueError(f"the file {path} leads out of its folder")
            target.parent.mkdir(parents=True, exist_ok=True)
            files.get_file(path, str(target))
        arriving.replace(place)
    return place / PurePosixPath(root).name if single else place
