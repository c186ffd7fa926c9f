"""Progress of long work, shown on standard error with an estimate of the time that is left."""

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


@contextmanager
def progress(description: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show one bar; the block gets a function that advances it.

    Args:
        description: What is being done, for the user.
        total: How many steps the work has.
        done: How many of them an earlier, interrupted run has done.
    """
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    # A log file gets one line a bar, when it ends; a terminal gets the moving bar.
    with Progress(*columns, console=console, disable=not sys.stderr) as bars:
        task = bars.add_task(description, total=total, completed=done)
        yield lambda steps: bars.advance(task, steps)


@contextmanager
def overall(total: int) -> Iterator[Callable[[int, str], None]]:
    """Show one bar above those of the work going on; the block gets a function that says how far all has come.

    A log file gets none: who calls it prints lines of its own.

    Args:
        total: How many parts the work has.
    """
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TimeElapsedColumn())
    # What a block prints goes above the bars if it goes to the same terminal, and else where it is sent.
    same = sys.stdout is not None and sys.stdout.isatty()
    with Progress(*columns, console=console, disable=not console.is_terminal, redirect_stdout=same) as bars:
        task = bars.add_task("", total=total)
        yield lambda done, description: bars.update(task, completed=done, description=description)
