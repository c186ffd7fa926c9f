"""Numbers of many images, batch by batch into a file: at an interruption, what is done is kept.

What is held in memory is one batch, whatever the number of images.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimia.arrays import Floats, Ids, Indices, Pixels
from mimia.config import SignalSettings
from mimia.images.imageset import ImageSet
from mimia.progress import progress
from mimia.store import replacing

_VALUES = "values.npy"
_DONE = "done"


def write_batches(
    measure: Callable[[Pixels, Ids], Floats],
    images: ImageSet,
    rows: Indices,
    settings: SignalSettings,
    name: str,
    work: Path,
) -> None:
    """Measure images and write the numbers into the work directory of an artifact; go on where a run stopped.

    Args:
        measure: Raw pixels, uint8, (B, C, H, W), and content ids, (B,), to numbers, (B, draws).
        images: Where the images are.
        rows: Which of them are measured.
        settings: Draws for each image, and how many draws of all images a batch has.
        name: What the progress bar calls the model.
        work: Directory that outlives an interruption.
    """
    done_file = work / _DONE
    done = int(done_file.read_text()) if done_file.exists() else 0
    values = np.lib.format.open_memmap(
        work / _VALUES, mode="r+" if done else "w+", dtype=np.float32, shape=(len(rows), settings.draws)
    )
    batch = max(1, settings.batch_size // settings.draws)
    with progress(f"scoring: {name}", len(rows), done) as advance:
        for start in range(done, len(rows), batch):
            chosen = rows[start : start + batch]
            values[start : start + len(chosen)] = measure(images.pixels[chosen], images.ids[chosen])
            values.flush()
            with replacing(done_file) as path:
                path.write_text(str(start + len(chosen)))
            advance(len(chosen))
    done_file.unlink()


def read_batches(artifact: Path) -> NDArray[np.float32]:
    """Read what `write_batches` wrote: (images, draws)."""
    values: NDArray[np.float32] = np.load(artifact / _VALUES)
    return values
