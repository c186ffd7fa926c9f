"""Run the audits of experiments: one with a result is not run again, and one that fails does not stop the others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mimia.config.settings import read_settings
from mimia.experiments.grid import Cell, Profile
from mimia.experiments.registry import EXPERIMENTS
from mimia.experiments.results import has_result, read_result, summarise, write_result
from mimia.jobs.audit import audit
from mimia.runtime.errors import MimiaError
from mimia.runtime.progress import overall


@dataclass(frozen=True)
class Selection:
    """Which audits are reproduced.

    Attributes:
        names: Of the experiments.
        profile: How large they are.
        data: Folder of the data files.
        results: Folder of all results; those of an experiment are in ``<profile>/<name>``.
        only: How the names of the audits begin.
    """

    names: Sequence[str]
    profile: Profile
    data: Path
    results: Path
    only: str = ""


@dataclass(frozen=True)
class Task:
    """An audit to be run unless it has a result.

    Attributes:
        name: For messages.
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
    selection: Selection,
    common: Mapping[str, Any],
    say: Callable[[str], None],
    pages: Mapping[str, Path] | None = None,
) -> dict[str, str]:
    """Run all audits of experiments that have no result yet, and render the results.

    Args:
        selection: Of experiments and audits.
        common: Settings of store and compute; only the precision changes results.
        say: Is called with each line of progress.
        pages: For each experiment the folder of its tables and figures, if they are to be rendered.

    Returns:
        Why audits failed, by experiment and name; whatever the reason, the others are run.

    Raises:
        MimiaError: There is no such experiment, or no audit of that name.
    """
    profile, results = selection.profile, selection.results
    precision = read_settings(None, common).compute.precision
    options = f"--profile {profile}" + (f" --precision {precision}" if precision != "fp32" else "")
    tasks = [
        Task(f"{name} {cell.name}", cell, results / profile / name, f"mimia reproduce {name} {options}")
        for name in selection.names
        for cell in EXPERIMENTS.find(name).cells(profile, selection.data)
        if cell.name.startswith(selection.only)
    ]
    if not tasks:
        raise MimiaError(f"No audit of {', '.join(selection.names)} has a name that begins with {selection.only!r}.")
    failures = run(tasks, common, say)
    for name, folder in (pages or {}).items():
        reason = _failure(partial(_write_and_name_pages, name, profile, results, folder, say))
        if reason is not None:
            failures[f"{name} pages"] = reason
    return failures


def run(tasks: Sequence[Task], common: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, str]:
    """Run the audits that have no result, one after the other.

    Args:
        tasks: The audits.
        common: Settings of store and compute.
        say: Is called with each line of progress.

    Returns:
        Why audits failed, by the names of the tasks; whatever the reason, the others are run.
    """
    failures: dict[str, str] = {}
    with overall(len(tasks)) as show:
        for number, task in enumerate(tasks):
            show(number, f"audits {number}/{len(tasks)}")
            reason = _failure(partial(_run, task, common, f"{number + 1}/{len(tasks)} {task.name}", say))
            if reason is not None:
                failures[task.name] = reason
                say(f"{task.name} failed: {reason}")
        show(len(tasks), f"audits {len(tasks)}/{len(tasks)}")
    return failures


def write_pages(name: str, profile: Profile, results: Path, out: Path) -> list[Path]:
    """Write the tables and figures of an experiment from its results.

    Args:
        name: Of the experiment.
        profile: How large.
        results: Folder of all results.
        out: Folder of the files that are written.
    """
    experiment = EXPERIMENTS.find(name)
    paths = [results / profile / name / f"{cell.name}.json" for cell in experiment.cells(profile, Path())]
    found = [read_result(path) for path in paths if path.exists()]
    out.mkdir(parents=True, exist_ok=True)
    pages = experiment.pages(found) if found else {}
    for file, text in pages.items():
        (out / file).write_text(text, encoding="utf-8")
    return [out / file for file in pages]


def _run(task: Task, common: Mapping[str, Any], state: str, say: Callable[[str], None]) -> None:
    if has_result(task.cell, task.path):
        say(f"{state}: done")
        return
    say(state)
    settings = read_settings(None, {**task.cell.settings, **common})
    write_result(task.path, summarise(task.cell, task.command, audit(settings=settings)))


def _write_and_name_pages(name: str, profile: Profile, results: Path, out: Path, say: Callable[[str], None]) -> None:
    for path in write_pages(name, profile, results, out):
        say(str(path))


def _failure(work: Callable[[], None]) -> str | None:
    """Call a function, and return the reason if it fails."""
    try:
        work()
    except MimiaError as error:
        return str(error)
    except Exception as error:  # a bug, or out of memory: the other audits may succeed
        return f"{type(error).__name__}: {error}"
    return None
