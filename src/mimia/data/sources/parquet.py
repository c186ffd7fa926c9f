"""Parquet files of images: one, or all those of a directory."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from mimia.data.decoding import Unreadable
from mimia.data.imageset import LeftOut
from mimia.data.sources.base import Source, SourceImage
from mimia.data.sources.files import (
    PARQUET_SUFFIXES,
    chosen_split,
    confined,
    counted,
    directory_and_split,
    fingerprint_of_files,
    list_images,
    name_and_image,
    one_line,
    readable,
    split_named,
    walk,
)
from mimia.data.sources.parquet_columns import Columns, choose_columns, holds_encoded, image_columns
from mimia.runtime.arrays import fingerprint
from mimia.runtime.errors import MimiaError

_FEW = 10  # where one kind of data is this many times more numerous, the other is a preview or a table beside it
_LISTED = 3
_PART = re.compile(r"(?P<before>.*?)(?P<number>\d+)-of-(?P<of>\d+)(?P<after>.*)")
_MOST_PARTS = 100_000


class _Table(NamedTuple):
    path: Path
    file: Any  # pyarrow.parquet.ParquetFile
    columns: Columns


class Parquet(Source):
    """Parquet files with a column of images: encoded, as paths, or as `datasets` writes both; or lists of these.

    One file, or all files of a directory, at any depth: ``FOLDER`` or ``FOLDER:SPLIT``. Paths of images start from the
    directory of their file, and none may lead out of it.

    Raises:
        MimiaError: A file cannot be read, none has such a column, several could be it, the files are of several splits
            and none is chosen, or as many image files lie beside them.
    """

    def __init__(self, value: str | Path) -> None:
        self.name = str(value)
        found = directory_and_split(value)
        if found is None:
            path = Path(value).expanduser()
            self._base, self._tables = path.parent, [_open(path)]
            self.notes = self._tables[0].columns.notes
            return
        self._base, split = found
        paths = _parquet_files(self._base)
        by_split = _by_split(self._base, paths)
        if split or by_split:
            chosen, note = chosen_split(str(self._base), by_split, split)
            paths, self.notes = by_split[chosen], (note,)
        self._tables = [_open(path) for path in paths if image_columns(_schema(path))] or [_open(paths[0])]
        self.notes = (*self.notes, *dict.fromkeys(note for table in self._tables for note in table.columns.notes))
        self._say_what_is_beside(len(paths) - len(self._tables))

    @cached_property
    def fingerprint(self) -> str:
        files = fingerprint_of_files([table.path for table in self._tables], self._base)
        return fingerprint({"files": files, "unread": list(map(str, self.unread)), "notes": self.notes})

    @staticmethod
    def recognise(value: object) -> bool:
        if (found := directory_and_split(value)) is not None:
            return _has_more_than_images(found[0])
        return isinstance(value, str | Path) and _is_parquet(Path(value).expanduser())

    def __len__(self) -> int:
        return sum(table.file.metadata.num_rows for table in self._tables)

    def __iter__(self) -> Iterator[SourceImage]:
        for table in self._tables:
            yield from self._read(table)

    def _read(self, table: _Table) -> Iterator[SourceImage]:
        name, row = readable(table.path.relative_to(self._base)), 0
        image, label = table.columns.image, table.columns.label
        try:
            for batch in table.file.iter_batches(1024, columns=[image, *([label] if label else [])]):
                labels = batch[label].to_pylist() if label else [""] * len(batch)
                for cell, of_cell in zip(batch[image].to_pylist(), labels, strict=True):
                    if cell == []:
                        yield SourceImage(f"{name} row {row}", Unreadable("an empty list"), str(of_cell))
                    for place, value in enumerate(images := cell if isinstance(cell, list) else [cell]):
                        fallback = f"{name} row {row}" + (f" image {place}" if len(images) > 1 else "")
                        path_or_row, found = name_and_image(value, fallback)
                        yield SourceImage(path_or_row, confined(found, [table.path.parent]), str(of_cell))
                    row += 1
        except (ValueError, OSError) as error:  # pyarrow's errors are among them
            raise MimiaError(f"{table.path} is damaged after row {row} ({one_line(error)}): copy it again.") from error

    def _say_what_is_beside(self, without_images: int) -> None:
        listing = list_images(self._base)
        if len(listing.images) * _FEW > len(self):
            raise MimiaError(
                f"{self._base} has {len(self):,} rows in parquet files and {len(listing.images):,} image files: pass a "
                "folder or a file that has only those you mean."
            )
        self.unread = (*listing.unread, *_missing_parts(table.path for table in self._tables))
        if listing.images:
            named = ", ".join(readable(path.relative_to(self._base)) for path in listing.images[:_LISTED])
            beside = f"{counted(len(listing.images), 'image file')} beside the parquet files ({named})"
            self.notes = (*self.notes, beside)
        if without_images:
            self.notes = (*self.notes, f"{counted(without_images, 'parquet file')} without images")


def tables_of_images(directory: Path) -> dict[str, int]:
    """Return the parquet files of a directory that hold encoded images, with their numbers of rows."""
    return {
        readable(path.relative_to(directory)): _rows(path)
        for path in _parquet_files(directory)
        if holds_encoded(_schema(path))
    }


def _missing_parts(paths: Iterable[Path]) -> list[LeftOut]:
    """Return the files that are missing of sets whose names say their number, as ``train-00000-of-00003``."""
    found: dict[tuple[Path, str, str, int], set[int]] = defaultdict(set)
    for path in paths:
        if parts := _PART.fullmatch(path.name):
            found[path.parent, parts["before"], parts["after"], int(parts["of"])].add(int(parts["number"]))
    return [
        LeftOut(f"{before}{number:05d}-of-{of:05d}{after}", "a missing file")
        for (_, before, after, of), there in sorted(found.items())
        for number in sorted({*range(min(of, _MOST_PARTS))} - there)
    ]


def _has_more_than_images(directory: Path) -> bool:
    paths = _parquet_files(directory)
    if not paths:
        return False
    n_images = len(list_images(directory).images)
    return n_images == 0 or sum(tables_of_images(directory).values()) * _FEW > n_images


def _is_parquet(path: Path) -> bool:
    if not path.is_file():
        return False
    if path.suffix.lower() in PARQUET_SUFFIXES:
        return True
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _parquet_files(directory: Path) -> list[Path]:
    found = (path for path, reason in walk(directory) if reason is None and not path.name.startswith((".", "_")))
    return sorted(path for path in found if path.suffix.lower() in PARQUET_SUFFIXES)


def _by_split(directory: Path, paths: Sequence[Path]) -> Mapping[str, list[Path]]:
    """Return the files of each split, if the name of each, or of a folder of it, is that of a split."""
    splits: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        inside = path.relative_to(directory)
        split = split_named(inside.stem, *reversed(inside.parts[:-1]))
        if split is None:
            return {}
        splits[split].append(path)
    return splits


def _open(path: Path) -> _Table:
    from pyarrow import parquet

    columns = choose_columns(_schema(path), str(path))
    return _Table(path, parquet.ParquetFile(path, page_checksum_verification=True), columns)


def _schema(path: Path) -> Any:
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.read_schema(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise MimiaError(f"{path} is not a readable parquet file ({one_line(error)}): copy it again.") from error


def _rows(path: Path) -> int:
    from pyarrow import parquet

    return int(parquet.read_metadata(path).num_rows)
