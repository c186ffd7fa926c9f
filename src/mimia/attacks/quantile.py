"""Regression of the distance, without references (Bertran et al., arXiv 2307.03694; Tang et al., arXiv 2312.05140).

The distance that the target has on a non-member is predicted from pixel statistics of the image, by a regression on the
population.
"""

import numpy as np
from pydantic import NonNegativeInt, PositiveInt
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import cross_val_predict

from mimia.attacks.base import Attack, Requirements
from mimia.attacks.summaries import in_order, log_distance
from mimia.runtime.arrays import Floats
from mimia.runtime.errors import MimiaError
from mimia.signals.arrays import AttackInput

_SMALLEST = 1e-12
_FOLDS = 5


class QuantileRegression(Attack):
    """Score = (μ(x) − log L) / σ(x), where log L of a non-member x is taken for normal with mean μ and deviation σ.

    The ranking is that by quantiles of the normal distribution; μ and σ are gradient-boosted trees.

    Args:
        trees: Number of trees of each regression.
        seed: Seed of the trees.
    """

    paper = "Tang et al., arXiv 2312.05140, section 3"
    requirements = Requirements(signals=("reconstruction", "image_features"), shadows=1, population=True)

    def __init__(self, *, trees: PositiveInt = 100, seed: NonNegativeInt = 0) -> None:
        self.trees = trees
        self.seed = seed

    def _score(self, inputs: AttackInput) -> Floats:
        assert inputs.population is not None
        target, population = inputs.target, inputs.population.target
        if len(population.images) < _FOLDS:
            raise MimiaError(
                f"The attack {self.name!r} needs {_FOLDS} known non-members and has {len(population.images)}: raise "
                "split.n_population."
            )
        features = in_order(population, "image_features")[0]
        logs = log_distance(population)[0, np.argsort(population.images)]
        expected = self._regressor()
        # A regression has too small errors on images that it was fitted to.
        unseen = cross_val_predict(expected, features, logs, cv=_FOLDS)
        spread = self._regressor().fit(features, np.log(np.abs(logs - unseen) + _SMALLEST))
        expected.fit(features, logs)
        evaluated = target["image_features"][0]
        scores: Floats = (expected.predict(evaluated) - log_distance(target)[0]) / np.exp(spread.predict(evaluated))
        return scores

    def _regressor(self) -> HistGradientBoostingRegressor:
        return HistGradientBoostingRegressor(
            loss="absolute_error",  # a few blank images would move a mean by much
            max_iter=self.trees,
            max_leaf_nodes=8,
            learning_rate=0.05,
            early_stopping=False,
            random_state=self.seed,
        )
