"""Numbers of many images, batch by batch into a file: at an interruption, what is done is kept.

What is held in memory is one batch, whatever the number of images.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimia.arrays import Floats, Ids, Indices, Pixels
from mimia.images.imageset import ImageSet
from mimia.progress import progress
from mimia.store import replacing

_VALUES = "values.npy"
_DONE = "done"


def write_batches(
    measure: Callable[[Pixels, Ids], Floats], images: ImageSet, rows: Indices, batch: int, name: str, work: Path
) -> None:
    """Measure images and write the numbers into the work directory of an artifact; go on where a run stopped.

    Args:
        measure: Raw pixels, uint8, (B, C, H, W), and content ids, (B,), to numbers, (B, numbers).
        images: Where the images are.
        rows: Which of them are measured.
        batch: Images of one batch.
        name: For the progress bar.
        work: Directory that outlives an interruption.
    """
    done_file, values_file = work / _DONE, work / _VALUES
    done = int(done_file.read_text()) if done_file.exists() else 0
    values = np.lib.format.open_memmap(values_file, mode="r+") if done else None
    with progress(f"scoring {name}", len(rows), done) as advance:
        for start in range(done, len(rows), batch):
            chosen = rows[start : start + batch]
            measured = measure(images.pixels[chosen], images.ids[chosen])
            if values is None:
                shape = (len(rows), measured.shape[1])
                values = np.lib.format.open_memmap(values_file, mode="w+", dtype=np.float32, shape=shape)
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
                values[start : start + len(chosen)] = measured
            values.flush()
            with replacing(done_file) as path:
                path.write_text(str(start + len(chosen)))
            advance(len(chosen))


def read_batches(artifact: Path) -> NDArray[np.float32]:
    """Read what `write_batches` wrote: (images, numbers)."""
    values: NDArray[np.float32] = np.load(artifact / _VALUES)
    return values
