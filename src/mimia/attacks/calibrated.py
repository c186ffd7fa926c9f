"""Difficulty calibration (Watson et al., arXiv 2111.08440, equation 2), of distances or of their logarithms.

An image's own difficulty, and not membership, makes most of the variance of its distance. Models that did not see the
image measure that difficulty; with the same masks for all, the noise of the masks cancels too.
"""

from typing import Literal

from mimia.arrays import Floats
from mimia.attacks.base import Attack, Needs
from mimia.attacks.summaries import log_distance, mean_distance, mean_where
from mimia.signals.base import Evidence


class Calibrated(Attack):
    """Score = mean over the references k that did not see the image of L_k − L, or of log L_k − log L.

    Args:
        kind: Which distance.
        scale: ``ratio`` compares logarithms, ``difference`` the distances themselves.
    """

    paper = "Watson et al., arXiv 2111.08440, eq. 2"

    def __init__(self, kind: str = "distances", scale: Literal["ratio", "difference"] = "ratio") -> None:
        self.kind = kind
        self.scale = scale

    @property
    def needs(self) -> Needs:
        """Two shadows: a reference, and for the threshold one in the place of the target."""
        return Needs(signals=(self.kind,), shadows=2)

    def _score(self, evidence: Evidence) -> Floats:
        measure = log_distance if self.scale == "ratio" else mean_distance
        references = evidence.references
        difficulty = mean_where(measure(references.signals, self.kind), ~references.membership)
        scores: Floats = difficulty - measure(evidence.target, self.kind)[0]
        return scores
