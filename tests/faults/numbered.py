"""Images of four pixels, and a signal of them, for tests of how signals are kept."""

import numpy as np

from mimia.data.imageset import ImageSet
from mimia.runtime.arrays import Floats, Ids, Pixels


def numbered(count: int) -> ImageSet:
    """Return images that differ as long as there are few of them, under numbers."""
    return ImageSet(
        pixels=(np.arange(count * 4) % 256).astype(np.uint8).reshape(count, 1, 2, 2),
        ids=np.array([f"{number:032x}" for number in range(count)]),
        names=np.array([f"{number}.png" for number in range(count)]),
        facts=np.zeros((count, 1), np.float32),
    )


def halves(pixels: Pixels, _: Ids) -> Floats:
    """Return the signal: half of each pixel."""
    values: Floats = pixels.reshape(len(pixels), -1) / 2
    return values
