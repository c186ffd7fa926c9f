"""An experiment is a grid of audits, declared as settings, with the pages that its results are rendered to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from mimia.experiments.results import CellResult

Profile = Literal["smoke", "mini", "paper"]
"""``smoke``: digits, a minute or two, for the tests. ``mini``: small models of hundreds of images, hours on two cores.
``paper``: models of the size *base* and thousands of images, for GPUs."""

Tree = dict[str, Any]
"""Nested settings."""

Coordinates = Mapping[str, str | int | float]
"""Coordinates of a cell in its grid: by axis, the name or the number that a reader sees."""

Pages = dict[str, str]
"""Texts by the names of their files: tables in Markdown, figures in SVG."""


@dataclass(frozen=True)
class Cell:
    """One audit of an experiment.

    Attributes:
        name: Of its result's file.
        coordinates: In the grid.
        settings: Nested settings that differ from the defaults.
        footnote: What a reader has to know about it.
    """

    name: str
    coordinates: Coordinates
    settings: Mapping[str, Any]
    footnote: str = ""


@dataclass(frozen=True)
class Experiment:
    """What one command reproduces.

    Attributes:
        summary: What it answers.
        cells: From a profile and the folder of the data to the audits.
        pages: From the results to tables and figures.
    """

    summary: str
    cells: Callable[[Profile, Path], Sequence[Cell]]
    pages: Callable[[Sequence["CellResult"]], Pages]


def merged(*trees: Mapping[str, Any]) -> Tree:
    """Return nested settings merged into one; a later value replaces an earlier one.

    >>> merged({"split": {"seed": 1}}, {"split": {"n_members": 5}, "store": "there"})
    {'split': {'seed': 1, 'n_members': 5}, 'store': 'there'}
    """
    together: Tree = {}
    for tree in trees:
        for key, value in tree.items():
            old = together.get(key)
            together[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return together
