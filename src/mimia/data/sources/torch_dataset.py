"""Data sets of torch, and other sequences of images or of images with labels."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mimia.data.sources.base import Indexable, SourceImage
from mimia.data.sources.in_memory import InMemorySource, as_image


class TorchDataset(InMemorySource):
    """A map-style torch `Dataset`, or any sequence: each item is an image, or an image and its label.

    The images are PIL images, or uint8 arrays or tensors, and the same at each access: a data set that augments them
    at random cannot be audited. An item is read two or three times, so that image files are read faster from a folder.
    """

    name = "the data set"

    def __init__(self, value: Indexable) -> None:
        self._items = value

    @staticmethod
    def recognise(value: object) -> bool:
        indexable = hasattr(value, "__len__") and hasattr(value, "__getitem__")
        return indexable and not isinstance(value, str | bytes | Path | Mapping)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[SourceImage]:
        for row in range(len(self)):
            item = self._items[row]
            image, *rest = item if isinstance(item, tuple | list) else (item,)
            label = _text(rest[0]) if rest else ""
            yield SourceImage(f"image {row}", as_image(image, f"Image {row} of the data set"), label)


def _text(label: Any) -> str:
    return str(label.item() if hasattr(label, "item") else label)  # a tensor's text would name its type too
