"""Everything that a finished run knows, for its report."""

from collections.abc import Sequence
from dataclasses import dataclass

from mimia.attacks.base import Scores
from mimia.data.splits import Split
from mimia.evaluation.evaluate import Evaluation
from mimia.pipeline.check import NearDuplicates
from mimia.pipeline.collect import CollectedSignals
from mimia.pipeline.context import AuditContext
from mimia.validity.controls import Measurements


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    Attributes:
        context: What it worked with.
        split: Roles of the images.
        signals: Signals of all models.
        scores: Scores of each attack, of all evaluated images.
        evaluations: Figures of the attacks that are evaluated.
        deciding: Scores of the attack that decides over the verdict.
        validity: What the validity checks measured.
        near_duplicates: Near-duplicates on the two sides.
    """

    context: AuditContext
    split: Split
    signals: CollectedSignals
    scores: Sequence[Scores]
    evaluations: tuple[Evaluation, ...]
    deciding: Scores
    validity: Measurements
    near_duplicates: NearDuplicates
