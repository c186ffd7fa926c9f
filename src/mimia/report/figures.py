"""The figures of a report as SVG: the same report gives the same bytes."""

import html
import io
import math
from collections.abc import Mapping, Sequence
from itertools import cycle, product
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter

from mimia.evaluation.estimate import Estimate
from mimia.evaluation.evaluate import Evaluation
from mimia.report.schema import Histogram, Model

_SIZE = (4.8, 3.6)  # inches: readable where a phone shows it at full width
_LEGEND: dict[str, Any] = {"fontsize": 8.5, "columnspacing": 1, "handlelength": 1.5}
_LEGEND_ROW = 0.18  # inches
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e7eb",
    "axes.axisbelow": True,
    "svg.hashsalt": "mimia",
    "svg.fonttype": "none",
}
_HEADROOM = 1.28  # above a histogram, for the legend
_COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#8d5fb0", "#c17817")
_GREY = "#7b8794"
_DARK = 0.75  # ROC area whose shade takes white letters
_GROUP_COLOURS = {"members": "#d1495b", "non-members": "#1b6ca8", "candidates": "#d1495b"}


def roc_figure(evaluations: Sequence[Evaluation], blind: Sequence[Evaluation], nonmembers: int) -> str:
    """Draw ROC curves on logarithmic axes, where low false-positive rates can be seen; grey ones see no model."""
    floor = 1 / max(nonmembers, 10)
    figure, axes = _figure("false-positive rate", "true-positive rate")
    axes.plot([floor, 1], [floor, 1], color=_GREY, linewidth=1, linestyle=":", label="guess")
    looks = cycle(product(("-", "--", "-."), _COLOURS))
    greys = cycle(product(("-", "--"), (_GREY,)))
    drawn = [*zip(evaluations, looks, strict=False), *zip(blind, greys, strict=False)]
    for evaluation, (dashes, colour) in drawn:
        axes.plot(
            [max(rate, floor) for rate in evaluation.false_rate],
            [max(rate, floor) for rate in evaluation.true_rate],
            color=colour,
            linestyle=dashes,
            linewidth=1.2 if colour == _GREY else 2,
            label=evaluation.attack,
        )
    axes.set(xscale="log", yscale="log", xlim=(floor, 1), ylim=(floor, 1.1))
    _write_plainly(axes.xaxis, axes.yaxis)
    entries = len(drawn) + 1
    columns = 2 if all(len(evaluation.attack) < 24 for evaluation in evaluations) else 1
    figure.set_figheight(_SIZE[1] + _LEGEND_ROW * math.ceil(entries / columns))
    figure.legend(frameon=False, loc="outside lower center", ncols=columns, **_LEGEND)
    return _svg(figure, "ROC curves of all attacks on logarithmic axes")


def histogram_figure(histogram: Histogram) -> str:
    """Draw how a quantity is distributed in each group, as shares of the group."""
    figure, axes = _figure(histogram.quantity, "share of images")
    for group, counts in histogram.counts.items():
        colour = _GROUP_COLOURS.get(group, _GREY)
        shares = [count / max(sum(counts), 1) for count in counts]
        axes.stairs(shares, histogram.edges, fill=True, color=colour, alpha=0.25)
        axes.stairs(shares, histogram.edges, color=colour, linewidth=1.5, label=group)
    axes.axvline(
        histogram.threshold, 0, 1 / _HEADROOM, color="#1f2933", linewidth=1, linestyle="--", label="threshold (shadows)"
    )
    axes.margins(x=0.02)
    axes.set_ylim(0, axes.get_ylim()[1] * _HEADROOM)
    axes.legend(frameon=False, loc="upper center", ncols=3, **_LEGEND)
    return _svg(figure, f"Distribution of {histogram.quantity}")


def curve_figure(curves: Mapping[str, Sequence[tuple[float, Estimate]]], x: str, y: str) -> str:
    """Draw figures with their intervals against a number; on a logarithmic axis if it grows eightfold."""
    figure, axes = _figure(x, y)
    for (name, points), colour in zip(curves.items(), cycle(_COLOURS), strict=False):
        known = [(at, each.value, each.low or 0.0, each.high or 0.0) for at, each in points if each.value is not None]
        if known:
            at, values, low, high = zip(*known, strict=True)
            axes.plot(at, values, color=colour, marker="o", markersize=4, linewidth=2, label=name)
            axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
    ticks = sorted({at for points in curves.values() for at, _ in points})
    if ticks and ticks[-1] >= 8 * ticks[0] > 0:
        axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylim(bottom=0)
    if axes.lines:
        axes.legend(frameon=False)
    return _svg(figure, f"{y} against {x}")


def tradeoff_figure(points: Mapping[str, tuple[Estimate, Estimate]], x: str, y: str) -> str:
    """Draw named pairs of figures with the interval of each."""
    figure, axes = _figure(x, y)
    known = {name: pair for name, pair in points.items() if None not in (pair[0].value, pair[1].value)}
    for (name, (across, up)), (marker, colour) in zip(known.items(), cycle(product("os^D", _COLOURS)), strict=False):
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
            clip_on=False,  # a leak of nothing lies on the border
            label=name,
        )
    axes.set_ylim(bottom=0)
    if known:
        figure.set_figheight(_SIZE[1] + _LEGEND_ROW * math.ceil(len(known) / 2))
        figure.legend(frameon=False, loc="outside lower center", ncols=2, **_LEGEND)
    return _svg(figure, f"{y} against {x}")


def _arms(estimate: Estimate) -> list[list[float]]:
    """Give how far the interval reaches below and above the figure."""
    value = estimate.value or 0.0
    low = value if estimate.low is None else estimate.low
    high = value if estimate.high is None else estimate.high
    return [[value - low], [high - value]]


def matrix_figure(areas: Mapping[tuple[str, str], float], down: str, across: str, title: str) -> str:
    """Draw ROC areas over two axes, from a guess (white) to a perfect attack (dark).

    Args:
        areas: By the values on the first axis, which goes down, and on the second.
        down: Name of the first axis.
        across: Name of the second.
        title: What a screen reader calls it.
    """
    rows, columns = (list(dict.fromkeys(place[axis] for place in areas)) for axis in (0, 1))
    figure, axes = _figure(across, down)
    axes.grid(visible=False)
    shades = [[areas.get((row, column), math.nan) for column in columns] for row in rows]
    axes.pcolormesh(shades, cmap="Reds", vmin=0.5, vmax=1)
    for (row, column), area in areas.items():
        dark = area > _DARK
        place = (columns.index(column) + 0.5, rows.index(row) + 0.5)
        axes.text(*place, f"{area:.2f}", ha="center", va="center", color="white" if dark else "#1f2933")
    axes.set_xticks([place + 0.5 for place in range(len(columns))], columns)
    axes.set_yticks([place + 0.5 for place in range(len(rows))], rows)
    axes.invert_yaxis()
    return _svg(figure, title)


def training_figure(models: Sequence[Model]) -> str:
    """Draw the training loss of all models; many shadows are drawn alike."""
    figure, axes = _figure("epoch", "training loss")
    crowded = len(models) > len(_COLOURS)
    lines = {}
    for model, colour in zip(models, cycle(_COLOURS), strict=False):
        is_target = model.name == "target"
        in_crowd = crowded and not is_target
        (lines["shadows" if in_crowd else model.name],) = axes.plot(
            range(1, len(model.losses) + 1),
            model.losses,
            color=_GREY if in_crowd else colour,
            linewidth=1.5,
            marker="o" if len(model.losses) == 1 else None,
            zorder=3 if is_target else 2,
        )
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    _write_plainly(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0)
    axes.legend(lines.values(), lines.keys(), frameon=False)
    return _svg(figure, "Training loss by epoch")


def _figure(x: str, y: str) -> tuple[Figure, Axes]:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlabel=x, ylabel=y)
    return figure, axes


def _write_plainly(*axes: Axis) -> None:
    """Write the major ticks of logarithmic axes as plain numbers, and no others."""
    for axis in axes:
        axis.set_major_formatter(FormatStrFormatter("%.4g"))
        axis.set_minor_formatter(NullFormatter())


def _svg(figure: Figure, title: str) -> str:
    """Give an ``<svg>`` element that scales with its place and has a name for screen readers."""
    buffer = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1)
