"""An experiment is a grid of audits, declared as settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Profile = Literal["smoke", "mini", "paper"]
"""``smoke``: digits, a minute or two, for the tests. ``mini``: small models of hundreds of images, hours on two cores.
``paper``: models of the size *base* and thousands of images, for GPUs."""

IMAGE_SIZES = {"digits": 8, "cifar10.parquet": 32, "tinyimagenet32.parquet": 32, "miniimagenet64.parquet": 64}
"""Side in pixels of the images of each source that experiments name."""

Place = Mapping[str, str | int | float]
"""Where a cell stands in its grid: by axis, the name or the number that a reader sees."""


@dataclass(frozen=True)
class Cell:
    """One audit of an experiment.

    Attributes:
        name: Of its result's file.
        at: Its place in the grid.
        settings: Nested settings that differ from the defaults.
        footnote: What a reader has to know of it.
    """

    name: str
    at: Place
    settings: Mapping[str, Any]
    footnote: str = ""


def merged(*trees: Mapping[str, Any]) -> dict[str, Any]:
    """Put nested settings together; what stands later wins.

    >>> merged({"split": {"seed": 1}}, {"split": {"n_members": 5}, "store": "there"})
    {'split': {'seed': 1, 'n_members': 5}, 'store': 'there'}
    """
    together: dict[str, Any] = {}
    for tree in trees:
        for key, value in tree.items():
            old = together.get(key)
            together[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return together
