"""Progress bars of long work on standard error, with an estimate of the time left."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console(stderr=True)


def say(sentence: str) -> None:
    """Print one line on standard error, above the bars."""
    console.print(sentence, soft_wrap=True, markup=False, highlight=False)


@contextmanager
def silence() -> Iterator[None]:
    """Show neither lines nor bars until the block ends."""
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


@contextmanager
def progress(description: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show a bar, and yield a function that advances it.

    Args:
        description: Text before the bar.
        total: Number of steps.
        done: Number of steps that an interrupted run has done already.
    """
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    # A log file gets one line for each bar when it ends; a terminal gets the moving bar.
    with Progress(*columns, console=console, disable=not sys.stderr) as bars:
        task = bars.add_task(description, total=total, completed=done)
        yield lambda steps: bars.advance(task, steps)


@contextmanager
def overall(total: int) -> Iterator[Callable[[int, str], None]]:
    """Show a bar above those of the current work, and yield a function that updates its position and text.

    A log file gets no such bar.

    Args:
        total: Number of parts.
    """
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TimeElapsedColumn())
    # Output of the block goes above the bars if both go to the same terminal.
    same = sys.stdout is not None and sys.stdout.isatty()
    with Progress(*columns, console=console, disable=not console.is_terminal, redirect_stdout=same) as bars:
        task = bars.add_task("", total=total)
        yield lambda done, description: bars.update(task, completed=done, description=description)
