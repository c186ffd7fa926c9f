"""An opened data set of Hugging Face's `datasets`."""

import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import fsspec

from mimia.data.sources.base import SourceImage
from mimia.data.sources.files import confined, fingerprint_of_files, name_and_image
from mimia.data.sources.in_memory import InMemorySource
from mimia.runtime.arrays import fingerprint
from mimia.runtime.errors import MimiaError


class HuggingFaceDataset(InMemorySource):
    """A `datasets.Dataset` with a column of images; the label is its first column of class labels.

    Args:
        value: The data set.
        name: What error messages call it.
        folders: Where files lie that it may name; none elsewhere is read. By default they may lie anywhere.

    Raises:
        MimiaError: It has no column of images, several none of which is called ``image``, or is several data sets.
    """

    def __init__(self, value: Any, name: str = "the data set", folders: Sequence[Path] = ()) -> None:
        import datasets

        self.name = name
        self._folders = folders
        if isinstance(value, datasets.DatasetDict):
            raise MimiaError(f"A DatasetDict has several data sets: pass one of them ({', '.join(value)}).")
        image, self.notes = _image_column(value, name)
        label = next(iter(_columns_of(value, datasets.ClassLabel)), None)
        self._columns = [image] if label is None else [image, label]
        undecoded = value.with_format(None).select_columns(self._columns)
        self._data = undecoded.cast_column(image, datasets.Image(decode=False))

    @staticmethod
    def recognise(value: object) -> bool:
        datasets = sys.modules.get("datasets")
        return datasets is not None and isinstance(value, datasets.Dataset | datasets.DatasetDict)

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[SourceImage]:
        archives: dict[str, Any] = {}
        for row, example in enumerate(self._data):
            value, *label = (example[column] for column in self._columns)
            name, image = name_and_image(value, f"{self.name} row {row}")
            if isinstance(image, Path) and "::" in name:
                image = _read_from_archive(name, archives)
            yield SourceImage(name, confined(image, self._folders) if self._folders else image, *map(str, label))


class DatasetFiles(HuggingFaceDataset):
    """A data set of `datasets` that is read from files, whose state is its fingerprint: no image is read for it.

    Attributes:
        files: The files.
    """

    channels = 3
    files: Sequence[Path]

    @cached_property
    def fingerprint(self) -> str:
        files = fingerprint_of_files(self.files, Path("/"))
        return fingerprint({"files": files, "unread": list(map(str, self.unread)), "notes": self.notes})


def _image_column(data: Any, name: str) -> tuple[str, tuple[str, ...]]:
    """Return the column of images, and a note if there are others."""
    import datasets

    columns = _columns_of(data, datasets.Image)
    if not columns:
        raise MimiaError(f"{name} has no column of images, but only: {', '.join(data.column_names)}.")
    if len(columns) == 1:
        return columns[0], ()
    if "image" not in columns:
        raise MimiaError(f"{name} has several columns of images ({', '.join(columns)}): rename the one to 'image'.")
    return "image", (f"the column image alone, not {', '.join(column for column in columns if column != 'image')}",)


def _columns_of(data: Any, kind: type) -> list[str]:
    return [name for name, feature in data.features.items() if isinstance(feature, kind)]


def _read_from_archive(name: str, archives: dict[str, Any]) -> bytes:
    """Read a file such as ``zip://cat.png::/data/photos.zip``, which `datasets` leaves in its archive.

    Args:
        name: What `datasets` calls it.
        archives: Those that are open already, by their paths.
    """
    place, archive = name.split("::", 1)
    protocol, inside = place.split("://", 1)
    try:
        if archive not in archives:
            archives[archive] = fsspec.filesystem(protocol, fo=archive)
        return bytes(archives[archive].cat_file(inside))
    # A damaged archive is met with many types of exception; what cannot be read is left out as no image.
    except Exception:
        return b""
