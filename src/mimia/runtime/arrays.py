"""Array types, and hashes of arrays and settings."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Bools: TypeAlias = NDArray[np.bool_]
Floats: TypeAlias = NDArray[np.float32 | np.float64]
Ids: TypeAlias = NDArray[np.str_]
Indices: TypeAlias = NDArray[np.intp]
Pixels: TypeAlias = NDArray[np.uint8]


def content_id(pixels: Pixels) -> str:
    """Return the id of an image: a hash of its shape and its decoded pixels.

    Args:
        pixels: uint8, (C, H, W).

    Returns:
        32 hexadecimal digits of BLAKE2b.

    >>> content_id(np.zeros((1, 2, 2), np.uint8)) == content_id(np.zeros((1, 1, 4), np.uint8))
    False
    """
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Return a hash of JSON values that does not depend on the order of keys.

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def fingerprint_of_ids(ids: Iterable[str]) -> str:
    """Return a hash of a sequence of image ids that depends on their order.

    >>> fingerprint_of_ids(["a", "b"]) == fingerprint_of_ids(["b", "a"])
    False
    """
    digest = hashlib.sha256()
    for name in ids:
        digest.update(f"{name}\n".encode())
    return digest.hexdigest()[:32]
