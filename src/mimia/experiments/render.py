"""Tables and figures of an experiment from its results alone."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mimia.attacks.registry import ATTACKS
from mimia.attacks.selection import access_of
from mimia.evaluation.estimate import Estimate
from mimia.evaluation.sets import smallest_set
from mimia.experiments.attacks import OF_DECODERS
from mimia.experiments.results import CellResult, read_result
from mimia.report.figures import curve_figure, roc_figure

_DRAWN = 6  # curves of a figure beside the threshold


def render(results: Path, out: Path) -> list[Path]:
    """Write a table and a figure for each target, and a figure for each budget, in Markdown and SVG.

    Args:
        results: Folder of the results of one experiment and profile.
        out: Folder that gets ``<target>.md``, ``<target>.svg`` and ``<budget>.svg``.
    """
    out.mkdir(parents=True, exist_ok=True)
    results_there = [read_result(path) for path in sorted(results.glob("*.json"))]
    compared = [result for result in results_there if result.varied is None]
    texts: dict[str, str] = {}
    for target in dict.fromkeys(result.target for result in compared):
        of_target = [result for result in compared if result.target == target]
        texts[f"{target}.md"] = comparison_table(of_target)
        texts[f"{target}.svg"] = comparison_figure(of_target)
    for budget in dict.fromkeys(result.varied[0] for result in results_there if result.varied is not None):
        points = [result for result in results_there if result.varied is not None and result.varied[0] == budget]
        texts[f"{budget}.svg"] = budget_figure(budget, points)
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8")
    return [out / name for name in texts]


def budget_figure(budget: str, results: Sequence[CellResult]) -> str:
    """Draw the TPR at 1 % FPR of each attack against a budget."""
    curves: dict[str, list[tuple[int, Estimate]]] = {}
    for result in sorted(results, key=lambda result: result.varied or ("", 0)):
        assert result.varied is not None
        for evaluation in result.report.evaluations:
            curves.setdefault(evaluation.attack, []).append((result.varied[1], evaluation.tpr_at_1_percent))
    return curve_figure(curves, budget, "TPR at 1 % FPR")


def comparison_table(cells: Sequence[CellResult]) -> str:
    """Give a Markdown table: a row an attack and level, the strongest first."""
    rows = []
    for cell in cells:
        for evaluation in cell.report.evaluations:
            smallest = smallest_set(cell.sets[evaluation.attack])
            columns = (
                f"`{evaluation.attack}`",
                _level(cell, evaluation.attack),
                _figure(evaluation.area),
                _figure(evaluation.tpr_at_1_percent),
                _figure(evaluation.tpr_at_01_percent),
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


def _figure(estimate: Estimate) -> str:
    return str(estimate) if estimate.value is not None else "too few images"
