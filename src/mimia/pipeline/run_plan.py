"""What a run is going to do, and what that costs: known after its first batches, before any shadow is trained."""

import re
import resource
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from mimia.data.splits import Split
from mimia.models.checkpoints.provenance import Fact
from mimia.pipeline.collect import Models, collect_signals
from mimia.pipeline.context import AuditContext
from mimia.runtime.progress import say, silence
from mimia.runtime.rehearsal import Action, EstimatedWork, Rehearsal
from mimia.runtime.text import duration

_GIB = 2**30
_LONG = 15 * 60  # seconds of queries
_FEW_MASKS = 4
_ACTIONS: dict[Action, str] = {"train": "to train", "query": "to query"}


@dataclass(frozen=True)
class Plan:
    """What a run is going to do.

    Attributes:
        target: The target, in words.
        models: The models as far as they are known before any training.
        images: Number of images in each role.
        work: Trainings and queries that the store does not have.
        memory: Bytes that the first batches took, on the device if that is a GPU.
        masks: Masks per image.
    """

    target: str
    models: Models
    images: dict[str, int]
    work: Sequence[EstimatedWork]
    memory: int
    masks: int

    @property
    def seconds(self) -> float:
        """Time of trainings and queries together."""
        return sum(each.seconds for each in self.work)

    def __str__(self) -> str:
        return "\n".join(f"  {name:<10} {text}" for name, text in self._lines())

    def _lines(self) -> Iterator[tuple[str, str]]:
        target = self.models.target
        yield "target", self.target
        yield from _facts(target.facts)
        for sentence in (*target.assumed, *target.notes, *self.models.notes):
            yield "note", sentence
        yield "images", ", ".join(f"{number:,} {role}" for role, number in self.images.items() if number)
        if self.models.references:
            yield "references", f"{len(self.models.references)}, given"
        yield from _work(self.work)
        if self.work:
            yield "in all", f"about {duration(self.seconds)}, and up to a minute for attacks and checks"
            queries = sum(each.seconds for each in self.work if each.action == "query")
            if queries > _LONG and self.masks > _FEW_MASKS:
                fewer = self.seconds - queries * (1 - _FEW_MASKS / self.masks)
                yield (
                    "faster",
                    f"about {duration(fewer)} with --set signals.draws={_FEW_MASKS}, by which fewer members are found",
                )
        else:
            yield "in all", "nothing: the store has all models and what they answer"
        yield "memory", f"{self.memory / _GIB:.1f} GiB"


def plan_run(context: AuditContext, split: Split) -> Plan:
    """Try all steps of a run on first batches, and return what it is going to do.

    Raises:
        MimiaError: What the run itself would raise as it trains and queries models.
    """
    say("Measuring the first batches …")
    with TemporaryDirectory(prefix="mimia-") as place, silence():
        rehearsal = Rehearsal(context.store, Path(place))
        signals = collect_signals(replace(context, store=rehearsal), split)
    evaluated, auxiliary = split.evaluated, split.auxiliary
    images = {
        "members": len(evaluated.members),
        "candidates": len(evaluated.candidates),
        "non-members": len(evaluated.nonmembers),
        "in the holdout": len(evaluated.holdout),
        "for shadows": len(split.shadow_pool),
        "for decoders": len(auxiliary.decoder),
        "for attacks to learn from": len(auxiliary.population),
        "for validation": len(auxiliary.validation),
    }
    settings = context.settings
    target = settings.target or settings.embeddings or "a model that is trained here"
    return Plan(target, signals.models, images, tuple(rehearsal.work), _memory(), settings.signals.draws)


def _facts(facts: Mapping[str, Fact]) -> Iterator[tuple[str, str]]:
    """Yield what is known of the target, by where it is known from."""
    by_source: dict[str, list[str]] = {}
    for name, fact in facts.items():
        if fact.origin != "assumed":  # a note says it
            by_source.setdefault(fact.source, []).append(f"{name.replace('_', ' ')} {fact.value}")
    for source, known in by_source.items():
        yield "known", f"{', '.join(known)} ({source})"


def _work(work: Iterable[EstimatedWork]) -> Iterator[tuple[str, str]]:
    """Yield trainings by the role of the model, and queries by signal."""
    groups: dict[tuple[Action, str], list[EstimatedWork]] = {}
    for each in work:
        role = re.split(r" \d+ of |:", each.what)[0]
        groups.setdefault((each.action, role), []).append(each)
    for (action, role), several in groups.items():
        units = sum(each.units for each in several)
        what = f"{role}, {len(several)} ×" if action == "train" else role
        unit = "steps" if action == "train" else "images, by all models together"
        yield _ACTIONS[action], f"{what} ({units:,} {unit}): {duration(sum(each.seconds for each in several))}"


def _memory() -> int:
    """Return the most bytes that this process has used, on the GPU if there is one."""
    if torch.cuda.is_available() and (used := torch.cuda.max_memory_allocated()):
        return used
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
