"""Load the images of one or several sources, each decoded once."""

import os
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mimia.config.sizes import height_and_width
from mimia.data.account import SourceAccount, refuse_if_many_left_out
from mimia.data.bands import MOST_BANDS
from mimia.data.bit_depth import DEEPEST
from mimia.data.decoded import Shape, common_size, read_decoded, write_decoded
from mimia.data.decoding import refuse_bombs
from mimia.data.file_metadata import FACTS
from mimia.data.imageset import ImageSet
from mimia.data.sources import open_source
from mimia.data.sources.base import Source, SourceLike
from mimia.runtime.arrays import Ids, Indices
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store

_VERSION = 3  # of the decoding: raised when it gives other pixels or leaves out others


@dataclass(frozen=True)
class LoadedImages:
    """The images of several sides, of one size.

    Attributes:
        images: All of them; the rows of a source stand together.
        rows: Which rows each side has; sides of the same source have the same.
        labels: Class of each image, (N,); empty where it is not known.
        accounts: What became of each source.
    """

    images: ImageSet
    rows: dict[str, Indices]
    labels: Ids
    accounts: tuple[SourceAccount, ...]


@dataclass(frozen=True)
class ReadOptions:
    """How images are read.

    Attributes:
        image_size: Side of squares in pixels, or height and width; by default the shorter side that most images have.
        channels: 1 (grey), 3 (RGB), or the number of bands; by default the bands that most images have, or 3 where they
            are in colours, and 1 if all sources are grey, as the digits and arrays without colours are.
        size_if_mixed: The size where none is given and most images differ.
        bit_depth: Bits of the values of grey images and bands of 16 or 32 bits; by default what the files say or show.
        allow_skipped: Whether more than 1 % of a source may be left out.
    """

    image_size: int | tuple[int, int] | None = None
    channels: int | None = None
    size_if_mixed: int | tuple[int, int] | None = None
    bit_depth: int | None = None
    allow_skipped: bool = False


def load_sides(sources: Mapping[str, SourceLike], store: Store, reading: ReadOptions | None = None) -> LoadedImages:
    """Decode images into the store; what cannot be used is left out and listed.

    Args:
        sources: What `mimia.data.sources.open_source` opens, by side; the same path or object is read once.
        store: Keeps the decoded images.
        reading: How they are read.

    Raises:
        MimiaError: A source holds no image that can be used, more than 1 % of one is left out, most images differ in
            size and no size is given, or it is not known how many bits their values have.
    """
    reading = reading or ReadOptions()
    opened: dict[object, Source] = {}
    for value in sources.values():
        if _key(value) not in opened:
            opened[_key(value)] = open_source(value)
    distinct = list(opened.values())
    state = {
        "sources": [[source.name, source.fingerprint] for source in distinct],
        "image_size": reading.image_size,
        "channels": reading.channels,
        "size_if_mixed": reading.size_if_mixed,
        "bit_depth": reading.bit_depth,
        "facts": FACTS,
        "version": _VERSION,
    }

    def build(work: Path) -> None:
        with refuse_bombs(), ThreadPoolExecutor(os.cpu_count()) as pool:
            channels = reading.channels or max(source.channels for source in distinct)
            size = reading.image_size or common_size(distinct, channels, pool) or reading.size_if_mixed
            if size is None:
                raise MimiaError("The images differ in size: pass a size to scale them to (image_size, --image-size).")
            write_decoded(distinct, Shape(size, channels, reading.bit_depth), pool, work)

    decoded = read_decoded(store.make("images", state, build))
    if not reading.allow_skipped:
        refuse_if_many_left_out(decoded.accounts)
    bounds = np.cumsum([0, *(account.used for account in decoded.accounts)])
    rows = {key: np.arange(bounds[place], bounds[place + 1]) for place, key in enumerate(opened)}
    return LoadedImages(
        images=decoded.images,
        rows={side: rows[_key(value)] for side, value in sources.items()},
        labels=decoded.labels,
        accounts=decoded.accounts,
    )


def load_images(
    images: SourceLike | ImageSet,
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    bit_depth: int | None = None,
    allow_skipped: bool = False,
    store: Store | str | Path | None = None,
) -> ImageSet:
    """Return the images of one source, scaled and cropped to one size.

    Args:
        images: A path or name, or images in memory, as `mimia.data.sources.open_source` describes them. An `ImageSet`
            is returned as it is.
        image_size: Side of squares in pixels, or height and width; by default the shorter side that most images have.
        channels: 1 (grey), 3 (RGB), or the number of bands; by default the bands that most images have, or 3 where they
            are in colours, and 1 if all are known to be grey.
        bit_depth: Bits of the values of grey images and bands of 16 or 32 bits; by default what the files say or show.
        allow_skipped: Whether more than 1 % of the images may be left out.
        store: Where decoded images are kept for the next time; by default they are only in memory.

    Warns:
        UserWarning: Some images are left out, because they are broken or too small, say.

    Raises:
        MimiaError: There is no image that can be used, more than 1 % are left out, most differ in size and no size is
            given, or it is not known how many bits their values have.

    >>> load_images(np.zeros((10, 32, 32, 3), dtype=np.uint8), image_size=16)
    ImageSet(10 images, 3×16×16)
    """
    if isinstance(images, ImageSet):
        return images
    if image_size is not None and min(height_and_width(image_size)) < 1:
        raise MimiaError(f"image_size is {image_size!r}: pass positive numbers of pixels.")
    if channels is not None and not 1 <= channels <= MOST_BANDS:
        raise MimiaError(f"channels is {channels!r}: pass 1 (grey), 3 (RGB), or a number of bands up to {MOST_BANDS}.")
    if bit_depth is not None and not 1 <= bit_depth <= DEEPEST:
        raise MimiaError(f"bit_depth is {bit_depth!r}: pass the bits of a value, from 1 to {DEEPEST}.")
    reading = ReadOptions(image_size, channels, bit_depth=bit_depth, allow_skipped=allow_skipped)
    with TemporaryDirectory() as directory:
        place = store if isinstance(store, Store) else Store(store or directory)
        loaded = load_sides({"images": images}, place, reading)
        found = loaded.images if store is not None else loaded.images.take(np.arange(len(loaded.images)))
    if loaded.accounts[0].left_out:
        warnings.warn(str(loaded.accounts[0]), stacklevel=2)
    return found


def _key(value: SourceLike) -> object:
    return value if isinstance(value, str | Path) else id(value)
