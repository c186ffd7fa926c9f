"""What the sources of images in memory share."""

import hashlib
import json
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mimia.data.decoding import ImageInput, Unreadable
from mimia.data.sources.band_counts import most_common_bands
from mimia.data.sources.base import Source
from mimia.runtime.arrays import Pixels
from mimia.runtime.errors import MimiaError

_CHANNELS = (1, 3, 4)
_GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N")


class _Summary(NamedTuple):
    fingerprint: str
    channels: int


class InMemorySource(Source):
    """A source whose fingerprint is that of all its images, and whose bands are theirs: one pass finds out both."""

    @cached_property
    def _summary(self) -> _Summary:
        digest = hashlib.blake2b(digest_size=16)
        grey, banded = True, False
        for name, image, label in self:
            grey = grey and isinstance(image, Image.Image) and image.mode in _GREY
            banded = banded or isinstance(image, np.ndarray)
            kind, content = _content(image)
            digest.update(json.dumps([name, label, len(content), kind]).encode())
            digest.update(content)
        channels = most_common_bands((item.image for item in self), self.name) if banded else 1 if grey else 3
        return _Summary(digest.hexdigest(), channels)

    @cached_property
    def fingerprint(self) -> str:
        return self._summary.fingerprint

    @cached_property
    def channels(self) -> int:
        return self._summary.channels


def as_image(image: Any, name: str) -> Image.Image | Pixels:
    """Return an image in memory as Pillow's, or as an array if it has other bands than Pillow's.

    Args:
        image: A PIL image; or a uint8 array or tensor, (H, W), (H, W, C) or (C, H, W). With 1, 3 or 4 channels it is an
            image of Pillow's, and where the first and the last axis could be that of the channels, it is the last.
        name: What an error calls the image.

    Raises:
        MimiaError: It is something else.
    """
    if isinstance(image, Image.Image):
        return image
    if not hasattr(image, "dtype"):
        raise MimiaError(f"{name} is a {type(image).__name__}: pass PIL images, or uint8 arrays or tensors.")
    if str(image.dtype) not in ("uint8", "torch.uint8"):
        raise MimiaError(
            f"{name} has pixels of type {image.dtype}, whose range is not known: pass uint8 pixels from 0 to 255, and "
            "leave out transforms such as ToTensor and Normalize."
        )
    array: Pixels = np.asarray(image.cpu() if hasattr(image, "cpu") else image)
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise MimiaError(
            f"{name} has the shape {tuple(image.shape)}: pass (height, width), (height, width, channels) "
            "or (channels, height, width)."
        )
    if array.ndim == 3 and array.shape[-1] not in _CHANNELS and array.shape[0] in _CHANNELS:
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[-1] not in _CHANNELS:
        return array
    return Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2:] == (1,) else array))


def _content(image: ImageInput) -> tuple[list[Any], bytes]:
    """Return all that decoded pixels and metadata depend on: short values, and bytes."""
    if isinstance(image, bytes):
        return ["encoded"], image
    if isinstance(image, Unreadable):
        return [image.reason], b""
    if isinstance(image, np.ndarray):
        return ["array", image.shape], image.tobytes()
    if not isinstance(image, Image.Image):
        stat = image.stat() if image.exists() else None
        return [str(image), stat and [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]], b""
    kind = [image.mode, image.size, repr(image.info.get("transparency"))]
    try:
        return [*kind, image.getpalette()], image.tobytes()
    except Exception:  # decoding leaves it out and lists why
        return kind, b""
