"""An experiment is a grid of audits, declared as settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Profile = Literal["smoke", "mini"]
"""``smoke``: digits, a minute or two, for the tests. ``mini``: images of 32 pixels, hours on two cores."""


@dataclass(frozen=True)
class Cell:
    """One audit of an experiment.

    Attributes:
        name: Of its result's file.
        target: What is attacked, for the table that it stands in.
        settings: Nested settings that differ from the defaults.
        varied: The name and value of what a curve is drawn against, if the cell is a point of one.
        footnote: What a reader has to know of it.
    """

    name: str
    target: str
    settings: Mapping[str, Any]
    varied: tuple[str, int] | None = None
    footnote: str = ""


@dataclass(frozen=True)
class Experiment:
    """What one command reproduces.

    Attributes:
        name: Of the command's argument and of the folder of the results.
        cells: From a profile and the folder of the data to the audits.
    """

    name: str
    cells: Callable[[Profile, Path], Sequence[Cell]]
