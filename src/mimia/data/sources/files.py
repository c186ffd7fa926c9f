"""What the sources that read files share."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mimia.data.decoding import ImageInput
from mimia.runtime.arrays import fingerprint

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


def fingerprint_of_files(paths: Iterable[Path], base: Path) -> str:
    """Return a fingerprint of the files' paths below a directory, their sizes and their times of modification."""
    state = {}
    for path in paths:
        stat = path.stat()
        state[str(path.relative_to(base))] = [stat.st_size, stat.st_mtime_ns]
    return fingerprint(state)


def name_and_image(value: Any, fallback: str) -> tuple[str, ImageInput]:
    """Read one value of an image column: bytes, or a struct of bytes and path, either of them null.

    Args:
        value: The value.
        fallback: Name of an image that has no path.
    """
    if not isinstance(value, dict):
        return fallback, value or b""
    name = value.get("path") or fallback
    if value["bytes"] is None and value.get("path"):
        return name, Path(name)
    return name, value["bytes"] or b""


def one_line(error: Exception) -> str:
    """Return the first line of an error's text."""
    return next(iter(str(error).splitlines()), "no reason given").rstrip(".: ")
