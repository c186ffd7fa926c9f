"""Run the audits of experiments: what is there is not computed again, and one that fails does not stop the others."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Task:
    """An audit whose result is wanted.

    Attributes:
        name: What a reader calls it.
        cell: Its settings.
        folder: Of its result.
        command: What repeats it.
    """

    name: str
    cell: Cell
    folder: Path
    command: str

    @property
    def path(self) -> Path:
        """File of the result."""
        return self.folder / f"{self.cell.name}.json"


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
        common: Settings of store and compute; of these the precision alone decides over figures.
        say: Tells a reader what is going on.
        only: Run the cells alone whose names begin so.
        pages: For each experiment the folder of its tables and figures, if they are wanted.

    Returns:
        Why cells failed, by experiment and name; whatever the reason, the others are run.

    Raises:
        MimiaError: There is no such experiment, or no cell of that name.
    """
    precision = read_settings(None, common).compute.precision
    how = f"--profile {profile}" + (f" --precision {precision}" if precision != "fp32" else "")
    tasks = [
        Task(f"{name} {cell.name}", cell, results / profile / name, f"mimia reproduce {name} {how}")
        for name in names
        for cell in experiment_of(name).cells(profile, data)
        if cell.name.startswith(only or "")
    ]
    if not tasks:
        raise MimiaError(f"No audit of {', '.join(names)} has a name that begins with {only!r}.")
    failures = run(tasks, common, say)
    for name, folder in (pages or {}).items():
        reason = _failure(partial(_show_pages, name, profile, results, folder, say))
        if reason is not None:
            failures[f"{name} pages"] = reason
    return failures


def run(tasks: Sequence[Task], common: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, str]:
    """Make the results that are not there yet, one after the other.

    Args:
        tasks: The audits.
        common: Settings of store and compute.
        say: Tells a reader what is going on.

    Returns:
        Why audits failed, by what a reader calls them; whatever the reason, the others are run.
    """
    works = [work_of(task.cell) for task in tasks]
    done = [is_done(task.cell, task.path) for task in tasks]
    failures: dict[str, str] = {}
    planned = took = 0.0
    with overall(len(tasks)) as show:
        estimates = _estimates(works, done, common)

        def show_state(number: int) -> None:
            pace = took / planned if planned else 1.0
            left = about(None if each is None else pace * each for each in estimates[number:])
            models = f"{len(trainings(works[:number]))}/{len(trainings(works))}"
            show(number, f"audits {number}/{len(tasks)} · trainings {models} · {left} left")

        for number, task in enumerate(tasks):
            show_state(number)
            started = time.monotonic()
            reason = _failure(partial(_run, task, common, f"{number + 1}/{len(tasks)} {task.name}", say))
            if reason is None:
                planned += estimates[number] or 0.0
                took += time.monotonic() - started
            else:
                failures[task.name] = reason
                say(f"{task.name} failed: {reason}")
        show_state(len(tasks))
    return failures


def _run(task: Task, common: Mapping[str, Any], state: str, say: Callable[[str], None]) -> None:
    if has_result(task.cell, task.path):
        say(f"{state}: there")
        return
    say(state)
    settings = read_settings(None, {**task.cell.settings, **common})
    write_result(task.path, summarise(task.cell, task.command, audit(settings)))


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
