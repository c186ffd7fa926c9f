"""A folder of image files."""

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from mimia.data.sources.base import Source, SourceImage
from mimia.data.sources.files import IMAGE_SUFFIXES, fingerprint_of_files


class Folder(Source):
    """The image files of a directory, at any depth, in the order of their paths.

    The label is the name of the folder in which a file lies, unless some files lie directly in the directory.
    """

    def __init__(self, value: str | Path) -> None:
        self.name = str(value)
        self._directory = Path(value).expanduser()
        self._paths = sorted(_image_files(self._directory))
        self._labelled = all(path.parent != self._directory for path in self._paths)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of_files(self._paths, self._directory)

    @staticmethod
    def recognise(value: object) -> bool:
        return isinstance(value, str | Path) and any(_image_files(Path(value).expanduser()))

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[SourceImage]:
        for path in self._paths:
            label = _readable(path.parent.name) if self._labelled else ""
            yield SourceImage(_readable(path.relative_to(self._directory)), path, label)


def _image_files(directory: Path) -> Iterator[Path]:
    for path in directory.rglob("*"):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file():
            yield path


def _readable(path: str | Path) -> str:
    """Return the path as valid UTF-8, which a report is and a file's name need not be."""
    return os.fsencode(path).decode(errors="replace")
