"""Tables and figures of what encoders are good for, alone and beside what they give away."""

from collections.abc import Sequence
from typing import NamedTuple

from mimia.evaluation.estimate import Estimate
from mimia.evaluation.utility import Utility
from mimia.experiments.render import Pages, figure_text
from mimia.experiments.results import CellResult
from mimia.report.figures import tradeoff_figure

_UTILITIES = ("linear probe", "nearest neighbours", "guessed of hidden patches")


class Tradeoff(NamedTuple):
    """How much a model gives away, and what it is good for.

    Attributes:
        attack: The strongest one.
        area: Its ROC area.
        found: Its TPR at 1 % FPR.
        most_exposed: Its TPR at 0.1 % FPR.
        linear_probe: Of the target's features.
        nearest_neighbours: Of the target's features.
        guessed: What the target saves of the error on hidden patches.
    """

    attack: str
    area: Estimate
    found: Estimate
    most_exposed: Estimate
    linear_probe: Estimate
    nearest_neighbours: Estimate
    guessed: Estimate


TRADEOFF = ("strongest attack", "ROC area", "TPR at 1 % FPR", "TPR at 0.1 % FPR", *_UTILITIES)
"""What a reader calls the parts of a `Tradeoff`."""


def utility_pages(results: Sequence[CellResult]) -> Pages:
    """Give a table of what features are good for: for each cell those of the target, of an untrained model, pixels."""
    axes = [*results[0].at]
    lines = [f"| {' | '.join([*axes, 'features', *_UTILITIES])} |", f"|{'---|' * (len(axes) + 1 + len(_UTILITIES))}"]
    for result in results:
        place = [str(result.at[axis]) for axis in axes]
        for features, utility in result.report.utility.items():
            figures = [figure_text(estimate) if estimate else "–" for estimate in _utilities(utility)]
            lines.append(f"| {' | '.join([*place, features, *figures])} |")
    return {"table.md": "\n".join(lines) + "\n"}


def tradeoff_pages(results: Sequence[CellResult]) -> Pages:
    """Give a table of leakage beside utility, a row a cell, and a figure for each measure of utility."""
    (axis,) = results[0].at
    lines = [f"| {axis} | {' | '.join(TRADEOFF)} |", f"|{'---|' * (1 + len(TRADEOFF))}"]
    for result in results:
        row = tradeoff(result)
        lines.append(f"| {result.at[axis]} | `{row.attack}` | {' | '.join(map(figure_text, _estimates(row)))} |")
    return {"table.md": "\n".join(lines) + "\n"} | tradeoff_figures(results)


def tradeoff(result: CellResult) -> Tradeoff:
    """Give what a target gives away and what it is good for."""
    strongest = next(each for each in result.report.evaluations if each.attack == result.report.strongest)
    leaks = (strongest.area, strongest.tpr_at_1_percent, strongest.tpr_at_01_percent)
    utilities = [each or Estimate(None, note="–") for each in _utilities(result.report.utility["target"])]
    return Tradeoff(strongest.attack, *leaks, *utilities)


def tradeoff_figures(results: Sequence[CellResult]) -> Pages:
    """Draw what the strongest attack finds against each measure of utility that there is."""
    (axis,) = results[0].at
    rows = {str(result.at[axis]): tradeoff(result) for result in results}
    pages: Pages = {}
    for place, utility in enumerate(_UTILITIES, start=-len(_UTILITIES)):
        points = {name: (_estimates(row)[place], row.found) for name, row in rows.items()}
        if any(across.value is not None for across, _ in points.values()):
            pages[f"{utility.replace(' ', '-')}.svg"] = tradeoff_figure(points, utility, "TPR at 1 % FPR")
    return pages


def _utilities(utility: Utility) -> tuple[Estimate | None, ...]:
    return utility.linear_probe, utility.nearest_neighbours, utility.explained


def _estimates(row: Tradeoff) -> tuple[Estimate, ...]:
    return row[1:]
