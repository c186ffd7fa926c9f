"""A ``.npy`` file that holds a stack of images."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from mimia.data.array_bands import SUFFIX, images_in_stack, open_npy
from mimia.data.sources.band_counts import most_common_bands
from mimia.data.sources.base import Source, SourceImage
from mimia.data.sources.files import fingerprint_of_files
from mimia.runtime.errors import MimiaError


class Npy(Source):
    """A stack of images, (N, H, W, C) or (N, C, H, W), in a ``.npy`` file; files of one image are read from a folder.

    Raises:
        MimiaError: It is no such stack.
    """

    def __init__(self, value: str | Path) -> None:
        self.name = str(value)
        self._path = Path(value).expanduser()
        length = images_in_stack(self._path)
        if length is None:
            raise MimiaError(
                f"{value} is no stack of images, an array of four axes, (images, height, width, bands) or (images, "
                "bands, height, width): give grey images an axis of one band, and put files of one image into a folder."
            )
        self._length = length

    @property
    def fingerprint(self) -> str:
        return fingerprint_of_files([self._path], self._path.parent)

    @cached_property
    def channels(self) -> int:
        return most_common_bands((item.image for item in self), self.name)

    @staticmethod
    def recognise(value: object) -> bool:
        path = Path(value).expanduser() if isinstance(value, str | Path) else None
        return path is not None and path.suffix.lower() == SUFFIX and path.is_file()

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[SourceImage]:
        for row, image in enumerate(open_npy(self._path)):
            yield SourceImage(f"{self._path.name}/{row}", image)
