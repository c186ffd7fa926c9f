"""The files of a run: ``report.json``, ``report.html``, ``scores.csv`` and ``settings.toml``."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from mimia.errors import MimiaError
from mimia.report.html import render
from mimia.report.schema import REPORT_FORMAT, Report
from mimia.store import replacing

REPORT = "report.json"
PAGE = "report.html"
SCORES = "scores.csv"
SETTINGS = "settings.toml"


def write_run(directory: Path, report: Report, scores: Mapping[str, Sequence[object]]) -> Path:
    """Write all files of a run.

    Args:
        directory: Made if it does not exist.
        report: The truth.
        scores: Columns of ``scores.csv``, one row an image.

    Returns:
        Path of the page.

    Raises:
        MimiaError: The directory cannot be written, or its disk is full.
    """
    with _clear_disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with replacing(directory / SCORES) as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(scores)
            writer.writerows(zip(*scores.values(), strict=True))
        _write(directory / SETTINGS, report.run.settings_toml)
        _write(directory / REPORT, report.model_dump_json(indent=1))
    return write_page(directory, report)


def write_page(directory: Path, report: Report) -> Path:
    """Render ``report.html``.

    Raises:
        MimiaError: The directory cannot be written, or its disk is full.
    """
    text = render(report)
    with _clear_disk_errors(directory):
        _write(directory / PAGE, text)
    return directory / PAGE


def read_report(directory: Path) -> Report:
    """Read the report of a run.

    Raises:
        MimiaError: There is none, or it is not one of this version.
    """
    path = directory / REPORT
    if not path.is_file():
        raise MimiaError(f"There is no {REPORT} in {directory}: pass the directory of a run.")
    try:
        return REPORT_FORMAT.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        reason = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
        raise MimiaError(
            f"{path} is no report that this version of mimia reads ({reason}): repeat the run to write it anew."
        ) from error


@contextmanager
def _clear_disk_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MimiaError(
            f"The report cannot be written to {directory} ({error.strerror}): free some space or pass another "
            "directory, and run the same command again."
        ) from error


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
