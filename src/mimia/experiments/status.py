"""Which audits have a result, and how long comparable ones took."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from mimia.experiments.grid import Cell, Profile
from mimia.experiments.registry import EXPERIMENTS
from mimia.experiments.results import CellResult, is_result_of, read_result
from mimia.runtime.errors import MimiaError


def list_experiments(profile: Profile, data: Path, results: Path) -> list[dict[str, str]]:
    """Return a table with a row for each experiment."""
    rows = []
    for name, experiment in EXPERIMENTS.items():
        cells = list_cells(name, profile, data, results)
        done = str(sum(cell["state"] == "done" for cell in cells))
        rows.append({"experiment": name, "audits": str(len(cells)), "done": done, "summary": experiment.summary})
    return rows


def list_cells(name: str, profile: Profile, data: Path, results: Path) -> list[dict[str, str]]:
    """Return a table with a row for each audit of an experiment: whether it is done, and how long it takes.

    The time of an audit that is missing is the median of those of the same experiment and profile that have a result,
    on whatever machine they ran, or unknown.
    """
    cells = EXPERIMENTS.find(name).cells(profile, data)
    found = [_stored(cell, results / profile / name / f"{cell.name}.json") for cell in cells]
    times = [result.report.run.seconds for result in found if result is not None]
    usual = f"about {_minutes(median(times))}" if times else "unknown"
    return [
        {"audit": cell.name, "state": "missing", "time": usual}
        if result is None
        else {"audit": cell.name, "state": "done", "time": _minutes(result.report.run.seconds)}
        for cell, result in zip(cells, found, strict=True)
    ]


def missing_data(names: Sequence[str], profile: Profile, data: Path) -> list[Path]:
    """Return the data files that experiments need and that do not exist."""
    cells = (cell for name in names for cell in EXPERIMENTS.find(name).cells(profile, data))
    return sorted({path for cell in cells for path in _files(cell) if not path.exists()})


def _files(cell: Cell) -> Iterator[Path]:
    return (Path(value) for value in cell.settings["data"].values() if isinstance(value, str) and value != "digits")


def _stored(cell: Cell, path: Path) -> CellResult | None:
    try:
        result = read_result(path) if path.exists() else None
    except (MimiaError, OSError):  # reported when the audit is run
        return None
    return result if result is not None and is_result_of(result, cell) else None


def _minutes(seconds: float) -> str:
    return f"{max(1, round(seconds / 60))} min"
