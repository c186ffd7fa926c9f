"""What the figures of a report have in common: one size, one style, SVG with the same bytes each time."""

import html
import io
from typing import TYPE_CHECKING, Any

from mimia.runtime.text import on_one_line, shortened

if TYPE_CHECKING:  # matplotlib is imported where it is used: it takes a second
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

SIZE = (4.8, 3.6)  # inches: readable where a phone shows it at full width
LEGEND: dict[str, Any] = {"fontsize": 8.5, "columnspacing": 1, "handlelength": 1.5}
LEGEND_ROW = 0.18  # inches
COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#8d5fb0", "#c17817")
GREY = "#7b8794"
INK = "#1f2933"
_LONGEST_LABEL = 48  # characters
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


def new_figure(x: str, y: str) -> "tuple[Figure, Axes]":
    """Return a figure with one pair of axes, labelled."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlabel=label(x), ylabel=label(y))
    return figure, axes


def label(text: str) -> str:
    """Return a text as matplotlib shows it: on one line, not too long, and with no formulas in it."""
    return shortened(on_one_line(text), _LONGEST_LABEL).replace("$", r"\$")


def plain_ticks(*axes: "Axis") -> None:
    """Write the major ticks of logarithmic axes as plain numbers, and no others."""
    from matplotlib.ticker import FormatStrFormatter, NullFormatter

    for axis in axes:
        axis.set_major_formatter(FormatStrFormatter("%.4g"))
        axis.set_minor_formatter(NullFormatter())


def to_svg(figure: "Figure", title: str) -> str:
    """Return an ``<svg>`` element that scales with its place and has a title for screen readers."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1)
