"""Executors: where independent tasks of a run are computed."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

from mimia.runtime.registry import Registry

Item = TypeVar("Item")
Result = TypeVar("Result")


class Executor(ABC):
    """Computes tasks that do not depend on each other.

    A task keeps its result in the store, so that it may be computed twice, or go on after an interruption.
    """

    @abstractmethod
    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return the function's result for each item, in the items' order."""


EXECUTORS: Registry[type[Executor]] = Registry(
    "executor",
    "mimia.executors",
    {
        "local": "mimia.runtime.executors.local:LocalExecutor",
    },
)
