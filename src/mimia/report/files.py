"""The files of a run: ``report.json``, ``report.html``, ``scores.csv`` and ``settings.toml``."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from mimia.report.consistency import check_consistency
from mimia.report.html import render_report
from mimia.report.old_versions import translated
from mimia.report.schema import REPORT_FORMAT, SCHEMA_VERSION, Report
from mimia.runtime.errors import MimiaError, first_mistake
from mimia.runtime.store import replacing
from mimia.runtime.strict_json import MEBIBYTE, parse_json
from mimia.runtime.text import masked_values, to_cell

REPORT = "report.json"
PAGE = "report.html"
SCORES = "scores.csv"
SETTINGS = "settings.toml"
_LARGEST = 128 * MEBIBYTE  # of a report that is read


def write_run(directory: Path, report: Report, scores: Mapping[str, Sequence[object]]) -> Path:
    """Write all files of a run.

    Args:
        directory: Made if it does not exist.
        report: Of the run.
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
            writer.writerow(map(to_cell, scores))
            writer.writerows(map(to_cell, masked_values(row)) for row in zip(*scores.values(), strict=True))
        _write(directory / SETTINGS, report.run.settings_toml)
        _write(directory / REPORT, report.model_dump_json(indent=1))
    return write_page(directory, report)


def write_page(directory: Path, report: Report) -> Path:
    """Render ``report.html``.

    Raises:
        MimiaError: The directory cannot be written, or its disk is full.
    """
    text = render_report(report)
    with _clear_disk_errors(directory):
        _write(directory / PAGE, text)
    return directory / PAGE


def read_report(path: Path) -> Report:
    """Read a report, also one of an earlier schema version.

    Args:
        path: Directory of a run, or its ``report.json``.

    Raises:
        MimiaError: There is none, it is damaged, or its schema version cannot be read.
    """
    file = path / REPORT if path.is_dir() or path.suffix != ".json" else path
    if not file.is_file():
        raise MimiaError(f"There is no {REPORT} in {path}: pass the directory of a run.")
    with file.open("rb") as opened:
        text = opened.read(_LARGEST + 1)
    try:
        content = parse_json(text, _LARGEST)
    except ValueError as error:
        raise _unreadable(file, f"no valid JSON: {error}") from error
    try:
        if isinstance(content, dict):
            content = translated(content, SCHEMA_VERSION)
        report = REPORT_FORMAT.validate_python(content)
        check_consistency(report)
    except ValidationError as error:
        raise _unreadable(file, first_mistake(error)) from error
    except MimiaError as error:
        raise MimiaError(f"{file} cannot be read: {error}.") from None
    except ValueError as error:
        raise _unreadable(file, str(error)) from error
    return report


def _unreadable(file: Path, reason: str) -> MimiaError:
    return MimiaError(f"{file} is not a report that this version of mimia reads ({reason}): repeat the run.")


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
