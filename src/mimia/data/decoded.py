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

from mimia.config.sizes import height_and_width
from mimia.data.account import SourceAccount
from mimia.data.bands import DecodeError
from mimia.data.bit_depth import refuse_unknown_depth
from mimia.data.decoding import DecodedImage, open_image, shorter_side, to_pixels
from mimia.data.file_metadata import facts_of
from mimia.data.imageset import ImageSet, LeftOut
from mimia.data.sources.base import Source, SourceImage
from mimia.data.sources.files import counted
from mimia.runtime.arrays import Floats, Ids, Pixels, content_id
from mimia.runtime.errors import MimiaError
from mimia.runtime.progress import progress

_CHUNK = 1024


class Shape(NamedTuple):
    """What images are decoded to.

    Attributes:
        size: Side of squares in pixels, or height and width.
        channels: 1 (grey), 3 (RGB), or the number of bands.
        bit_depth: Bits of deep images, if the user says them.
    """

    size: int | tuple[int, int]
    channels: int
    bit_depth: int | None


class Decoded(NamedTuple):
    """What an artifact holds.

    Attributes:
        images: Those of all sources, one source after the other.
        labels: Class of each image, (N,); empty where it is not known.
        accounts: What became of each source.
    """

    images: ImageSet
    labels: Ids
    accounts: tuple[SourceAccount, ...]


def read_decoded(directory: Path) -> Decoded:
    """Return the images of an artifact; the pixels are a memory map."""
    meta = json.loads((directory / "images.json").read_text())
    pixels: Pixels = np.memmap(directory / "pixels.u8", np.uint8, "r").reshape(meta["shape"])
    ids, names, labels = (np.array(meta[column], dtype=np.str_) for column in ("ids", "names", "labels"))
    images = ImageSet(pixels, ids, names, np.load(directory / "facts.npy"))
    return Decoded(images, labels, tuple(_account_of(**entry) for entry in meta["accounts"]))


def _account_of(name: str, found: int, left_out: list[dict[str, str]], notes: list[str]) -> SourceAccount:
    return SourceAccount(name, found, tuple(LeftOut(**entry) for entry in left_out), tuple(notes))


def write_decoded(sources: Sequence[Source], shape: Shape, pool: Executor, directory: Path) -> None:
    """Decode all images into an artifact.

    Raises:
        MimiaError: A source has no image that can be used, or deep images whose bits are not known.
    """
    ids: list[str] = []
    kept: list[SourceImage] = []
    facts: list[Floats] = []
    accounts: list[SourceAccount] = []
    with (directory / "pixels.u8").open("wb") as out, progress("decoding images", sum(map(len, sources))) as advance:
        for source in sources:
            found, left_out, largest, remarks = 0, list(source.unread), list[int](), Counter[str]()
            for chunk in _chunks(source):
                for item, result in zip(chunk, pool.map(partial(_try_decode, shape), chunk), strict=True):
                    if isinstance(result, LeftOut):
                        left_out.append(result)
                        continue
                    decoded, facts_of_file = result
                    ids.append(content_id(decoded.pixels))
                    kept.append(item._replace(image=b""))  # not to keep all of them in memory
                    facts.append(facts_of_file)
                    out.write(decoded.pixels.data)
                    largest.extend([] if decoded.largest is None else [decoded.largest])
                    remarks.update([decoded.remark] if decoded.remark else [])
                found += len(chunk)
                advance(len(chunk))
            notes = (
                *source.notes,
                *(f"{remark} ({counted(count, 'image')})" for remark, count in sorted(remarks.items())),
            )
            account = SourceAccount(source.name, found + len(source.unread), tuple(left_out), notes)
            if account.used == 0:
                raise MimiaError(f"No image of {source.name} can be used: {account.examples or 'it is empty'}.")
            refuse_unknown_depth(source.name, largest)
            accounts.append(account)
    np.save(directory / "facts.npy", np.stack(facts))
    meta = {
        "shape": [len(ids), shape.channels, *height_and_width(shape.size)],
        "ids": ids,
        "names": [item.name for item in kept],
        "labels": [item.label for item in kept],
        "accounts": [asdict(account) for account in accounts],
    }
    (directory / "images.json").write_text(json.dumps(meta))


def common_size(sources: Sequence[Source], channels: int, pool: Executor) -> int | None:
    """Return the shorter side that most images have, if there is one; ``channels`` are the bands that are wanted."""
    sizes: Counter[int] = Counter()
    with progress("reading image sizes", sum(map(len, sources))) as advance:
        for source in sources:
            for chunk in _chunks(source):
                sizes.update(filter(None, pool.map(partial(_try_shorter_side, channels), chunk)))
                advance(len(chunk))
    if not sizes:
        return 1  # nothing can be decoded, and decoding will say why
    size, votes = sizes.most_common(1)[0]
    return size if 2 * votes > sizes.total() else None


def _try_decode(shape: Shape, item: SourceImage) -> tuple[DecodedImage, Floats] | LeftOut:
    try:
        with open_image(item.image, shape.channels) as opened:
            facts = facts_of(opened, item.image)  # before decoding, which closes the file and may add entries
            return to_pixels(opened, shape.size, shape.channels, shape.bit_depth), facts
    except DecodeError as error:
        return LeftOut(item.name, str(error))


def _try_shorter_side(channels: int, item: SourceImage) -> int | None:
    try:
        return shorter_side(item.image, channels)
    except DecodeError:
        return None


def _chunks(source: Iterable[SourceImage]) -> Iterator[list[SourceImage]]:
    images = iter(source)
    while chunk := list(islice(images, _CHUNK)):
        yield chunk
