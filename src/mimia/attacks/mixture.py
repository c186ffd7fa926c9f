"""How likely an embedding is among those of other images (DI4SSL, Dziedzic et al., arXiv 2209.09024)."""

import numpy as np
from sklearn.mixture import GaussianMixture

from mimia.arrays import Floats
from mimia.attacks.base import Attack, Needs, Played
from mimia.attacks.summaries import area, in_order
from mimia.signals.base import Evidence

_ITERATIONS = 1000  # at most


class Mixture(Attack):
    """Score = ± the log-likelihood of the embedding under a mixture fitted to embeddings of known non-members.

    Which sign members have is learned on shadows.

    Args:
        components: Gaussians with diagonal covariance.
        seed: Of their initial places.
    """

    paper = "Dziedzic et al., arXiv 2209.09024, section 3"
    needs = Needs(signals=("embeddings",), shadows=2, known=True)
    _sign: int = 1

    def __init__(self, components: int = 10, seed: int = 0) -> None:
        self.components = components
        self.seed = seed

    def _learn(self, played: Played) -> None:
        self._sign = 1
        areas = []
        for evidence, members in played:
            assert evidence.known is not None
            # Images that the mixture was fitted to are likely under it, and that is not the target's doing.
            unseen = ~np.isin(evidence.target.images, evidence.known.target.images)
            if 0 < members[unseen].sum() < unseen.sum():
                areas.append(area(self._score(evidence.of_images(unseen)), members[unseen]))
        if areas and np.mean(areas) < 0.5:
            self._sign = -1

    def _score(self, evidence: Evidence) -> Floats:
        assert evidence.known is not None
        known = in_order(evidence.known.target, "embeddings")[0]
        mean, spread = known.mean(axis=0), known.std(axis=0)
        spread = np.where(spread > 0, spread, 1.0)  # a number that never changes says nothing
        mixture = GaussianMixture(
            min(self.components, len(np.unique(known, axis=0))),
            covariance_type="diag",
            reg_covar=1e-3,
            max_iter=_ITERATIONS,
            random_state=self.seed,
        )
        mixture.fit((known - mean) / spread)
        judged = evidence.target["embeddings"][0].astype(np.float64)
        scores: Floats = self._sign * mixture.score_samples((judged - mean) / spread)
        return scores
