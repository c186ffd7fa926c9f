"""Compute the numbers of many images batch by batch into a file, which outlives an interruption.

One batch is in memory at a time, whatever the number of images.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimia.data.imageset import ImageSet
from mimia.runtime.arrays import Floats, Ids, Indices, Pixels
from mimia.runtime.progress import progress
from mimia.runtime.store import replacing

_VALUES = "values.npy"
_DONE = "done"


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
    done_file, values_file = work / _DONE, work / _VALUES
    done = int(done_file.read_text()) if done_file.exists() else 0
    values = np.lib.format.open_memmap(values_file, mode="r+") if done else None
    with progress(f"scoring {name}", len(rows), done) as advance:
        for start in range(done, len(rows), batch):
            chosen = rows[start : start + batch]
            computed = compute(images.pixels[chosen], images.ids[chosen])
            if values is None:
                shape = (len(rows), computed.shape[1])
                values = np.lib.format.open_memmap(values_file, mode="w+", dtype=np.float32, shape=shape)
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
                values[start : start + len(chosen)] = computed
            values.flush()
            with replacing(done_file) as path:
                path.write_text(str(start + len(chosen)))
            advance(len(chosen))


def read_batches(artifact: Path) -> NDArray[np.float32]:
    """Return what `write_batches` wrote, (images, numbers)."""
    values: NDArray[np.float32] = np.load(artifact / _VALUES)
    return values
