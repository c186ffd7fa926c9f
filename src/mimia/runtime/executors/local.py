"""The executor of one machine: one task after the other, each with all of the machine's cores or its accelerator."""

from collections.abc import Callable, Sequence

from mimia.runtime.executors import Executor, Item, Result


class LocalExecutor(Executor):
    """Computes the tasks in this process."""

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return the function's result for each item, in the items' order."""
        return [function(item) for item in items]
