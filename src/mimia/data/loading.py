"""Load the images of one or several sources, each decoded once."""

import os
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mimia.data.decoded import common_size, read_decoded, write_decoded
from mimia.data.decoding import refuse_bombs
from mimia.data.file_metadata import FACTS
from mimia.data.imageset import ImageSet, LeftOut
from mimia.data.sources import open_source
from mimia.data.sources.base import Source, SourceLike
from mimia.runtime.arrays import Ids, Indices
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store

_LISTED = 3  # of the images left out, in a warning


@dataclass(frozen=True)
class LoadedImages:
    """The images of several sides, of one size.

    Attributes:
        images: All of them; the rows of a source stand together.
        rows: Which rows each side has; sides of the same source have the same.
        labels: Class of each image, (N,); empty where it is not known.
        left_out: What could not be used.
    """

    images: ImageSet
    rows: dict[str, Indices]
    labels: Ids
    left_out: tuple[LeftOut, ...]


def load_sides(
    sources: Mapping[str, SourceLike],
    store: Store,
    image_size: int | None = None,
    channels: int | None = None,
    size_if_mixed: int | None = None,
) -> LoadedImages:
    """Decode images into the store; a broken one is left out and listed, and never ends a run.

    Args:
        sources: What `mimia.data.sources.open_source` opens, by side; the same path or object is read once.
        store: Keeps the decoded images.
        image_size: Height and width in pixels; by default the shorter side that most images have.
        channels: 1 or 3; by default 1 if all sources are grey, as the digits and arrays without colours are, else 3.
        size_if_mixed: The size where none is given and most images differ.

    Raises:
        MimiaError: A source holds no image that can be used, or most differ in size and no size is given.
    """
    opened: dict[object, Source] = {}
    for value in sources.values():
        if _key(value) not in opened:
            opened[_key(value)] = open_source(value)
    distinct = list(opened.values())
    channels = channels or max(source.channels for source in distinct)
    state = {
        "sources": [[source.name, source.fingerprint] for source in distinct],
        "image_size": image_size,
        "channels": channels,
        "size_if_mixed": size_if_mixed,
        "facts": FACTS,
        "labels": True,
    }

    def build(work: Path) -> None:
        with refuse_bombs(), ThreadPoolExecutor(os.cpu_count()) as pool:
            size = image_size or common_size(distinct, pool) or size_if_mixed
            if size is None:
                raise MimiaError("The images differ in size: pass a size to scale them to (image_size, --image-size).")
            write_decoded(distinct, size, channels, pool, work)

    decoded = read_decoded(store.make("images", state, build))
    bounds = np.cumsum([0, *decoded.counts])
    rows = {key: np.arange(bounds[place], bounds[place + 1]) for place, key in enumerate(opened)}
    return LoadedImages(
        images=decoded.images,
        rows={side: rows[_key(value)] for side, value in sources.items()},
        labels=decoded.labels,
        left_out=decoded.left_out,
    )


def load_images(
    images: SourceLike | ImageSet,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    store: Store | str | Path | None = None,
) -> ImageSet:
    """Return the images of one source, scaled and cropped to squares of one size.

    Args:
        images: A path or name, or images in memory, as `mimia.data.sources.open_source` describes them. An `ImageSet`
            is returned as it is.
        image_size: Height and width in pixels; by default the shorter side that most images have.
        channels: 1 (grey) or 3 (RGB); by default 1 if all images are known to be grey, else 3.
        store: Where decoded images are kept for the next time; by default they are only in memory.

    Warns:
        UserWarning: Some images are broken or too small, and left out.

    Raises:
        MimiaError: There is no image that can be used, or most differ in size and no size is given.

    >>> load_images(np.zeros((10, 32, 32, 3), dtype=np.uint8), image_size=16)
    ImageSet(10 images, 3×16×16)
    """
    if isinstance(images, ImageSet):
        return images
    if image_size is not None and image_size < 1:
        raise MimiaError(f"image_size is {image_size!r}: pass a positive number of pixels.")
    if channels not in (None, 1, 3):
        raise MimiaError(f"channels is {channels!r}: pass 1 (grey) or 3 (RGB).")
    if store is None:
        with TemporaryDirectory() as directory:
            kept = load_images(images, image_size=image_size, channels=channels, store=directory)
            return kept.take(np.arange(len(kept)))
    place = store if isinstance(store, Store) else Store(store)
    loaded = load_sides({"images": images}, place, image_size, channels)
    if loaded.left_out:
        reasons = "; ".join(f"{entry.name} is {entry.reason}" for entry in loaded.left_out[:_LISTED])
        warnings.warn(f"Images left out: {len(loaded.left_out)} ({reasons})", stacklevel=2)
    return loaded.images


def _key(value: SourceLike) -> object:
    return value if isinstance(value, str | Path) else id(value)
