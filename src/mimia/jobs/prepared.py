"""A job that is ready to run: its target is open, and its images are read and split."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

from mimia.data.splits import Split
from mimia.jobs.results import AuditResult, InferenceResult
from mimia.pipeline.check import NearDuplicates
from mimia.pipeline.context import AuditContext
from mimia.pipeline.run_plan import Plan, plan_run

R = TypeVar("R", AuditResult, InferenceResult)


@dataclass(frozen=True)
class PreparedJob(ABC, Generic[R]):
    """A job that is ready to run.

    Attributes:
        context: What it works with.
        split: Roles of the images.
        near_duplicates: Near-duplicates on the two sides.
    """

    context: AuditContext
    split: Split
    near_duplicates: NearDuplicates

    def plan(self) -> Plan:
        """Return what the job is going to do, as its first batches show."""
        return plan_run(self.context, self.split)

    @abstractmethod
    def run(self) -> R:
        """Train, query, attack and judge; what the store has is not computed again."""
