"""Decode the images of all sources of a run once, into one memory map in the store."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import TypeVar

import numpy as np

from mimia.arrays import Floats, Ids, Indices, Pixels, content_id
from mimia.errors import MimiaError
from mimia.images.decode import DecodeError, Encoded, open_image, refuse_bombs, shorter_side, to_pixels
from mimia.images.facts import FACTS, facts_of
from mimia.images.imageset import ImageSet, LeftOut
from mimia.images.sources import Source, open_source
from mimia.progress import progress
from mimia.store import Store

_CHUNK = 1024
_T = TypeVar("_T")


@dataclass(frozen=True)
class LoadedImages:
    """The images of several sources, of one size.

    Attributes:
        images: All of them; the rows of a source stand together.
        rows: Which rows each source has.
        labels: Class of each image, (N,); empty where its source does not tell.
        left_out: What could not be used.
    """

    images: ImageSet
    rows: dict[str, Indices]
    labels: Ids
    left_out: tuple[LeftOut, ...]


def load_images(
    sources: Sequence[str],
    store: Store,
    image_size: int | None = None,
    channels: int | None = None,
    size_if_mixed: int | None = None,
) -> LoadedImages:
    """Decode images; a broken one is left out and listed, and never ends a run.

    Args:
        sources: What `open_source` opens; one that is named twice is read once.
        store: Keeps the decoded images.
        image_size: Height and width in pixels; by default the shorter side that most images have.
        channels: 1 or 3; by default 1 for the digits and 3 for all else.
        size_if_mixed: The size where none is given and most images differ.

    Raises:
        MimiaError: A source holds no image that can be used, or most differ in size and no size is given.
    """
    names = list(dict.fromkeys(sources))
    opened = [open_source(name) for name in names]
    channels = channels or max(source.channels for source in opened)
    state = {
        "sources": [[name, source.fingerprint] for name, source in zip(names, opened, strict=True)],
        "image_size": image_size,
        "channels": channels,
        "size_if_mixed": size_if_mixed,
        "facts": FACTS,
        "labels": True,
    }

    def build(work: Path) -> None:
        with refuse_bombs(), ThreadPoolExecutor(os.cpu_count()) as pool:
            size = image_size or _common_size(opened, pool) or size_if_mixed
            if size is None:
                raise MimiaError(
                    "The images differ in size: say with --image-size to how many pixels they shall be brought."
                )
            _decode_all(dict(zip(names, opened, strict=True)), size, channels, pool, work)

    path = store.make("images", state, build)
    meta = json.loads((path / "images.json").read_text())
    pixels: Pixels = np.memmap(path / "pixels.u8", np.uint8, "r").reshape(meta["shape"])
    facts: Floats = np.load(path / "facts.npy")
    bounds = np.cumsum([0, *meta["counts"]])
    return LoadedImages(
        images=ImageSet(pixels, np.array(meta["ids"]), np.array(meta["names"]), facts),
        rows={name: np.arange(bounds[i], bounds[i + 1]) for i, name in enumerate(names)},
        labels=np.array(meta["labels"], dtype=np.str_),
        left_out=tuple(LeftOut(**entry) for entry in meta["left_out"]),
    )


def _decode_all(opened: dict[str, Source], size: int, channels: int, pool: ThreadPoolExecutor, work: Path) -> None:
    counts: list[int] = []
    ids: list[str] = []
    kept: list[str] = []
    classes: list[str] = []
    facts: list[Floats] = []
    left_out: list[LeftOut] = []
    total = sum(map(len, opened.values()))
    with (work / "pixels.u8").open("wb") as out, progress("decoding images", total) as advance:
        for source_name, source in opened.items():
            before = len(ids)
            labels = iter(source.labels() or repeat(""))
            for chunk in _chunks(iter(source)):
                decoded = pool.map(partial(_try_decode, size, channels), chunk)
                for (name, _), result, label in zip(chunk, decoded, islice(labels, len(chunk)), strict=True):
                    if isinstance(result, LeftOut):
                        left_out.append(result)
                    else:
                        pixels, facts_of_file = result
                        ids.append(content_id(pixels))
                        kept.append(name)
                        classes.append(label)
                        facts.append(facts_of_file)
                        out.write(pixels.data)
                advance(len(chunk))
            counts.append(len(ids) - before)
            if counts[-1] == 0:
                why = f"{left_out[-1].name} is {left_out[-1].reason}" if left_out else "it is empty"
                raise MimiaError(f"No image of {source_name} can be used: {why}.")
    np.save(work / "facts.npy", np.stack(facts))
    meta = {
        "shape": [len(ids), channels, size, size],
        "counts": counts,
        "ids": ids,
        "names": kept,
        "labels": classes,
        "left_out": [asdict(entry) for entry in left_out],
    }
    (work / "images.json").write_text(json.dumps(meta))


def _try_decode(size: int, channels: int, item: tuple[str, Encoded]) -> tuple[Pixels, Floats] | LeftOut:
    name, encoded = item
    try:
        with open_image(encoded) as image:
            facts = facts_of(image, encoded)  # before decoding, which closes the file and may add entries
            return to_pixels(image, size, channels), facts
    except DecodeError as error:
        return LeftOut(name, str(error))


def _common_size(opened: Sequence[Source], pool: ThreadPoolExecutor) -> int | None:
    """Find the shorter side that most images have, if there is one."""
    sizes: Counter[int] = Counter()
    with progress("reading image sizes", sum(map(len, opened))) as advance:
        for source in opened:
            for chunk in _chunks(iter(source)):
                sizes.update(filter(None, pool.map(_try_shorter_side, chunk)))
                advance(len(chunk))
    if not sizes:
        return 1  # nothing can be decoded, and decoding will say why
    size, votes = sizes.most_common(1)[0]
    return size if 2 * votes > sizes.total() else None


def _try_shorter_side(item: tuple[str, Encoded]) -> int | None:
    try:
        return shorter_side(item[1])
    except DecodeError:
        return None


def _chunks(items: Iterator[_T]) -> Iterator[list[_T]]:
    while chunk := list(islice(items, _CHUNK)):
        yield chunk
