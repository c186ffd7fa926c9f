"""A folder of image files, and of arrays of images."""

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from mimia.data.array_bands import SUFFIX, images_in_stack, open_npy
from mimia.data.decoding import ImageInput
from mimia.data.imageset import LeftOut
from mimia.data.sources.band_counts import most_common_bands
from mimia.data.sources.base import Source, SourceImage
from mimia.data.sources.files import (
    chosen_split,
    directory_and_split,
    fingerprint_of_files,
    is_image,
    list_images,
    readable,
    split_named,
    walk,
)
from mimia.data.sources.parquet import tables_of_images
from mimia.runtime.arrays import fingerprint

_MAY_HAVE_BANDS = frozenset({".tif", ".tiff", SUFFIX})


class Folder(Source):
    """The image files of a directory, at any depth, in the order of their paths: ``FOLDER`` or ``FOLDER:SPLIT``.

    A ``.npy`` file has one image, or several if its array has four axes. The label is the name of the folder in which a
    file lies, unless some files lie directly in the directory.

    Raises:
        MimiaError: Its folders are splits, such as ``train`` and ``test``, and none is chosen.
    """

    def __init__(self, value: str | Path) -> None:
        self.name = str(value)
        found = directory_and_split(value)
        assert found is not None, "only directories are recognised"
        self._directory, split = found
        listing = list_images(self._directory)
        tables = tables_of_images(self._directory)
        unread = [LeftOut(name, f"a parquet file of {rows:,} rows") for name, rows in tables.items()]
        self._paths, self.unread, self.notes = listing.images, (*listing.unread, *unread), listing.notes
        splits = _splits(self._directory, self._paths)
        if split or len(splits) > 1:
            chosen, note = chosen_split(str(self._directory), splits, split)
            self._paths, self.notes = tuple(splits[chosen]), (note, *self.notes)
        self._labelled = all(path.parent != self._directory for path in self._paths)
        self._stacks = {path: images_in_stack(path) for path in self._paths if path.suffix.lower() == SUFFIX}

    @cached_property
    def fingerprint(self) -> str:
        files = fingerprint_of_files(self._paths, self._directory)
        return fingerprint({"files": files, "unread": list(map(str, self.unread)), "notes": self.notes})

    @cached_property
    def channels(self) -> int:
        others = sum(path.suffix.lower() not in _MAY_HAVE_BANDS for path in self._paths)
        if others == len(self._paths):
            return 3
        banded = (path for path in self._paths if path.suffix.lower() in _MAY_HAVE_BANDS)
        return most_common_bands((image for path in banded for _, image in self._images_of(path)), self.name, others)

    @staticmethod
    def recognise(value: object) -> bool:
        found = directory_and_split(value)
        return found is not None and any(is_image(path) and not reason for path, reason in walk(found[0]))

    def __len__(self) -> int:
        return sum(self._stacks.get(path) or 1 for path in self._paths)

    def __iter__(self) -> Iterator[SourceImage]:
        for path in self._paths:
            label = readable(path.parent.name) if self._labelled else ""
            for name, image in self._images_of(path):
                yield SourceImage(name, image, label)

    def _images_of(self, path: Path) -> Iterator[tuple[str, ImageInput]]:
        """Yield the name and the image of a file, or those of all images of its stack."""
        name = readable(path.relative_to(self._directory))
        if self._stacks.get(path) is None:
            yield name, path
        else:
            yield from ((f"{name}/{row}", image) for row, image in enumerate(open_npy(path)))


def _splits(directory: Path, paths: tuple[Path, ...]) -> dict[str, list[Path]]:
    """Return the images of each split, if each image lies in a folder that is named like one."""
    splits: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        split = split_named(*path.relative_to(directory).parts[:-1])
        if split is None:
            return {}
        splits[split].append(path)
    return splits
