"""The attack of *Membership Inference Attack Against Masked Image Modeling* (arXiv 2408.06825).

An image that the encoder was pre-trained on is reconstructed with a lower error; the threshold is learned on shadows.
"""

from mimia.arrays import Floats
from mimia.attacks.base import Attack, Needs
from mimia.attacks.summaries import mean_distance
from mimia.signals.base import Evidence

_PAPERS = {
    "distances": "Li et al., arXiv 2408.06825",
    "gradients": "Nasr et al., arXiv 1812.00910",
    "similarities": "after Liu et al., arXiv 2108.11023",
    "views": "Liu et al., arXiv 2108.11023 (T)",
    "latents": "DOV4MM, arXiv 2507.12022",
}


class Threshold(Attack):
    """Score = −L, the mean distance over the draws, with its sign turned.

    Args:
        kind: Which distance: of a reconstruction, of latents, of views, or the norm of a gradient.
    """

    def __init__(self, kind: str = "distances") -> None:
        self.kind = kind

    @property
    def paper(self) -> str:
        """Who published a threshold on this distance."""
        return _PAPERS.get(self.kind, _PAPERS["distances"])

    @property
    def needs(self) -> Needs:
        """A single shadow, for the threshold."""
        return Needs(signals=(self.kind,), shadows=1)

    def _score(self, evidence: Evidence) -> Floats:
        scores: Floats = -mean_distance(evidence.target, self.kind)[0]
        return scores
