"""Tables in Markdown and figures in SVG, from results alone."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mimia.attacks.registry import ATTACKS
from mimia.attacks.selection import access_of
from mimia.evaluation.estimate import Estimate
from mimia.evaluation.sets import smallest_set
from mimia.experiments.attacks import OF_DECODERS
from mimia.experiments.results import CellResult
from mimia.report.figures import curve_figure, histogram_figure, matrix_figure, roc_figure

_DRAWN = 6  # curves of a figure beside the threshold
_NO_BREAK = "\N{NO-BREAK SPACE}"


Pages = dict[str, str]
"""Texts by the names of their files: tables in Markdown, figures in SVG."""


def comparison_pages(results: Sequence[CellResult]) -> Pages:
    """Give a table and a figure for each target, and a figure for each budget."""
    compared = [result for result in results if set(result.at) == {"target"}]
    pages: Pages = {}
    for target in dict.fromkeys(result.at["target"] for result in compared):
        of_target = [result for result in compared if result.at["target"] == target]
        pages[f"{target}.md"] = comparison_table(of_target)
        pages[f"{target}.svg"] = comparison_figure(of_target)
    for budget in ("masks", "shadows"):
        points = [result for result in results if budget in result.at]
        if points:
            pages[f"{budget}.svg"] = curves(points, budget)
    return pages


def table_pages(results: Sequence[CellResult]) -> Pages:
    """Give a table with a row a cell, and a column an attack."""
    return {"table.md": table(results)}


def distribution_pages(results: Sequence[CellResult]) -> Pages:
    """Give the table, and for each cell the distribution of the distances."""
    figures = {
        f"{result.cell}.svg": histogram_figure(histogram)
        for result in results
        for histogram in result.report.run.histograms
    }
    return table_pages(results) | figures


def matrix_pages(results: Sequence[CellResult]) -> Pages:
    """Give ROC areas of each attack as table and figure: a row a value of the first axis, a column one of the other."""
    pages: Pages = {}
    for name in _attacks(results):
        areas = _areas(results, name)
        first, second = results[0].at
        values = {place: area.value for place, area in areas.items() if area.value is not None}
        pages[f"{name}.md"] = matrix(areas, first, second)
        pages[f"{name}.svg"] = matrix_figure(values, first, second, f"ROC areas of {name}")
    return pages


def curve_pages(results: Sequence[CellResult]) -> Pages:
    """Give the table, and the curves along the only axis if it is of numbers."""
    (axis,) = results[0].at
    if all(isinstance(result.at[axis], int | float) for result in results):
        return table_pages(results) | {"curves.svg": curves(results, axis)}
    return table_pages(results)


def table(results: Sequence[CellResult]) -> str:
    """Give a Markdown table of ROC areas and rates at 1 % false alarms, with their intervals."""
    axes, attacks = [*results[0].at], _attacks(results)
    heads = [*axes, *(f"`{name}`" for name in attacks)]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for result in results:
        found = {each.attack: each for each in result.report.evaluations}
        cells = [f"{figure_text(found[name].area)}<br>{figure_text(found[name].tpr_at_1_percent)}" for name in attacks]
        lines.append(f"| {' | '.join([*(str(result.at[axis]) for axis in axes), *cells])} |")
    notes = "".join(f"\n{note}\n" for note in dict.fromkeys(result.footnote for result in results) if note)
    return "\n".join(lines) + f"\n\nIn each cell: ROC area, and below it the TPR at 1 % FPR.\n{notes}"


def matrix(areas: Mapping[tuple[str, str], Estimate], first: str, second: str) -> str:
    """Give a Markdown matrix of ROC areas over two axes."""
    rows, columns = (list(dict.fromkeys(place[axis] for place in areas)) for axis in (0, 1))
    lines = [f"| {first} ↓, {second} → | {' | '.join(columns)} |", f"|{'---|' * (len(columns) + 1)}"]
    for row in rows:
        figures = [figure_text(areas[row, column]) if (row, column) in areas else "" for column in columns]
        lines.append(f"| {row} | {' | '.join(figures)} |")
    return "\n".join(lines) + "\n"


def _areas(results: Sequence[CellResult], attack: str) -> dict[tuple[str, str], Estimate]:
    """Give an attack's ROC area at each place of a grid with two axes."""
    first, second = results[0].at
    return {
        (str(result.at[first]), str(result.at[second])): each.area
        for result in results
        for each in result.report.evaluations
        if each.attack == attack
    }


def curves(results: Sequence[CellResult], axis: str) -> str:
    """Draw the TPR at 1 % FPR of each attack along an axis of numbers."""
    points: dict[str, list[tuple[float, Estimate]]] = {}
    for result in sorted(results, key=lambda result: float(result.at[axis])):
        for evaluation in result.report.evaluations:
            points.setdefault(evaluation.attack, []).append((float(result.at[axis]), evaluation.tpr_at_1_percent))
    return curve_figure(points, axis, "TPR at 1 % FPR")


def _attacks(results: Sequence[CellResult]) -> list[str]:
    return list(dict.fromkeys(each.attack for result in results for each in result.report.evaluations))


def comparison_table(cells: Sequence[CellResult]) -> str:
    """Give a Markdown table: a row an attack and level, the strongest first."""
    rows = []
    for cell in cells:
        for evaluation in cell.report.evaluations:
            smallest = smallest_set(cell.sets[evaluation.attack])
            columns = (
                f"`{evaluation.attack}`",
                _level(cell, evaluation.attack),
                figure_text(evaluation.area),
                figure_text(evaluation.tpr_at_1_percent),
                figure_text(evaluation.tpr_at_01_percent),
                "none" if smallest is None else str(smallest),
            )
            rows.append((evaluation.area.value or 0.0, f"| {' | '.join(columns)} |"))
    head = "| attack | access | area | TPR at 1 % FPR | TPR at 0.1 % FPR | smallest set |\n|---|---|---|---|---|---|\n"
    body = "\n".join(row for _, row in sorted(rows, key=lambda row: -row[0]))
    notes = "".join(f"\n{cell.footnote}\n" for cell in cells if cell.footnote)
    return f"{head}{body}\n{notes}"


def comparison_figure(cells: Sequence[CellResult]) -> str:
    """Draw the ROC curves of the strongest attacks of each level, and of the threshold, on logarithmic axes."""
    drawn = []
    for cell in cells:
        ordered = sorted(cell.report.evaluations, key=lambda each: -(each.tpr_at_1_percent.value or 0.0))
        strongest = ordered[: _DRAWN // len(cells)]
        compared = [each for each in ordered if each.attack == "threshold" and each not in strongest]
        drawn += [replace(each, attack=f"{each.attack}, {_level(cell, each.attack)}") for each in strongest + compared]
    nonmembers = cells[0].report.run.counts["non-members"]
    return roc_figure(drawn, cells[0].report.measured.blind, nonmembers)


def _level(cell: CellResult, attack: str) -> str:
    """Give the short name of an access level: D1 with the target's decoder, D3 with a fitted one, or what it takes."""
    needs = ATTACKS[attack]().needs
    if not OF_DECODERS & {*needs.signals}:
        return access_of(needs)
    return cell.report.run.access.partition("(")[2].partition(":")[0]


def figure_text(estimate: Estimate) -> str:
    """Write a figure into a table, where it stays with its interval on one line."""
    if estimate.value is None:
        return "too few images" if estimate.note.startswith("too few images") else estimate.note
    return str(estimate).replace(" ", _NO_BREAK)
