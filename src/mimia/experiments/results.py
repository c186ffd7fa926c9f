"""The result of a cell: one JSON file, from which tables and figures are rendered."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from mimia.arrays import fingerprint
from mimia.audit import AuditResult
from mimia.errors import MimiaError
from mimia.evaluation.evaluate import LOW_RATES, Evaluation
from mimia.evaluation.sets import SetPower, power_curve
from mimia.experiments.grid import Cell
from mimia.report.schema import AuditReport
from mimia.store import replacing

_SET_SIZES = (2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500)
_CURVE_POINTS = 200


class CellResult(BaseModel):
    """What an audit of an experiment found.

    Attributes:
        cell: Its name.
        at: Its place in the grid.
        footnote: What a reader has to know of it.
        settings: Those that differ from the defaults, as the cell declares them; files without their folders.
        report: The audit's report, without pictures and with thinned curves.
        sets: For each attack, how often Welch's test finds sets of members of growing size (p < .01).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: str
    at: dict[str, str | int | float]
    footnote: str
    settings: dict[str, Any]
    report: AuditReport
    sets: dict[str, tuple[SetPower, ...]]


def summarise(cell: Cell, command: str, audited: AuditResult) -> CellResult:
    """Keep of an audit what tables and figures need, and nothing of the machine's folders."""
    report = audited.report
    roles = np.array(audited.scores["role"])
    sets = {}
    for evaluation in report.evaluations:
        scores = np.array(audited.scores[f"{evaluation.attack} score"])
        members, nonmembers = scores[roles == "member"], scores[roles == "nonmember"]
        sizes = [size for size in _SET_SIZES if size <= len(members)]
        sets[evaluation.attack] = tuple(power_curve(members, nonmembers, sizes))
    distances = tuple(each for each in report.run.histograms if each.attack == "threshold")
    bare = {
        "gallery": (),
        "histograms": distances,
        "settings": {},
        "settings_toml": "",
        "left_out": (),
        "command": command,
    }
    run = report.run.model_copy(update=bare)
    changes = {
        "run": run,
        "evaluations": tuple(thinned(evaluation) for evaluation in report.evaluations),
        "measured": replace(report.measured, blind=tuple(thinned(each) for each in report.measured.blind)),
        "twins": (),
    }
    return CellResult(
        cell=cell.name,
        at=dict(cell.at),
        footnote=cell.footnote,
        settings=declared(cell),
        report=report.model_copy(update=changes),
        sets=sets,
    )


def declared(cell: Cell) -> dict[str, Any]:
    """Give a cell's settings with the names of its data files alone."""
    settings = dict(cell.settings)
    if "data" in settings:
        settings["data"] = {
            key: Path(value).name if isinstance(value, str) else value for key, value in settings["data"].items()
        }
    return settings


def write_result(path: Path, result: CellResult) -> None:
    """Write a result so that it is never seen half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_result(path: Path) -> CellResult:
    """Read a result.

    Raises:
        MimiaError: It is none of this version.
    """
    try:
        return CellResult.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise MimiaError(f"{path} is no result that this version of mimia reads: remove it, and run again.") from error


def has_result(cell: Cell, path: Path) -> bool:
    """Tell whether there is a result, and of what the cell declares now.

    Raises:
        MimiaError: What is there is no result of this version.
    """
    if not path.exists():
        return False
    found = read_result(path)
    as_declared = (found.at, found.footnote) == (dict(cell.at), cell.footnote)
    return as_declared and fingerprint(found.settings) == fingerprint(declared(cell))


def thinned(evaluation: Evaluation) -> Evaluation:
    """Keep of a ROC curve what a figure on logarithmic axes can show."""
    false_rate, true_rate = np.array(evaluation.false_rate), np.array(evaluation.true_rate)
    wanted = np.concatenate([[0], np.geomspace(1e-5, 1, _CURVE_POINTS), LOW_RATES])
    kept = np.unique(np.searchsorted(false_rate, wanted, side="right") - 1)
    return replace(
        evaluation,
        false_rate=false_rate[kept].round(6).tolist(),
        true_rate=true_rate[kept].round(6).tolist(),
    )
