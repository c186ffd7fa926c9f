"""Pages of experiments from their results: tables in Markdown and figures in SVG."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mimia.experiments.figures import curve_figure, matrix_figure
from mimia.experiments.grid import Pages
from mimia.experiments.results import CellResult
from mimia.experiments.tables import estimate_text, markdown_table, matrix_table
from mimia.report.sections.curves.figures import histogram_figure

if TYPE_CHECKING:
    from mimia.evaluation.intervals import Estimate


def table_pages(results: Sequence[CellResult]) -> Pages:
    """Return a table of AUCs and TPRs at 1 % FPR: a row for each cell, and a column for each attack."""
    axes, attacks = [*results[0].coordinates], _attacks(results)
    rows = []
    for result in results:
        found = {each.attack: each for each in result.report.evaluations}
        cells = [
            f"{estimate_text(found[name].auc)}<br>{estimate_text(found[name].tpr_at_1_percent)}" for name in attacks
        ]
        rows.append([*(str(result.coordinates[axis]) for axis in axes), *cells])
    table = markdown_table([*axes, *(f"`{name}`" for name in attacks)], rows)
    notes = "".join(f"\n{note}\n" for note in dict.fromkeys(result.footnote for result in results) if note)
    return {"table.md": f"{table}\nIn each cell: AUC, and below it the TPR at 1 % FPR.\n{notes}"}


def distribution_pages(results: Sequence[CellResult]) -> Pages:
    """Return the table, and for each cell the distribution of the distances."""
    figures = {
        f"{result.cell}.svg": histogram_figure(histogram)
        for result in results
        for histogram in result.report.run.histograms
    }
    return table_pages(results) | figures


def matrix_pages(results: Sequence[CellResult]) -> Pages:
    """Return the AUC of each attack over two axes, as table and figure; the first axis goes down."""
    pages: Pages = {}
    first, second = results[0].coordinates
    for name in _attacks(results):
        aucs = {
            (str(result.coordinates[first]), str(result.coordinates[second])): each.auc
            for result in results
            for each in result.report.evaluations
            if each.attack == name
        }
        values = {place: auc.value for place, auc in aucs.items() if auc.value is not None}
        pages[f"{name}.md"] = matrix_table(aucs, first, second)
        pages[f"{name}.svg"] = matrix_figure(values, first, second, f"AUC of {name}")
    return pages


def curve_pages(results: Sequence[CellResult]) -> Pages:
    """Return the table, and curves along the only axis if it is one of numbers."""
    (axis,) = results[0].coordinates
    if all(isinstance(result.coordinates[axis], int | float) for result in results):
        return table_pages(results) | {"curves.svg": tpr_curves(results, axis)}
    return table_pages(results)


def tpr_curves(results: Sequence[CellResult], axis: str) -> str:
    """Draw the TPR at 1 % FPR of each attack along an axis of numbers."""
    points: dict[str, list[tuple[float, Estimate]]] = {}
    for result in sorted(results, key=lambda result: float(result.coordinates[axis])):
        place = float(result.coordinates[axis])
        for evaluation in result.report.evaluations:
            points.setdefault(evaluation.attack, []).append((place, evaluation.tpr_at_1_percent))
    return curve_figure(points, axis, "TPR at 1 % FPR")


def _attacks(results: Sequence[CellResult]) -> list[str]:
    return list(dict.fromkeys(each.attack for result in results for each in result.report.evaluations))
