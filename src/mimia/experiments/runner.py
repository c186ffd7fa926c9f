"""Run the cells of an experiment: what is there is not computed again, and a failed cell does not stop the others."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mimia.arrays import fingerprint
from mimia.audit import audit
from mimia.config import read_settings
from mimia.errors import MimiaError
from mimia.experiments.grid import Cell, Profile
from mimia.experiments.registry import experiment_of
from mimia.experiments.results import declared, read_result, summarise, write_result


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
    cells = [cell for cell in experiment_of(name).cells(profile, data) if cell.name.startswith(only or "")]
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
    as_declared = (found.at, found.footnote) == (dict(cell.at), cell.footnote)
    return as_declared and fingerprint(found.settings) == fingerprint(declared(cell))


def render(name: str, profile: Profile, results: Path, out: Path) -> list[Path]:
    """Write the tables and figures of an experiment, from the results that are there.

    Args:
        name: Of the experiment.
        profile: How large.
        results: Folder of all results.
        out: Folder that gets the files.
    """
    experiment = experiment_of(name)
    paths = [results / profile / name / f"{cell.name}.json" for cell in experiment.cells(profile, Path())]
    there = [read_result(path) for path in paths if path.exists()]
    out.mkdir(parents=True, exist_ok=True)
    pages = experiment.pages(there) if there else {}
    for file, text in pages.items():
        (out / file).write_text(text, encoding="utf-8")
    return [out / file for file in pages]
