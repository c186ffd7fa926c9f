"""Run the audits of experiments: what is there is not computed again, and one that fails does not stop the others."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mimia.audit import audit
from mimia.config import read_settings
from mimia.errors import MimiaError
from mimia.experiments.grid import Cell, Profile
from mimia.experiments.plan import Scoring, Training, Work, about, is_done, seconds_of, trainings, work_of
from mimia.experiments.registry import experiment_of
from mimia.experiments.results import has_result, read_result, summarise, write_result
from mimia.experiments.speed import Machine
from mimia.progress import console, overall
from mimia.store import Store


def reproduce(
    names: Sequence[str],
    profile: Profile,
    data: Path,
    results: Path,
    common: Mapping[str, Any],
    say: Callable[[str], None],
    only: str | None = None,
    pages: Mapping[str, Path] | None = None,
) -> dict[str, str]:
    """Run all cells of experiments that have no result yet, and render what is there then.

    Args:
        names: Of the experiments.
        profile: How large.
        data: Folder of the data files.
        results: Folder of all results; those of an experiment stand in ``<profile>/<name>``.
        common: Settings of store and compute, which decide over no figure.
        say: Tells a reader what is going on.
        only: Run the cells alone whose names begin so.
        pages: For each experiment the folder of its tables and figures, if they are wanted.

    Returns:
        Why cells failed, by experiment and name; whatever the reason, the others are run.

    Raises:
        MimiaError: There is no such experiment, or no cell of that name.
    """
    cells = [
        (name, cell)
        for name in names
        for cell in experiment_of(name).cells(profile, data)
        if cell.name.startswith(only or "")
    ]
    if not cells:
        raise MimiaError(f"No audit of {', '.join(names)} has a name that begins with {only!r}.")
    paths = [results / profile / name / f"{cell.name}.json" for name, cell in cells]
    failures: dict[str, str] = {}

    def tell(what: str, reason: str | None) -> None:
        if reason is not None:
            failures[what] = reason
            say(f"{what} failed: {reason}")

    with overall(len(cells)) as show:
        works = [work_of(cell) for _, cell in cells]
        done = [is_done(cell, path) for (_, cell), path in zip(cells, paths, strict=True)]
        estimates = _estimates(works, done, common)
        planned = took = 0.0

        def show_state(number: int) -> None:
            pace = took / planned if planned else 1.0
            left = about(None if each is None else pace * each for each in estimates[number:])
            models = f"{len(trainings(works[:number]))}/{len(trainings(works))}"
            show(number, f"audits {number}/{len(cells)} · trainings {models} · {left} left")

        for number, ((name, cell), path) in enumerate(zip(cells, paths, strict=True)):
            show_state(number)
            started, what = time.monotonic(), f"{name} {cell.name}"
            command = f"mimia reproduce {name} --profile {profile}"
            state = f"{number + 1}/{len(cells)} {what}"
            reason = _failure(partial(_run, cell, path, common, command, state, say))
            tell(what, reason)
            if reason is None:
                planned += estimates[number] or 0.0
                took += time.monotonic() - started
            if pages is not None and name not in [later for later, _ in cells[number + 1 :]]:
                tell(f"{name} pages", _failure(partial(_show_pages, name, profile, results, pages[name], say)))
        show_state(len(cells))
    return failures


def _run(
    cell: Cell, path: Path, common: Mapping[str, Any], command: str, state: str, say: Callable[[str], None]
) -> None:
    if has_result(cell, path):
        say(f"{state}: there")
        return
    say(state)
    settings = read_settings(None, {**cell.settings, **common})
    write_result(path, summarise(cell, command, audit(settings)))


def _show_pages(name: str, profile: Profile, results: Path, out: Path, say: Callable[[str], None]) -> None:
    for path in render(name, profile, results, out):
        say(str(path))


def _failure(work: Callable[[], None]) -> str | None:
    """Do some work, and give the reason if it fails."""
    try:
        work()
    except MimiaError as error:
        return str(error)
    except Exception as error:  # a defect, or no memory left: the other audits may do
        return f"{type(error).__name__}: {error}"
    return None


def _estimates(works: Sequence[Work | None], done: Sequence[bool], common: Mapping[str, Any]) -> list[float | None]:
    """Estimate how long each audit takes, where a reader sees it."""
    if not console.is_terminal:
        return [None] * len(works)
    settings = read_settings(None, common)
    there = [work for work, is_there in zip(works, done, strict=True) if is_there]
    planned = [
        frozenset[Training | Scoring]() if is_there else work for work, is_there in zip(works, done, strict=True)
    ]
    return seconds_of(planned, there, Machine(settings.compute, Store(settings.store)))


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
