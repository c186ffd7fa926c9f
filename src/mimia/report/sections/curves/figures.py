"""The figures of the section: ROC curves, histograms, training losses."""

import math
from collections.abc import Sequence
from itertools import cycle, product

from mimia.evaluation.evaluate import Evaluation
from mimia.report.figures import COLOURS, GREY, INK, LEGEND, LEGEND_ROW, SIZE, label, new_figure, plain_ticks, to_svg
from mimia.report.sections.curves import Histogram
from mimia.report.sections.models import Model

_HEADROOM = 1.28  # above a histogram, for the legend
_GROUP_COLOURS = {"members": COLOURS[1], "non-members": COLOURS[0], "candidates": COLOURS[1]}


def roc_figure(evaluations: Sequence[Evaluation], blind: Sequence[Evaluation], nonmembers: int) -> str:
    """Draw ROC curves on logarithmic axes, where low false-positive rates can be seen; the blind baselines are grey."""
    floor = 1 / max(nonmembers, 10)
    figure, axes = new_figure("false-positive rate", "true-positive rate")
    axes.plot([floor, 1], [floor, 1], color=GREY, linewidth=1, linestyle=":", label="guess")
    looks = cycle(product(("-", "--", "-."), COLOURS))
    greys = cycle(product(("-", "--"), (GREY,)))
    drawn = [*zip(evaluations, looks, strict=False), *zip(blind, greys, strict=False)]
    for evaluation, (dashes, colour) in drawn:
        axes.plot(
            [max(rate, floor) for rate in evaluation.fpr],
            [max(rate, floor) for rate in evaluation.tpr],
            color=colour,
            linestyle=dashes,
            linewidth=1.2 if colour == GREY else 2,
            label=label(evaluation.attack),
        )
    axes.set(xscale="log", yscale="log", xlim=(floor, 1), ylim=(floor, 1.1))
    plain_ticks(axes.xaxis, axes.yaxis)
    entries = len(drawn) + 1
    columns = 2 if all(len(evaluation.attack) < 24 for evaluation in evaluations) else 1
    figure.set_figheight(SIZE[1] + LEGEND_ROW * math.ceil(entries / columns))
    figure.legend(frameon=False, loc="outside lower center", ncols=columns, **LEGEND)
    return to_svg(figure, "ROC curves of all attacks on logarithmic axes")


def histogram_figure(histogram: Histogram) -> str:
    """Draw how a quantity is distributed in each group, as proportions of the group."""
    figure, axes = new_figure(histogram.quantity, "proportion of images")
    for group, counts in histogram.counts.items():
        colour = _GROUP_COLOURS.get(group, GREY)
        proportions = [count / max(sum(counts), 1) for count in counts]
        axes.stairs(proportions, histogram.edges, fill=True, color=colour, alpha=0.25)
        axes.stairs(proportions, histogram.edges, color=colour, linewidth=1.5, label=label(group))
    axes.axvline(
        histogram.threshold, 0, 1 / _HEADROOM, color=INK, linewidth=1, linestyle="--", label="threshold (shadows)"
    )
    axes.margins(x=0.02)
    axes.set_ylim(0, axes.get_ylim()[1] * _HEADROOM)
    axes.legend(frameon=False, loc="upper center", ncols=3, **LEGEND)
    return to_svg(figure, f"Distribution of {histogram.quantity}")


def training_figure(models: Sequence[Model]) -> str:
    """Draw the training loss of all models; many shadows look the same."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    figure, axes = new_figure("epoch", "training loss")
    crowded = len(models) > len(COLOURS)
    lines = {}
    for model, colour in zip(models, cycle(COLOURS), strict=False):
        is_target = model.name == "target"
        in_crowd = crowded and not is_target
        (lines["shadows" if in_crowd else model.name],) = axes.plot(
            range(1, len(model.losses) + 1),
            model.losses,
            color=GREY if in_crowd else colour,
            linewidth=1.5,
            marker="o" if len(model.losses) == 1 else None,
            zorder=3 if is_target else 2,
        )
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    plain_ticks(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0)
    axes.legend(lines.values(), map(label, lines), frameon=False)
    return to_svg(figure, "Training loss by epoch")
