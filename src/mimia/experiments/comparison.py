"""The comparison of all attacks: its pages."""

from collections.abc import Sequence
from dataclasses import replace

from mimia.attacks.registry import ATTACKS
from mimia.attacks.selection import access_of, uses_decoder
from mimia.evaluation.set_tests import smallest_set
from mimia.experiments.attacks import cells
from mimia.experiments.grid import Experiment, Pages
from mimia.experiments.pages import tpr_curves
from mimia.experiments.results import CellResult
from mimia.experiments.tables import estimate_text, markdown_table
from mimia.report.sections.curves.figures import roc_figure

_DRAWN = 6  # curves of a figure beside the threshold attack
_HEADS = ("attack", "access", "AUC", "TPR at 1 % FPR", "TPR at 0.1 % FPR", "smallest set")


def comparison_pages(results: Sequence[CellResult]) -> Pages:
    """Return a table and a figure for each target, and a figure for each budget."""
    compared = [result for result in results if set(result.coordinates) == {"target"}]
    pages: Pages = {}
    for target in dict.fromkeys(result.coordinates["target"] for result in compared):
        of_target = [result for result in compared if result.coordinates["target"] == target]
        pages[f"{target}.md"] = _table(of_target)
        pages[f"{target}.svg"] = _figure(of_target)
    for budget in ("masks", "shadows"):
        points = [result for result in results if budget in result.coordinates]
        if points:
            pages[f"{budget}.svg"] = tpr_curves(points, budget)
    return pages


EXPERIMENT = Experiment("Which attack is the strongest, on equal terms?", cells, comparison_pages)


def _table(results: Sequence[CellResult]) -> str:
    """Return a table with a row for each attack and access level, the largest AUC first."""
    rows = []
    for result in results:
        for evaluation in result.report.evaluations:
            smallest = smallest_set(result.set_power[evaluation.attack])
            columns = (
                f"`{evaluation.attack}`",
                _level(result, evaluation.attack),
                estimate_text(evaluation.auc),
                estimate_text(evaluation.tpr_at_1_percent),
                estimate_text(evaluation.tpr_at_01_percent),
                "none" if smallest is None else str(smallest),
            )
            rows.append((evaluation.auc.value or 0.0, columns))
    table = markdown_table(_HEADS, [columns for _, columns in sorted(rows, key=lambda row: -row[0])])
    return table + "".join(f"\n{result.footnote}\n" for result in results if result.footnote)


def _figure(results: Sequence[CellResult]) -> str:
    """Draw the ROC curves of the strongest attacks of each access level, and of the threshold attack."""
    drawn = []
    for result in results:
        ordered = sorted(result.report.evaluations, key=lambda each: -(each.tpr_at_1_percent.value or 0.0))
        strongest = ordered[: _DRAWN // len(results)]
        compared = [each for each in ordered if each.attack == "threshold" and each not in strongest]
        drawn += [
            replace(each, attack=f"{each.attack}, {_level(result, each.attack)}") for each in strongest + compared
        ]
    report = results[0].report
    return roc_figure(drawn, report.validity.blind, report.run.counts["non-members"])


def _level(result: CellResult, attack: str) -> str:
    """Return the access level: D1 with the target's decoder, D3 with a fitted one, or what the attack takes."""
    requirements = ATTACKS[attack]().requirements
    if not uses_decoder(requirements):
        return access_of(requirements)
    return result.report.run.access.partition("(")[2].partition(":")[0]
