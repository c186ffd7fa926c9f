"""What the sources of images in memory share."""

import hashlib
import json
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mimia.data.decoding import ImageInput, Unreadable
from mimia.data.sources.base import Source
from mimia.runtime.errors import MimiaError

_CHANNELS = (1, 3, 4)
_GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N")


class _Summary(NamedTuple):
    fingerprint: str
    channels: int


class InMemorySource(Source):
    """A source whose fingerprint is that of all its images, and which is grey if they are: one pass finds out both."""

    @cached_property
    def _summary(self) -> _Summary:
        digest = hashlib.blake2b(digest_size=16)
        grey = True
        for name, image, label in self:
            grey = grey and isinstance(image, Image.Image) and image.mode in _GREY
            kind, content = _content(image)
            digest.update(json.dumps([name, label, len(content), kind]).encode())
            digest.update(content)
        return _Summary(digest.hexdigest(), 1 if grey else 3)

    @cached_property
    def fingerprint(self) -> str:
        return self._summary.fingerprint

    @cached_property
    def channels(self) -> int:
        return self._summary.channels


def as_pillow(image: Any, name: str) -> Image.Image:
    """Return an image in memory as Pillow's.

    Args:
        image: A PIL image; or a uint8 array or tensor, (H, W), (H, W, C) or (C, H, W), with 1, 3 or 4 channels. Where
            the first and the last axis could be that of the channels, it is the last.
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
    array = np.asarray(image.cpu() if hasattr(image, "cpu") else image)
    if array.ndim == 3 and array.shape[-1] not in _CHANNELS and array.shape[0] in _CHANNELS:
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[-1] in _CHANNELS):
        raise MimiaError(
            f"{name} has the shape {tuple(image.shape)}: pass (height, width), (height, width, channels) "
            "or (channels, height, width) with 1, 3 or 4 channels."
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _content(image: ImageInput) -> tuple[list[Any], bytes]:
    """Return all that decoded pixels and metadata depend on: short values, and bytes."""
    if isinstance(image, bytes):
        return ["encoded"], image
    if isinstance(image, Unreadable):
        return [image.reason], b""
    if not isinstance(image, Image.Image):
        stat = image.stat() if image.exists() else None
        return [str(image), stat and [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]], b""
    kind = [image.mode, image.size, repr(image.info.get("transparency"))]
    try:
        return [*kind, image.getpalette()], image.tobytes()
    except Exception:  # decoding leaves it out and lists why
        return kind, b""
