"""The figures of experiments: curves along a budget, matrices, and trade-offs."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle, product

from mimia.evaluation.intervals import Estimate
from mimia.report.figures import COLOURS, INK, LEGEND, LEGEND_ROW, SIZE, new_figure, to_svg

_DARK = 0.75  # AUC whose shade takes white letters


def curve_figure(curves: Mapping[str, Sequence[tuple[float, Estimate]]], x: str, y: str) -> str:
    """Draw estimates with their intervals against a number; on a logarithmic axis if it grows eightfold."""
    figure, axes = new_figure(x, y)
    for (name, points), colour in zip(curves.items(), cycle(COLOURS), strict=False):
        known = [
            (x_value, each.value, each.low or 0.0, each.high or 0.0)
            for x_value, each in points
            if each.value is not None
        ]
        if known:
            x_values, values, low, high = zip(*known, strict=True)
            axes.plot(x_values, values, color=colour, marker="o", markersize=4, linewidth=2, label=name)
            axes.fill_between(x_values, low, high, color=colour, alpha=0.15, linewidth=0)
    ticks = sorted({x_value for points in curves.values() for x_value, _ in points})
    if ticks and ticks[-1] >= 8 * ticks[0] > 0:
        axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylim(bottom=0)
    if axes.lines:
        axes.legend(frameon=False)
    return to_svg(figure, f"{y} against {x}")


def tradeoff_figure(points: Mapping[str, tuple[Estimate, Estimate]], x: str, y: str) -> str:
    """Draw named pairs of estimates with the interval of each."""
    figure, axes = new_figure(x, y)
    known = {name: pair for name, pair in points.items() if None not in (pair[0].value, pair[1].value)}
    for (name, (across, up)), (marker, colour) in zip(known.items(), cycle(product("os^D", COLOURS)), strict=False):
        axes.errorbar(
            [across.value or 0.0],
            [up.value or 0.0],
            xerr=_arms(across),
            yerr=_arms(up),
            color=colour,
            marker=marker,
            markersize=6,
            ecolor=(colour, 0.4),
            elinewidth=1,
            linewidth=0,
            clip_on=False,  # a TPR of zero lies on the border
            label=name,
        )
    axes.set_ylim(bottom=0)
    if known:
        figure.set_figheight(SIZE[1] + LEGEND_ROW * math.ceil(len(known) / 2))
        figure.legend(frameon=False, loc="outside lower center", ncols=2, **LEGEND)
    return to_svg(figure, f"{y} against {x}")


def _arms(estimate: Estimate) -> list[list[float]]:
    """Return how far the interval reaches below and above the estimate."""
    value = estimate.value or 0.0
    low = value if estimate.low is None else estimate.low
    high = value if estimate.high is None else estimate.high
    return [[value - low], [high - value]]


def matrix_figure(aucs: Mapping[tuple[str, str], float], down: str, across: str, title: str) -> str:
    """Draw AUCs over two axes, from a guess (white) to a perfect attack (dark).

    Args:
        aucs: By the values on the first axis, which goes down, and on the second.
        down: Name of the first axis.
        across: Name of the second.
        title: For screen readers.
    """
    rows, columns = (list(dict.fromkeys(place[axis] for place in aucs)) for axis in (0, 1))
    figure, axes = new_figure(across, down)
    axes.grid(visible=False)
    shades = [[aucs.get((row, column), math.nan) for column in columns] for row in rows]
    axes.pcolormesh(shades, cmap="Reds", vmin=0.5, vmax=1)
    for (row, column), auc in aucs.items():
        dark = auc > _DARK
        place = (columns.index(column) + 0.5, rows.index(row) + 0.5)
        axes.text(*place, f"{auc:.2f}", ha="center", va="center", color="white" if dark else INK)
    axes.set_xticks([place + 0.5 for place in range(len(columns))], columns)
    axes.set_yticks([place + 0.5 for place in range(len(rows))], rows)
    axes.invert_yaxis()
    return to_svg(figure, title)
