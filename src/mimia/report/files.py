"""The files of a run: ``report.json``, ``report.html``, ``scores.csv`` and ``settings.toml``."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from mimia.report.html import render_report
from mimia.report.old_versions import translated
from mimia.report.schema import REPORT_FORMAT, SCHEMA_VERSION, Report
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import replacing

REPORT = "report.json"
PAGE = "report.html"
SCORES = "scores.csv"
SETTINGS = "settings.toml"


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
    try:
        content = json.loads(file.read_bytes())
        if isinstance(content, dict):
            content = translated(content, SCHEMA_VERSION)
        return REPORT_FORMAT.validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors()[0]
        reason = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
    except ValueError as error:
        reason = f"no valid JSON: {error}"
    except MimiaError as error:
        raise MimiaError(f"{file} cannot be read: {error}.") from None
    raise MimiaError(f"{file} is not a report that this version of mimia reads ({reason}): repeat the run.")


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
