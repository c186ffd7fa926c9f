"""Regression of the distance, without references (Bertran et al., arXiv 2307.03694; Tang et al., arXiv 2312.05140).

What distance is to be expected of an image that the target did not see is learned from the target's answers on images
that are known to be no members; the features are what can be seen of an image without any model.
"""

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import cross_val_predict

from mimia.arrays import Floats
from mimia.attacks.base import Attack, Needs
from mimia.attacks.summaries import in_order, log_distance
from mimia.errors import MimiaError
from mimia.signals.base import Evidence

_SMALLEST = 1e-12
_FOLDS = 5


class QuantileRegression(Attack):
    """Score = (μ(x) − log L) / σ(x): how far the distance lies under that of a non-member, whose log L is normal.

    The order is that of the quantiles that a normal distribution gives; μ and σ are gradient-boosted trees.

    Args:
        trees: Of each regression.
        seed: Of the trees.
    """

    paper = "Tang et al., arXiv 2312.05140, section 3"
    needs = Needs(signals=("distances", "statistics"), shadows=1, known=True)

    def __init__(self, trees: int = 100, seed: int = 0) -> None:
        self.trees = trees
        self.seed = seed

    def _score(self, evidence: Evidence) -> Floats:
        assert evidence.known is not None
        target, known = evidence.target, evidence.known.target
        if len(known.images) < _FOLDS:
            raise MimiaError(
                f"The attack {self.name!r} needs {_FOLDS} known non-members and has {len(known.images)}: raise "
                "split.n_known."
            )
        features, logs = in_order(known, "statistics")[0], log_distance(known)[0, np.argsort(known.images)]
        expected = self._regressor()
        # Errors of images that a regression saw are too small.
        unseen = cross_val_predict(expected, features, logs, cv=_FOLDS)
        spread = self._regressor().fit(features, np.log(np.abs(logs - unseen) + _SMALLEST))
        expected.fit(features, logs)
        judged = target["statistics"][0]
        scores: Floats = (expected.predict(judged) - log_distance(target)[0]) / np.exp(spread.predict(judged))
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
