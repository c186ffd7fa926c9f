"""The likelihood-ratio attack LiRA (Carlini et al., arXiv 2112.03570) on φ = −log L.

φ of an image is taken for normal over models that were trained on it, and over models that were not. The online attack
estimates both normal distributions, the offline attack the second alone.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy.stats import norm

from mimia.attacks.base import Attack, Requirements
from mimia.attacks.games import ShadowGame, all_shadows
from mimia.attacks.summaries import log_distance, mean_where, pooled_variance, variance_where
from mimia.runtime.arrays import Bools, Floats
from mimia.signals.arrays import AttackInput

_SMALLEST = 1e-12  # variance of references that agree, as in blank images


class LiRA(Attack):
    """Score = log N(φ; μ_in, σ_in) − log N(φ; μ_out, σ_out) online, (φ − μ_out) / σ_out offline.

    Args:
        online: Whether the references were trained on halves of the evaluated images (algorithm 1), or on none of
            them (section V-C).
        pooled: Whether all images share one σ, as in the paper below 64 shadows, or each has its own.
    """

    paper = "Carlini et al., arXiv 2112.03570, eq. 4, algorithm 1"
    _pooled_in: float = np.nan
    _pooled_out: float = np.nan

    def __init__(self, *, online: bool = False, pooled: bool = True) -> None:
        self.online = online
        self.pooled = pooled

    @property
    def requirements(self) -> Requirements:
        """Enough shadows for a mean or a variance of each side while one is in the place of the target."""
        if self.online:
            return Requirements(signals=("reconstruction",), shadows=4 if self.pooled else 6, online=True)
        return Requirements(signals=("reconstruction",), shadows=2 if self.pooled else 3)

    def _learn(self, games: Sequence[ShadowGame]) -> None:
        if games and self.pooled:
            shadows = all_shadows(games)
            values = -log_distance(shadows.signals)
            self._pooled_in = pooled_variance(values, shadows.membership)
            self._pooled_out = pooled_variance(values, ~shadows.membership)

    def _score(self, inputs: AttackInput) -> Floats:
        value, references = -log_distance(inputs.target)[0], -log_distance(inputs.references.signals)
        inside = inputs.references.membership
        mean, deviation = self._normal(references, ~inside, self._pooled_out)
        if not self.online:
            scores: Floats = (value - mean) / deviation
            return scores
        mean_in, deviation_in = self._normal(references, inside, self._pooled_in)
        ratio = norm.logpdf(value, mean_in, deviation_in) - norm.logpdf(value, mean, deviation)
        return np.asarray(ratio)

    def _normal(self, references: Floats, chosen: Bools, pooled: float) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of the chosen references' φ, each (images,)."""
        mean = mean_where(references, chosen)
        variance = np.full_like(mean, pooled) if self.pooled else variance_where(references, chosen)
        return mean, np.sqrt(variance + _SMALLEST)


UNPOOLED = partial(LiRA, pooled=False)
ONLINE = partial(LiRA, online=True, pooled=False)
ONLINE_POOLED = partial(LiRA, online=True)
