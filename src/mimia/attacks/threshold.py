"""The attack of *Membership Inference Attack Against Masked Image Modeling* (arXiv 2408.06825).

Training images are reconstructed with a lower error; the threshold is learned on shadows.
"""

from functools import partial

from mimia.attacks.base import Attack, Requirements
from mimia.attacks.summaries import mean_distance
from mimia.runtime.arrays import Floats
from mimia.signals.arrays import AttackInput

_PAPERS = {
    "reconstruction": "Li et al., arXiv 2408.06825",
    "gradients": "Nasr et al., arXiv 1812.00910",
    "view_similarity": "after Liu et al., arXiv 2108.11023",
    "crop_similarity": "Liu et al., arXiv 2108.11023 (T)",
    "latents": "DOV4MM, arXiv 2507.12022",
}


class Threshold(Attack):
    """Score = −L, the negative mean distance over the draws.

    Args:
        signal: Name of the distance: of a reconstruction, of latents, of views, or the norm of a gradient.
    """

    def __init__(self, *, signal: str = "reconstruction") -> None:
        self.signal = signal

    @property
    def paper(self) -> str:
        """The publication of a threshold on this distance."""
        return _PAPERS.get(self.signal, _PAPERS["reconstruction"])

    @property
    def requirements(self) -> Requirements:
        """One shadow, for the threshold."""
        return Requirements(signals=(self.signal,), shadows=1)

    def _score(self, inputs: AttackInput) -> Floats:
        scores: Floats = -mean_distance(inputs.target, self.signal)[0]
        return scores


GRADIENTS = partial(Threshold, signal="gradients")
VIEW_SIMILARITY = partial(Threshold, signal="view_similarity")
CROP_SIMILARITY = partial(Threshold, signal="crop_similarity")
LATENTS = partial(Threshold, signal="latents")
