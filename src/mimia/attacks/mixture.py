"""Likelihood of an embedding among those of other images (DI4SSL, Dziedzic et al., arXiv 2209.09024)."""

from collections.abc import Sequence

import numpy as np
from pydantic import NonNegativeInt, PositiveInt
from sklearn.mixture import GaussianMixture

from mimia.attacks.base import Attack, Requirements
from mimia.attacks.games import ShadowGame
from mimia.attacks.summaries import auc, in_order
from mimia.runtime.arrays import Floats
from mimia.signals.arrays import AttackInput

_ITERATIONS = 1000  # at most


class Mixture(Attack):
    """Score = ± the log-likelihood of the embedding under a Gaussian mixture fitted to embeddings of the population.

    The sign is learned on shadows.

    Args:
        components: Number of Gaussians, with diagonal covariance.
        seed: Seed of their initial means.
    """

    paper = "Dziedzic et al., arXiv 2209.09024, section 3"
    requirements = Requirements(signals=("embeddings",), shadows=2, population=True)
    _sign: int = 1

    def __init__(self, *, components: PositiveInt = 10, seed: NonNegativeInt = 0) -> None:
        self.components = components
        self.seed = seed

    def _learn(self, games: Sequence[ShadowGame]) -> None:
        self._sign = 1
        aucs = []
        for game in games:
            inputs, members = game.inputs, game.members
            assert inputs.population is not None
            # Images that the mixture was fitted to are likely under it, whatever the target is.
            unseen = ~np.isin(inputs.target.images, inputs.population.target.images)
            if 0 < members[unseen].sum() < unseen.sum():
                aucs.append(auc(self._score(inputs.of_images(unseen)), members[unseen]))
        if aucs and np.mean(aucs) < 0.5:
            self._sign = -1

    def _score(self, inputs: AttackInput) -> Floats:
        assert inputs.population is not None
        population = in_order(inputs.population.target, "embeddings")[0]
        mean, spread = population.mean(axis=0), population.std(axis=0)
        spread = np.where(spread > 0, spread, 1.0)  # a number that never changes says nothing
        mixture = GaussianMixture(
            min(self.components, len(np.unique(population, axis=0))),
            covariance_type="diag",
            reg_covar=1e-3,
            max_iter=_ITERATIONS,
            random_state=self.seed,
        )
        mixture.fit((population - mean) / spread)
        evaluated = inputs.target["embeddings"][0].astype(np.float64)
        scores: Floats = self._sign * mixture.score_samples((evaluated - mean) / spread)
        return scores
