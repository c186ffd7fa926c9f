"""A run on first batches, which shows in a moment what the whole run will cost and whether it can be done."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mimia.runtime.store import Store

Action = Literal["train", "query"]


@dataclass(frozen=True)
class EstimatedWork:
    """Work that was measured on its first batches.

    Attributes:
        action: Whether a model is trained, or queried about images.
        what: Name of the work on its progress bar.
        units: Training steps, or images.
        seconds: Time that all of it takes.
    """

    action: Action
    what: str
    units: int
    seconds: float


class Rehearsal(Store):
    """A store that has what another one has, and in which long work ends after its first batches.

    Models and signals that are made here stand for those of the run, so that all of its steps can be tried; they are no
    results.

    Args:
        kept: The store of the run, to which nothing is added.
        place: Directory for what is made here.
    """

    _remedy = "set TMPDIR to a directory with more space"

    def __init__(self, kept: Store, place: Path) -> None:
        super().__init__(place)
        self._kept = kept
        self.work: list[EstimatedWork] = []

    def make(self, kind: str, settings: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """Return the artifact that the run's store has, or one that is built here."""
        return self._kept.fetched(kind, settings) or super().make(kind, settings, build)

    def find(self, kind: str, settings: Mapping[str, Any]) -> Path | None:
        """Return the artifact that the run's store has here, or one that was built here."""
        return self._kept.find(kind, settings) or super().find(kind, settings)
