"""Where encoded images come from: the built-in digits, a folder, a parquet file, or any data set.

All give pairs of a name and an encoded image, so that there is one way to decode them.
"""

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import fsspec
import numpy as np
from PIL import Image

from mimia.arrays import fingerprint
from mimia.errors import MimiaError
from mimia.images.decode import Encoded

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
_PATIENCE = 5  # seconds until the hub counts as out of reach
_PARQUET_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels", "fine_label")


class Source(ABC):
    """Encoded images in a fixed order.

    Attributes:
        channels: 1 (grey) or 3 (RGB).
        fingerprint: Name of the content, cheap to find: it changes when a file does.
    """

    channels: ClassVar[Literal[1, 3]] = 3
    fingerprint: str

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __iter__(self) -> Iterator[tuple[str, Encoded]]:
        """Give name and encoded image of each."""

    @abstractmethod
    def labels(self) -> Sequence[str] | None:
        """Name the class of each image, or None if the source does not tell."""


class Digits(Source):
    """The 1,797 handwritten digits of scikit-learn, 8×8 pixels, as PNG."""

    channels = 1
    fingerprint = "scikit-learn digits"

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        self._images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        self._labels = digits.target

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[tuple[str, Encoded]]:
        for number, pixels in enumerate(self._images):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            yield f"digits/{number:04d}.png", buffer.getvalue()

    def labels(self) -> Sequence[str]:
        """The digits that they show."""
        return [str(digit) for digit in self._labels]


class Folder(Source):
    """The image files of a directory, at any depth, in the order of their paths."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._paths = sorted(
            path
            for path in directory.rglob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
        )
        self.fingerprint = _fingerprint_of_files(self._paths, directory)

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[tuple[str, Encoded]]:
        for path in self._paths:
            name = os.fsencode(path.relative_to(self._directory)).decode(errors="replace")
            yield name, path  # a report is UTF-8, and a file's name need not be

    def labels(self) -> Sequence[str] | None:
        """The folders in which they lie, unless some lie in none."""
        if any(path.parent == self._directory for path in self._paths):
            return None
        return [os.fsencode(path.parent.name).decode(errors="replace") for path in self._paths]


class Parquet(Source):
    """A parquet file in the layout of `datasets`: a column of encoded images, with or without paths.

    Raises:
        MimiaError: It is no parquet file, or has no such column.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        self._path = path
        try:
            self._file = parquet.ParquetFile(path)
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise MimiaError(f"{path} is not a readable parquet file ({_one_line(error)}): copy it again.") from error
        schema = self._file.schema_arrow
        self._column = next((name for name in _PARQUET_COLUMNS if name in schema.names), None)
        if self._column is None or not _holds_bytes(schema.field(self._column).type):
            raise MimiaError(
                f"{path} has no column 'image' of encoded images, but only: {', '.join(schema.names)}. "
                "Rename the column that holds them to 'image'."
            )
        self.fingerprint = _fingerprint_of_files([path], path.parent)

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def __iter__(self) -> Iterator[tuple[str, Encoded]]:
        row = 0
        try:
            for batch in self._file.iter_batches(1024, columns=[self._column]):
                for value in batch.column(0).to_pylist():
                    yield _name_and_bytes(value, f"{self._path.name} row {row}")
                    row += 1
        except (ValueError, OSError) as error:  # pyarrow's errors are among them
            raise MimiaError(f"{self._path} is damaged after row {row} ({_one_line(error)}): copy it again.") from error

    def labels(self) -> Sequence[str] | None:
        """What the column of labels holds, if there is one."""
        column = next((name for name in _LABEL_COLUMNS if name in self._file.schema_arrow.names), None)
        return None if column is None else [str(value) for value in self._file.read([column])[column].to_pylist()]


class HuggingFace(Source):
    """A data set that `datasets.load_dataset` opens: a directory, or the name of one on the hub.

    Args:
        name: What `load_dataset` is given.
        split: Name of a split; by default ``train``, or the only one.

    Raises:
        MimiaError: It cannot be opened, or has no such split or no column of images.
    """

    def __init__(self, name: str, split: str | None = None) -> None:
        import datasets

        self._name = name
        if not Path(name).exists():
            _refuse_without_network(name)
        try:
            splits = datasets.load_dataset(name)
        # load_dataset meets unknown names, missing networks and odd files with many types of exception.
        except Exception as error:
            raise MimiaError(
                f"No images at {name!r}: it is no existing folder of images or parquet file, and "
                f"datasets.load_dataset cannot open it ({type(error).__name__}: {_one_line(error)}). "
                "Check the path; without a network, pass a local folder or file."
            ) from error
        if split is None:
            split = "train" if "train" in splits else next(iter(splits))
        if split not in splits:
            raise MimiaError(f"{name} has no split {split!r}, but only: {', '.join(splits)}.")
        data = splits[split]
        column = next((key for key, kind in data.features.items() if isinstance(kind, datasets.Image)), None)
        if column is None:
            raise MimiaError(f"{name} has no column of images, but only: {', '.join(data.column_names)}.")
        self._data = data.select_columns([column]).cast_column(column, datasets.Image(decode=False))
        self._column = column
        classes = next((key for key, kind in data.features.items() if isinstance(kind, datasets.ClassLabel)), None)
        self._classes = None if classes is None else data.select_columns([classes])
        files = [Path(entry["filename"]) for entry in data.cache_files]
        self.fingerprint = _fingerprint_of_files(files, Path("/"))

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[tuple[str, Encoded]]:
        archives: dict[str, Any] = {}
        for row, example in enumerate(self._data):
            name, encoded = _name_and_bytes(example[self._column], f"{self._name} row {row}")
            if isinstance(encoded, Path) and "::" in name:
                encoded = _read_from_archive(name, archives)
            yield name, encoded

    def labels(self) -> Sequence[str] | None:
        """What the first column of class labels holds, if there is one."""
        return None if self._classes is None else [str(*example.values()) for example in self._classes]


def _refuse_without_network(name: str) -> None:
    """Tell at once that the hub is out of reach, where `datasets` would try for half a minute."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE:
        return
    try:
        HfApi().dataset_info(name, timeout=_PATIENCE)
    except (HfHubHTTPError, ValueError):
        return  # an answer, or no name: `datasets` says what is wrong
    except Exception as error:  # refused, no answer, no such host: each has an error of its own
        raise MimiaError(
            f"No images at {name!r}: it is no existing folder of images or parquet file, and the hub is out of reach: "
            "check the path, or set HF_HUB_OFFLINE=1 to use the copy of an earlier run."
        ) from error


def open_source(text: str) -> Source:
    """Open what a user means by a source of images.

    Args:
        text: ``digits``, a folder of images, a parquet file, or what `datasets.load_dataset` opens: a directory
            of data files or ``NAME`` or ``NAME:SPLIT`` of the hub.

    Raises:
        MimiaError: There are no images there.

    >>> len(open_source("digits"))
    1797
    """
    if text == "digits":
        return Digits()
    path = Path(text).expanduser()
    if path.suffix == ".parquet" and path.is_file():
        return Parquet(path)
    if path.is_file():
        raise MimiaError(f"{text} is a file, but neither a folder of images nor a parquet file.")
    if path.is_dir():
        folder = Folder(path)
        if len(folder):
            return folder
        data_files = {".parquet", ".arrow", ".tar", ".zip"}
        if not any(file.suffix in data_files for file in path.rglob("*")):
            suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
            raise MimiaError(f"There are no image files ({suffixes}) in the folder {text}: pass one that has some.")
        return HuggingFace(str(path))
    if path.is_absolute() or text.startswith((".", "~")) or path.suffix == ".parquet":
        raise MimiaError(f"{text} does not exist: pass a folder of images or a parquet file.")
    name, _, split = text.partition(":")
    return HuggingFace(name, split or None)


def _holds_bytes(kind: Any) -> bool:
    import pyarrow

    if pyarrow.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))


def _name_and_bytes(value: Any, fallback: str) -> tuple[str, Encoded]:
    """Read one value of an image column: bytes, or a struct of bytes and path, either of them null."""
    if not isinstance(value, dict):
        return fallback, value or b""
    name = value.get("path") or fallback
    if value["bytes"] is None and value.get("path"):
        return name, Path(name)
    return name, value["bytes"] or b""


def _read_from_archive(name: str, archives: dict[str, Any]) -> bytes:
    """Read a file such as ``zip://cat.png::/data/photos.zip``, which `datasets` leaves in its archive.

    Args:
        name: What `datasets` calls it.
        archives: Those that are open already, by their paths.
    """
    place, archive = name.split("::", 1)
    protocol, inside = place.split("://", 1)
    try:
        if archive not in archives:
            archives[archive] = fsspec.filesystem(protocol, fo=archive)
        return bytes(archives[archive].cat_file(inside))
    # A damaged archive is met with many types of exception; what cannot be read is left out as no image.
    except Exception:
        return b""


def _one_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "no reason given").rstrip(".: ")


def _fingerprint_of_files(paths: list[Path], base: Path) -> str:
    state = {}
    for path in paths:
        stat = path.stat()
        state[str(path.relative_to(base))] = [stat.st_size, stat.st_mtime_ns]
    return fingerprint(state)
