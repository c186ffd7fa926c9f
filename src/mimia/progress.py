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
