"""The artifact of decoded images: pixels as a memory map, with ids, names, labels and facts."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mimia.data.decoding import DecodeError, open_image, shorter_side, to_pixels
from mimia.data.file_metadata import facts_of
from mimia.data.imageset import ImageSet, LeftOut
from mimia.data.sources.base import Source, SourceImage
from mimia.runtime.arrays import Floats, Ids, Pixels, content_id
from mimia.runtime.errors import MimiaError
from mimia.runtime.progress import progress

_CHUNK = 1024


class Decoded(NamedTuple):
    """What an artifact holds.

    Attributes:
        images: Those of all sources, one source after the other.
        counts: How many each source has.
        labels: Class of each image, (N,); empty where it is not known.
        left_out: What could not be used.
    """

    images: ImageSet
    counts: Sequence[int]
    labels: Ids
    left_out: tuple[LeftOut, ...]


def read_decoded(directory: Path) -> Decoded:
    """Return the images of an artifact; the pixels are a memory map."""
    meta = json.loads((directory / "images.json").read_text())
    pixels: Pixels = np.memmap(directory / "pixels.u8", np.uint8, "r").reshape(meta["shape"])
    ids, names, labels = (np.array(meta[column], dtype=np.str_) for column in ("ids", "names", "labels"))
    left_out = tuple(LeftOut(**entry) for entry in meta["left_out"])
    return Decoded(ImageSet(pixels, ids, names, np.load(directory / "facts.npy")), meta["counts"], labels, left_out)


def write_decoded(sources: Sequence[Source], size: int, channels: int, pool: Executor, directory: Path) -> None:
    """Decode all images into an artifact.

    Raises:
        MimiaError: A source has no image that can be used.
    """
    counts: list[int] = []
    ids: list[str] = []
    kept: list[SourceImage] = []
    facts: list[Floats] = []
    left_out: list[LeftOut] = []
    with (directory / "pixels.u8").open("wb") as out, progress("decoding images", sum(map(len, sources))) as advance:
        for source in sources:
            for chunk in _chunks(source):
                for item, result in zip(chunk, pool.map(partial(_try_decode, size, channels), chunk), strict=True):
                    if isinstance(result, LeftOut):
                        left_out.append(result)
                        continue
                    pixels, facts_of_file = result
                    ids.append(content_id(pixels))
                    kept.append(item._replace(image=b""))  # not to keep all of them in memory
                    facts.append(facts_of_file)
                    out.write(pixels.data)
                advance(len(chunk))
            counts.append(len(ids) - sum(counts))
            if counts[-1] == 0:
                why = f"{left_out[-1].name} is {left_out[-1].reason}" if left_out else "it is empty"
                raise MimiaError(f"No image of {source.name} can be used: {why}.")
    np.save(directory / "facts.npy", np.stack(facts))
    meta = {
        "shape": [len(ids), channels, size, size],
        "counts": counts,
        "ids": ids,
        "names": [item.name for item in kept],
        "labels": [item.label for item in kept],
        "left_out": [asdict(entry) for entry in left_out],
    }
    (directory / "images.json").write_text(json.dumps(meta))


def common_size(sources: Sequence[Source], pool: Executor) -> int | None:
    """Return the shorter side that most images have, if there is one."""
    sizes: Counter[int] = Counter()
    with progress("reading image sizes", sum(map(len, sources))) as advance:
        for source in sources:
            for chunk in _chunks(source):
                sizes.update(filter(None, pool.map(_try_shorter_side, chunk)))
                advance(len(chunk))
    if not sizes:
        return 1  # nothing can be decoded, and decoding will say why
    size, votes = sizes.most_common(1)[0]
    return size if 2 * votes > sizes.total() else None


def _try_decode(size: int, channels: int, item: SourceImage) -> tuple[Pixels, Floats] | LeftOut:
    try:
        with open_image(item.image) as opened:
            facts = facts_of(opened, item.image)  # before decoding, which closes the file and may add entries
            return to_pixels(opened, size, channels), facts
    except DecodeError as error:
        return LeftOut(item.name, str(error))


def _try_shorter_side(item: SourceImage) -> int | None:
    try:
        return shorter_side(item.image)
    except DecodeError:
        return None


def _chunks(source: Iterable[SourceImage]) -> Iterator[list[SourceImage]]:
    images = iter(source)
    while chunk := list(islice(images, _CHUNK)):
        yield chunk
