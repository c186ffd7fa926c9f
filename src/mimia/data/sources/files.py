"""What the sources that read files share."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from mimia.data.array_bands import SUFFIX
from mimia.data.decoding import ImageInput, Unreadable, readable_formats
from mimia.data.imageset import LeftOut
from mimia.runtime.arrays import fingerprint
from mimia.runtime.errors import MimiaError
from mimia.runtime.text import shortened

PARQUET_SUFFIXES = frozenset({".parquet", ".pq", ".parq"})
_ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"})
_NO_DATA = frozenset(
    {".txt", ".md", ".rst", ".html", ".xml", ".json", ".jsonl", ".csv", ".tsv", ".toml", ".yaml", ".yml", ".ini"}
    | {".log", ".py", ".ipynb", ".sh", ".md5", ".sha1", ".sha256", ".pdf", ".db", ".lock", ".crc", *PARQUET_SUFFIXES}
    | {".pth", ".pt", ".safetensors", ".ckpt", ".onnx"}
)
_GUESSED = frozenset({"TGA", "ICO", "PCX", "SGI"})  # formats whose files hardly differ from others at their beginning
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("eval", "evaluation"), "evaluation"),
    **dict.fromkeys(("holdout", "heldout"), "holdout"),
}


class Listing(NamedTuple):
    """The files of a directory.

    Attributes:
        images: Image files, in the order of their paths.
        unread: What looks like data and is no image file, each with the reason.
        others: How many files of other kinds there are, by their suffix.
    """

    images: tuple[Path, ...]
    unread: tuple[LeftOut, ...]
    others: Counter[str]

    @property
    def notes(self) -> tuple[str, ...]:
        """Return a note on the files that are no data."""
        kinds = ", ".join(sorted(self.others))
        return (f"{counted(self.others.total(), 'other file')} ({kinds})",) if self.others else ()


@cache
def image_suffixes() -> frozenset[str]:
    """Return the suffixes of the formats that are read."""
    formats = {*readable_formats(), "MPO"}
    return frozenset({suffix for suffix, name in Image.registered_extensions().items() if name in formats} | {SUFFIX})


def list_images(directory: Path) -> Listing:
    """List a directory, at any depth; linked folders are followed, and what is not used is listed with the reason."""
    images: list[Path] = []
    unread: list[LeftOut] = []
    others: Counter[str] = Counter()
    for path, reason in walk(directory):
        suffix = path.suffix.lower()
        if path.name.startswith(".") or suffix in _NO_DATA:
            others["hidden" if path.name.startswith(".") else suffix] += 1
        elif reason is None and (suffix in image_suffixes() or (not suffix and _begins_as_image(path))):
            images.append(path)
        elif reason is None and not suffix:
            others["no suffix"] += 1
        else:
            name = readable(path.relative_to(directory))
            unread.append(LeftOut(name, reason or _why_unread(suffix)))
    return Listing(tuple(sorted(images)), tuple(sorted(unread, key=lambda entry: entry.name)), others)


def walk(directory: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield every file below a directory, with the reason if it cannot be read.

    A linked folder is followed, unless it leads to one in which it lies itself.
    """
    waiting = [(directory, frozenset[str]())]
    while waiting:
        folder, above = waiting.pop()
        here = os.path.realpath(folder)
        if here in above:
            yield folder, "a link to a folder in which it lies"
            continue
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            yield folder, f"a folder that cannot be listed ({error.strerror})"
            continue
        for entry in entries:
            if _is_endless_link(entry):
                yield Path(entry.path), "a broken link"
            elif entry.is_dir():
                if entry.name.startswith("."):
                    yield from ((path, "in a hidden folder") for path in _images_below(Path(entry.path)))
                else:
                    waiting.append((Path(entry.path), above | {here}))
            elif entry.is_file():
                yield Path(entry.path), None
            else:
                yield Path(entry.path), "not a regular file" if Path(entry.path).exists() else "a broken link"


def _is_endless_link(entry: "os.DirEntry[str]") -> bool:
    """Return whether an entry is a link that leads to itself, of which the system says nothing more."""
    try:
        entry.is_dir()
    except OSError:
        return True
    return False


def is_image(path: Path) -> bool:
    """Return whether the name of a file is that of an image."""
    return path.suffix.lower() in image_suffixes() and not path.name.startswith(".")


def directory_and_split(value: object) -> tuple[Path, str] | None:
    """Return the directory of ``DIRECTORY`` or ``DIRECTORY:SPLIT``, and the split or an empty text."""
    if not isinstance(value, str | Path):
        return None
    if (path := Path(value).expanduser()).is_dir():
        return path, ""
    name, colon, split = str(value).rpartition(":")
    return (path, split) if colon and (path := Path(name).expanduser()).is_dir() else None


def split_named(*names: str) -> str | None:
    """Return the split of which the first of several names speaks, if one does.

    >>> split_named("train-00000-of-00002"), split_named("cats"), split_named("data", "split=val")
    ('train', None, 'validation')
    """
    words = (re.split(r"[^a-z]+", name.lower().rpartition("=")[2])[0] for name in names)
    return next((_SPLITS[word] for word in words if word in _SPLITS), None)


def chosen_split(name: str, splits: Iterable[str], wanted: str) -> tuple[str, str]:
    """Return the split that a user wants, or the only one, and a note on the others.

    Raises:
        MimiaError: There is no such split, or there are several and none is wanted.
    """
    splits = sorted(splits)
    if wanted and not splits:
        raise MimiaError(f"{name} has no splits: leave out :{wanted}.")
    if not wanted and len(splits) > 1:
        raise MimiaError(f"{name} has the splits {', '.join(splits)}: say which, as in {name}:{splits[0]}.")
    chosen = wanted or splits[0]
    if chosen not in splits:
        raise MimiaError(f"{name} has no split {wanted!r}, but only: {', '.join(splits)}.")
    others = [split for split in splits if split != chosen]
    return chosen, f"the split {chosen} alone" + (f", not {', '.join(others)}" if others else "")


def fingerprint_of_files(paths: Iterable[Path], base: Path) -> str:
    """Return a fingerprint of the files' paths below a directory, their sizes, and when they and their state changed.

    The time of modification alone is kept by copies and archives, also where they bring another content.
    """
    state = {}
    for path in paths:
        stat = path.stat()
        state[str(path.relative_to(base))] = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    return fingerprint(state)


def name_and_image(value: Any, fallback: str) -> tuple[str, ImageInput]:
    """Read one value of an image column: bytes, a path, or a struct of both, either of them null.

    Args:
        value: The value.
        fallback: Name of an image that has no path.
    """
    content, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    if isinstance(content, str):
        content, path = None, content
    return path or fallback, Path(path) if content is None and path else content or b""


def confined(image: ImageInput, folders: Sequence[Path]) -> ImageInput:
    """Return the image, or why it is not read: a path of it starts from the first folder, and leads out of all."""
    if not isinstance(image, Path):
        return image
    path = folders[0] / image
    if any(path.resolve().is_relative_to(folder.resolve()) for folder in folders):
        return path
    return Unreadable(f"outside of {folders[0]}, which is all that is read: copy it there")


def counted(count: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "file"), counted(2000, "file")
    ('1 file', '2,000 files')
    """
    return f"{count:,} {noun}" + ("s" if count != 1 else "")


def one_line(error: Exception) -> str:
    """Return the first line of an error's text."""
    return shortened(next(iter(str(error).splitlines()), "no reason given").rstrip(".: "), 120)


def readable(path: str | Path) -> str:
    """Return a path as valid UTF-8, which a report is and a file's name need not be."""
    return os.fsencode(path).decode(errors="replace")


def _why_unread(suffix: str) -> str:
    if suffix in _ARCHIVES:
        return "an archive: unpack it"
    return f"a file of another kind ({suffix}): convert it to PNG or JPEG if it is an image"


def _begins_as_image(path: Path) -> bool:
    try:
        with Image.open(path, formats=[name for name in readable_formats() if name not in _GUESSED]):
            return True
    except Exception:  # Pillow's readers meet other files with nearly every type of exception
        return False


def _images_below(directory: Path) -> Iterator[Path]:
    yield from (path for path in sorted(directory.rglob("*")) if is_image(path))
