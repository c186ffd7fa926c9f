"""Run the cells of an experiment: what is there is not computed again, and a failed cell does not stop the others."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mimia.arrays import fingerprint
from mimia.audit import audit
from mimia.config import read_settings
from mimia.errors import MimiaError
from mimia.experiments.attacks import ATTACK_COMPARISON
from mimia.experiments.grid import Cell, Experiment, Profile
from mimia.experiments.results import declared, read_result, summarise, write_result

EXPERIMENTS: dict[str, Experiment] = {each.name: each for each in (ATTACK_COMPARISON,)}


def reproduce(
    name: str,
    profile: Profile,
    data: Path,
    results: Path,
    common: Mapping[str, Any],
    say: Callable[[str], None],
    only: str | None = None,
) -> dict[str, str]:
    """Run all cells of an experiment that have no result yet.

    Args:
        name: Of the experiment.
        profile: How large.
        data: Folder of the data files.
        results: Folder of all results; this experiment's stand in ``<profile>/<name>``.
        common: Settings of store and compute, which decide over no figure.
        say: Tells a reader what is going on.
        only: Run the cells alone whose names begin so.

    Returns:
        Why cells failed, by name.

    Raises:
        MimiaError: There is no such experiment, or no cell of that name.
    """
    if name not in EXPERIMENTS:
        raise MimiaError(f"There is no experiment {name!r}: choose from {', '.join(EXPERIMENTS)}.")
    cells = [cell for cell in EXPERIMENTS[name].cells(profile, data) if cell.name.startswith(only or "")]
    if not cells:
        raise MimiaError(f"The experiment {name!r} has no cell whose name begins with {only!r}.")
    failures = {}
    for number, cell in enumerate(cells, start=1):
        path = results / profile / name / f"{cell.name}.json"
        try:
            if path.exists() and _same(cell, path):
                say(f"{number}/{len(cells)} {cell.name}: there")
                continue
            say(f"{number}/{len(cells)} {cell.name}")
            settings = read_settings(None, {**cell.settings, **common})
            command = f"mimia reproduce {name} --profile {profile}"
            write_result(path, summarise(cell, command, audit(settings)))
        except MimiaError as error:
            failures[cell.name] = str(error)
            say(f"{cell.name} failed: {error}")
    return failures


def _same(cell: Cell, path: Path) -> bool:
    """Tell whether a result is of what the cell declares now."""
    found = read_result(path)
    as_declared = (found.target, found.varied, found.footnote) == (cell.target, cell.varied, cell.footnote)
    return as_declared and fingerprint(found.settings) == fingerprint(declared(cell))
