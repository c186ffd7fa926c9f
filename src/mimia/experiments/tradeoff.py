"""Tables and figures of the utility of encoders, alone and beside what they leak."""

from collections.abc import Sequence
from typing import NamedTuple

from mimia.evaluation.downstream import Utility
from mimia.evaluation.intervals import Estimate
from mimia.experiments.figures import tradeoff_figure
from mimia.experiments.grid import Pages
from mimia.experiments.results import CellResult
from mimia.experiments.tables import estimate_text, markdown_table

_UTILITIES = ("linear probe", "nearest neighbours", "explained variance")


class Tradeoff(NamedTuple):
    """What a model leaks, and its utility.

    Attributes:
        attack: The deciding one.
        auc: Its AUC.
        tpr_at_1_percent: Its TPR at 1 % FPR.
        tpr_at_01_percent: Its TPR at 0.1 % FPR.
        linear_probe: Accuracy with the target's features.
        nearest_neighbours: Accuracy with the target's features.
        explained: Proportion of the variance of hidden patches that the target explains.
    """

    attack: str
    auc: Estimate
    tpr_at_1_percent: Estimate
    tpr_at_01_percent: Estimate
    linear_probe: Estimate
    nearest_neighbours: Estimate
    explained: Estimate

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """All figures, in their order."""
        return self[1:]


TRADEOFF = ("deciding attack", "AUC", "TPR at 1 % FPR", "TPR at 0.1 % FPR", *_UTILITIES)
"""Heads of a table of `Tradeoff`."""


def utility_pages(results: Sequence[CellResult]) -> Pages:
    """Return a table of utility: for each cell that of the target, of an untrained model, and of the pixels."""
    axes = [*results[0].coordinates]
    rows = []
    for result in results:
        place = [str(result.coordinates[axis]) for axis in axes]
        for features, utility in result.report.utility.items():
            figures = [estimate_text(estimate) if estimate else "–" for estimate in _utilities(utility)]
            rows.append([*place, features, *figures])
    return {"table.md": markdown_table([*axes, "features", *_UTILITIES], rows)}


def tradeoff_pages(results: Sequence[CellResult]) -> Pages:
    """Return a table of leakage beside utility, a row for each cell, and a figure for each measure of utility."""
    (axis,) = results[0].coordinates
    found = [(str(result.coordinates[axis]), tradeoff(result)) for result in results]
    rows = [[name, f"`{each.attack}`", *map(estimate_text, each.estimates)] for name, each in found]
    return {"table.md": markdown_table([axis, *TRADEOFF], rows)} | tradeoff_figures(results)


def tradeoff(result: CellResult) -> Tradeoff:
    """Return what the target of a cell leaks, and its utility."""
    deciding = next(each for each in result.report.evaluations if each.attack == result.report.deciding)
    leaks = (deciding.auc, deciding.tpr_at_1_percent, deciding.tpr_at_01_percent)
    utilities = [each or Estimate(None, note="–") for each in _utilities(result.report.utility["target"])]
    return Tradeoff(deciding.attack, *leaks, *utilities)


def tradeoff_figures(results: Sequence[CellResult]) -> Pages:
    """Draw the TPR at 1 % FPR of the strongest attack against each measure of utility that was measured."""
    (axis,) = results[0].coordinates
    rows = {str(result.coordinates[axis]): tradeoff(result) for result in results}
    pages: Pages = {}
    for place, utility in enumerate(_UTILITIES, start=-len(_UTILITIES)):
        points = {name: (row.estimates[place], row.tpr_at_1_percent) for name, row in rows.items()}
        if any(across.value is not None for across, _ in points.values()):
            pages[f"{utility.replace(' ', '-')}.svg"] = tradeoff_figure(points, utility, "TPR at 1 % FPR")
    return pages


def _utilities(utility: Utility) -> tuple[Estimate | None, ...]:
    return utility.linear_probe, utility.nearest_neighbours, utility.explained
