"""A parquet file of encoded images."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from mimia.data.sources.base import Source, SourceImage
from mimia.data.sources.files import fingerprint_of_files, name_and_image, one_line
from mimia.runtime.errors import MimiaError

_IMAGES = ("image", "img")
_LABELS = ("label", "labels", "fine_label")


class Parquet(Source):
    """A parquet file in the layout of `datasets`: a column of encoded images, with or without paths and labels.

    Raises:
        MimiaError: It is no parquet file, or has no such column.
    """

    def __init__(self, value: str | Path) -> None:
        import pyarrow
        from pyarrow import parquet

        self.name = str(value)
        self._path = Path(value).expanduser()
        try:
            self._file = parquet.ParquetFile(self._path)
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise MimiaError(f"{value} is not a readable parquet file ({one_line(error)}): copy it again.") from error
        schema = self._file.schema_arrow
        image = next((name for name in _IMAGES if name in schema.names), None)
        if image is None or not _holds_bytes(schema.field(image).type):
            raise MimiaError(
                f"{value} has no column 'image' of encoded images, but only: {', '.join(schema.names)}. "
                "Rename the column that holds them to 'image'."
            )
        self._columns = [image, *[name for name in _LABELS if name in schema.names][:1]]

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of_files([self._path], self._path.parent)

    @staticmethod
    def recognise(value: object) -> bool:
        if not isinstance(value, str | Path):
            return False
        path = Path(value).expanduser()
        return path.suffix == ".parquet" and path.is_file()

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def __iter__(self) -> Iterator[SourceImage]:
        row = 0
        try:
            for batch in self._file.iter_batches(1024, columns=self._columns):
                for image, *label in zip(*(batch[name].to_pylist() for name in self._columns), strict=True):
                    yield SourceImage(*name_and_image(image, f"{self._path.name} row {row}"), *map(str, label))
                    row += 1
        except (ValueError, OSError) as error:  # pyarrow's errors are among them
            raise MimiaError(f"{self.name} is damaged after row {row} ({one_line(error)}): copy it again.") from error


def _holds_bytes(kind: Any) -> bool:
    import pyarrow

    if pyarrow.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))
