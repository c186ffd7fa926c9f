"""The result of a cell: one JSON file, from which tables and figures are rendered."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from mimia.evaluation.evaluate import LOW_RATES, Evaluation
from mimia.evaluation.set_tests import SetPower, power_curve
from mimia.experiments.grid import Cell
from mimia.jobs.results import AuditResult
from mimia.report.schema import AuditReport
from mimia.runtime.arrays import fingerprint
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import replacing
from mimia.runtime.strict_json import MEBIBYTE, parse_json

_SET_SIZES = (2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500)
_CURVE_POINTS = 200
_LARGEST = 128 * MEBIBYTE  # of a result that is read


class CellResult(BaseModel):
    """Result of an audit of an experiment.

    Attributes:
        cell: Its name.
        coordinates: In the grid.
        footnote: What a reader has to know about it.
        settings: Those that differ from the defaults, as the cell declares them; of data files only the names.
        report: The audit's report, without pictures and with thinned curves.
        set_power: For each attack, the power of Welch's test (p < .01) on sets of members of growing size.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: str
    coordinates: dict[str, str | int | float]
    footnote: str
    settings: dict[str, Any]
    report: AuditReport
    set_power: dict[str, tuple[SetPower, ...]]


def summarise(cell: Cell, command: str, audited: AuditResult) -> CellResult:
    """Return what tables and figures need of an audit, without paths of the machine."""
    report = audited.report
    roles = np.array(audited.scores["role"])
    set_power = {}
    for evaluation in report.evaluations:
        scores = np.array(audited.scores[f"{evaluation.attack} score"])
        members, nonmembers = scores[roles == "member"], scores[roles == "nonmember"]
        sizes = [size for size in _SET_SIZES if size <= len(members)]
        set_power[evaluation.attack] = tuple(power_curve(members, nonmembers, sizes))
    distances = tuple(each for each in report.run.histograms if each.attack == "threshold")
    bare = {
        "gallery": (),
        "histograms": distances,
        "settings": {},
        "settings_toml": "",
        "sources": (),
        "left_out": (),
        "command": command,
    }
    run = report.run.model_copy(update=bare)
    changes = {
        "run": run,
        "evaluations": tuple(thinned(evaluation) for evaluation in report.evaluations),
        "validity": replace(report.validity, blind=tuple(thinned(each) for each in report.validity.blind)),
        "near_duplicates": (),
    }
    return CellResult(
        cell=cell.name,
        coordinates=dict(cell.coordinates),
        footnote=cell.footnote,
        settings=declared(cell),
        report=report.model_copy(update=changes),
        set_power=set_power,
    )


def declared(cell: Cell) -> dict[str, Any]:
    """Return a cell's settings with the names of its data files, without their folders."""
    settings = dict(cell.settings)
    if "data" in settings:
        settings["data"] = {
            key: Path(value).name if isinstance(value, str) else value for key, value in settings["data"].items()
        }
    return settings


def write_result(path: Path, result: CellResult) -> None:
    """Write a result as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_result(path: Path) -> CellResult:
    """Read a result.

    Raises:
        MimiaError: The file is not a result of this version.
    """
    try:
        return CellResult.model_validate(parse_json(path.read_bytes(), _LARGEST))
    except ValueError as error:
        raise MimiaError(
            f"{path} is not a result that this version of mimia reads: remove it, and run again."
        ) from error


def has_result(cell: Cell, path: Path) -> bool:
    """Return whether there is a result, and its settings are those that the cell declares now.

    Raises:
        MimiaError: The file is not a result of this version.
    """
    return path.exists() and is_result_of(read_result(path), cell)


def is_result_of(result: CellResult, cell: Cell) -> bool:
    """Return whether a result is of what the cell declares now."""
    described = (result.coordinates, result.footnote) == (dict(cell.coordinates), cell.footnote)
    return described and fingerprint(result.settings) == fingerprint(declared(cell))


def thinned(evaluation: Evaluation) -> Evaluation:
    """Return an evaluation with those points of its ROC curve that a figure on logarithmic axes can show."""
    fpr, tpr = np.array(evaluation.fpr), np.array(evaluation.tpr)
    wanted = np.concatenate([[0], np.geomspace(1e-5, 1, _CURVE_POINTS), LOW_RATES])
    kept = np.unique(np.searchsorted(fpr, wanted, side="right") - 1)
    return replace(evaluation, fpr=fpr[kept].round(6).tolist(), tpr=tpr[kept].round(6).tolist())
