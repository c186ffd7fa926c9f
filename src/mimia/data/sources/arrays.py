"""Arrays and lists of images."""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from mimia.data.sources.base import SourceImage
from mimia.data.sources.in_memory import InMemorySource, as_image
from mimia.runtime.arrays import Pixels
from mimia.runtime.errors import MimiaError


class Arrays(InMemorySource):
    """A uint8 array, (N, H, W), (N, H, W, C) or (N, C, H, W), or a list of PIL images or of uint8 arrays of one image.

    Raises:
        MimiaError: The array has another number of axes.
    """

    def __init__(self, value: Pixels | Sequence[Image.Image | Pixels]) -> None:
        self._images = value
        self.name = "the array" if isinstance(value, np.ndarray) else "the list of images"
        if isinstance(value, np.ndarray) and value.ndim not in (3, 4):
            raise MimiaError(
                f"An array of images has the shape {value.shape}: pass (images, height, width), or four axes with the "
                "channels last or after the images."
            )

        if isinstance(value, np.ndarray) and value.ndim == 3 and value.shape[-1] in (3, 4):
            raise MimiaError(
                f"An array of the shape {value.shape} may be one image in colour: pass (images, height, width, "
                "channels), such as array[None]."
            )

    @staticmethod
    def recognise(value: object) -> bool:
        if isinstance(value, list | tuple):
            return all(isinstance(image, Image.Image | np.ndarray) for image in value)
        return isinstance(value, np.ndarray)

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[SourceImage]:
        for row, image in enumerate(self._images):
            yield SourceImage(f"image {row}", as_image(image, f"Image {row} of {self.name}"))
