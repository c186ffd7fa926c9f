"""The likelihood-ratio attack LiRA (Carlini et al., arXiv 2112.03570) on φ = −log L.

φ of an image over models that saw it, and over models that did not, is taken for normal. Online both normal
distributions are known; offline the second alone.
"""

import numpy as np
from scipy.stats import norm

from mimia.arrays import Bools, Floats
from mimia.attacks.base import Attack, Needs, Played, all_shadows
from mimia.attacks.summaries import log_distance, mean_where, pooled_variance, variance_where
from mimia.signals.base import Evidence

_SMALLEST = 1e-12  # variance of references that agree, as in blank images


class Lira(Attack):
    """Score = log N(φ; μ_in, σ_in) − log N(φ; μ_out, σ_out) online, (φ − μ_out) / σ_out offline.

    Args:
        online: Whether the references were trained on halves of the images that are judged (algorithm 1), or saw none
            of them (section V-C).
        pooled: Whether all images share one σ, as the paper does under 64 shadows, or each has its own.
    """

    paper = "Carlini et al., arXiv 2112.03570, eq. 4, algorithm 1"
    _pooled_in: float = np.nan
    _pooled_out: float = np.nan

    def __init__(self, *, online: bool = False, pooled: bool = True) -> None:
        self.online = online
        self.pooled = pooled

    @property
    def needs(self) -> Needs:
        """As many shadows as leave, with one in the place of the target, a mean or a variance of each side."""
        if self.online:
            return Needs(signals=("distances",), shadows=4 if self.pooled else 6, online=True)
        return Needs(signals=("distances",), shadows=2 if self.pooled else 3)

    def _learn(self, played: Played) -> None:
        if played and self.pooled:
            shadows = all_shadows(played)
            values = -log_distance(shadows.signals)
            self._pooled_in = pooled_variance(values, shadows.membership)
            self._pooled_out = pooled_variance(values, ~shadows.membership)

    def _score(self, evidence: Evidence) -> Floats:
        value, references = -log_distance(evidence.target)[0], -log_distance(evidence.references.signals)
        inside = evidence.references.membership
        mean, deviation = self._normal(references, ~inside, self._pooled_out)
        if not self.online:
            scores: Floats = (value - mean) / deviation
            return scores
        mean_in, deviation_in = self._normal(references, inside, self._pooled_in)
        ratio = norm.logpdf(value, mean_in, deviation_in) - norm.logpdf(value, mean, deviation)
        return np.asarray(ratio)

    def _normal(self, references: Floats, chosen: Bools, pooled: float) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the chosen references' φ, each (images,)."""
        mean = mean_where(references, chosen)
        variance = np.full_like(mean, pooled) if self.pooled else variance_where(references, chosen)
        return mean, np.sqrt(variance + _SMALLEST)
