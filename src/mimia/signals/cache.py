"""Compute the numbers of many images batch by batch into a file, which outlives an interruption.

One batch is in memory at a time, whatever the number of images. The file is written and not mapped, because a process
that writes a mapped file to a full disk is killed without a word.
"""

import io
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from mimia.data.imageset import ImageSet
from mimia.runtime.arrays import Floats, Ids, Indices, Pixels
from mimia.runtime.interruption import Stopped, saving_before_stop
from mimia.runtime.progress import progress, say
from mimia.runtime.sealed import discard
from mimia.runtime.store import replacing
from mimia.runtime.timing import seconds_each

_VALUES = "values.npy"
_DONE = "done"
_TYPE = np.dtype("<f4")
_BLOCK = 1 << 20  # bytes that are read at once


class _Written(NamedTuple):
    """What an earlier run has computed.

    Attributes:
        rows: Number of images.
        numbers: Of each image.
        digest: Checksum of the file so far, which goes on.
    """

    rows: int
    numbers: int
    digest: Any


def write_batches(
    compute: Callable[[Pixels, Ids], Floats], images: ImageSet, rows: Indices, batch: int, name: str, work: Path
) -> None:
    """Write the numbers of images into the work directory of an artifact; an interrupted run is continued.

    Args:
        compute: Raw pixels, uint8, (B, C, H, W), and content ids, (B,), to numbers, (B, numbers).
        images: All images.
        rows: Rows of the images to compute.
        batch: Images in one batch.
        name: Label of the progress bar.
        work: Directory that outlives an interruption.
    """
    done, numbers, digest = _written_before(work, len(rows), name)
    with (
        progress(f"scoring {name}", len(rows), done) as advance,
        saving_before_stop() as is_to_stop,
        (work / _VALUES).open("r+b" if done else "wb") as file,
    ):
        file.truncate(_size(len(rows), done, numbers))
        file.seek(0, io.SEEK_END)
        for start in range(done, len(rows), batch):
            chosen = rows[start : start + batch]
            computed = compute(images.pixels[chosen], images.ids[chosen])
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
                block = np.ascontiguousarray(computed, _TYPE).tobytes()
            if start == 0:
                numbers = computed.shape[1]
                block = _header(len(rows), numbers) + block
            elif computed.shape[1] != numbers:
                raise ValueError(
                    f"{name} has {numbers} numbers for the first images and {computed.shape[1]} for others"
                )
            file.write(block)
            file.flush()
            digest.update(block)
            state = {"rows": start + len(chosen), "numbers": numbers, "xxh3": digest.hexdigest()}
            with replacing(work / _DONE) as path:
                path.write_text(json.dumps(state))
            advance(len(chosen))
            if is_to_stop():
                raise Stopped


def write_first_batch(
    compute: Callable[[Pixels, Ids], Floats], images: ImageSet, rows: Indices, batch: int, work: Path, *, repeated: bool
) -> float:
    """Compute the first batch, write its numbers for all images, and return the seconds that all of them take.

    Args:
        compute: As for `write_batches`, as are the images, rows, batch and work directory.
        images: All images.
        rows: Rows of the images to compute.
        batch: Images in one batch.
        work: Directory of the artifact.
        repeated: Whether the batch may be computed again for the time, which the first time makes too long.
    """
    chosen = rows[:batch]
    first = partial(compute, images.pixels[chosen], images.ids[chosen])
    started = time.perf_counter()
    computed = first()
    seconds = seconds_each(first) if repeated else time.perf_counter() - started
    np.save(work / _VALUES, np.resize(computed, (len(rows), computed.shape[1])).astype(_TYPE))
    return seconds / len(chosen) * len(rows)


def read_batches(artifact: Path) -> NDArray[np.float32]:
    """Return what `write_batches` wrote, (images, numbers)."""
    values: NDArray[np.float32] = np.load(artifact / _VALUES)
    return values


def _written_before(work: Path, images: int, name: str) -> _Written:
    """Return what an interrupted run has computed; nothing, and say so, if it is damaged."""
    if not (work / _DONE).exists():
        return _Written(0, 0, xxhash.xxh3_128())
    try:
        state = json.loads((work / _DONE).read_bytes())
        written = _Written(state["rows"], state["numbers"], xxhash.xxh3_128())
        left = _size(images, written.rows, written.numbers)
        with (work / _VALUES).open("rb") as file:
            while left > 0 and (block := file.read(min(left, _BLOCK))):
                written.digest.update(block)
                left -= len(block)
        if left == 0 and 0 < written.rows <= images and written.digest.hexdigest() == state["xxh3"]:
            return written
    except (ValueError, LookupError, TypeError, OSError):
        pass  # damaged, in one way or another
    say(f"What an interrupted run has computed of {name} is damaged: it is computed anew.")
    for file_name in (_DONE, _VALUES):
        discard(work / file_name)
    return _Written(0, 0, xxhash.xxh3_128())


def _size(images: int, rows: int, numbers: int) -> int:
    """Return the bytes of the file when it has some of the images."""
    return len(_header(images, numbers)) + rows * numbers * _TYPE.itemsize if rows else 0


def _header(images: int, numbers: int) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": _TYPE.str, "fortran_order": False, "shape": (images, numbers)}
    )
    return header.getvalue()
