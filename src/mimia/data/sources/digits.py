"""The built-in images, which need no network and no file."""

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from mimia.data.sources.base import Source, SourceImage


class Digits(Source):
    """The 1,797 handwritten digits of scikit-learn, 8×8 pixels, as PNG; the label is the digit."""

    channels = 1
    fingerprint = "scikit-learn digits"

    def __init__(self, value: str = "digits") -> None:
        from sklearn.datasets import load_digits

        self.name = value
        digits = load_digits()
        self._images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        self._labels = digits.target

    @staticmethod
    def recognise(value: object) -> bool:
        return isinstance(value, str) and value == "digits"

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[SourceImage]:
        for number, (pixels, label) in enumerate(zip(self._images, self._labels, strict=True)):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            yield SourceImage(f"digits/{number:04d}.png", buffer.getvalue(), str(label))
