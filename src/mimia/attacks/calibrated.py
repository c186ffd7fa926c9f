"""Difficulty calibration (Watson et al., arXiv 2111.08440, equation 2), of distances or of their logarithms.

Most of the variance of an image's distance comes from its difficulty and not from membership. Models that were not
trained on the image measure its difficulty; with the same masks for all models, the noise of the masks cancels too.
"""

from functools import partial
from typing import Literal

from mimia.attacks.base import Attack, Requirements
from mimia.attacks.summaries import log_distance, mean_distance, mean_where
from mimia.runtime.arrays import Floats
from mimia.signals.arrays import AttackInput


class Calibrated(Attack):
    """Score = mean over the references k that did not see the image of L_k − L, or of log L_k − log L.

    Args:
        signal: Name of the distance.
        scale: ``ratio`` compares logarithms, ``difference`` the distances themselves.
    """

    paper = "Watson et al., arXiv 2111.08440, eq. 2"

    def __init__(self, *, signal: str = "reconstruction", scale: Literal["ratio", "difference"] = "ratio") -> None:
        self.signal = signal
        self.scale = scale

    @property
    def requirements(self) -> Requirements:
        """Two shadows: a reference, and for the threshold one in the place of the target."""
        return Requirements(signals=(self.signal,), shadows=2)

    def _score(self, inputs: AttackInput) -> Floats:
        distance = log_distance if self.scale == "ratio" else mean_distance
        references = inputs.references
        difficulty = mean_where(distance(references.signals, self.signal), ~references.membership)
        scores: Floats = difficulty - distance(inputs.target, self.signal)[0]
        return scores


DIFFERENCE = partial(Calibrated, scale="difference")
GRADIENTS = partial(Calibrated, signal="gradients")
VIEW_SIMILARITY = partial(Calibrated, signal="view_similarity")
LATENTS = partial(Calibrated, signal="latents")
