"""What every image source has in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

from mimia.data.decoding import ImageInput
from mimia.data.imageset import LeftOut


class Indexable(Protocol):
    """A sequence, an array, or a map-style data set."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


SourceLike: TypeAlias = str | Path | Indexable
"""What `mimia.data.sources.open_source` takes for images."""


class SourceImage(NamedTuple):
    """An image as its source yields it.

    Attributes:
        name: Where it came from, for the reader of a report.
        image: Not decoded, or an image of Pillow's.
        label: Its class; empty where it is not known.
    """

    name: str
    image: ImageInput
    label: str = ""


class Source(ABC):
    """Images in a fixed order, the same each time.

    Args:
        value: What `recognise` accepts.

    Attributes:
        name: What error messages call the source.
        unread: What looks like data there and is not among the images, each with the reason.
        notes: What else its reader has to know, such as which split it is.

    Raises:
        MimiaError: The value has no images that can be read.
    """

    name: str
    unread: Sequence[LeftOut] = ()
    notes: Sequence[str] = ()

    @property
    def channels(self) -> int:
        """1 (grey), 3 (RGB), or the number of bands, unless the caller chooses."""
        return 3

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash that changes when an image, its name or its label does."""

    @abstractmethod
    def __init__(self, value: Any) -> None: ...

    @staticmethod
    @abstractmethod
    def recognise(value: object) -> bool:
        """Return whether this source opens the value, without importing a large library."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __iter__(self) -> Iterator[SourceImage]: ...
