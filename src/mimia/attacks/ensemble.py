"""A learned combination of many signals, fitted on shadows alone.

The distance under the masks of training depends on membership and on the image's difficulty. References and the
neighbouring queries (other mask ratios, the mirrored and shifted image) measure the difficulty. The weights are learned
on each shadow in the place of the target, where membership is known.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from pydantic import PositiveFloat
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from mimia.attacks.base import Attack, Requirements
from mimia.attacks.games import ShadowGame, labelled
from mimia.attacks.summaries import SMALLEST
from mimia.runtime.arrays import Floats
from mimia.signals.arrays import AttackInput, Signals

_RECONSTRUCTION = ("reconstruction", "loss_neighbourhood")
_EMBEDDINGS = ("view_similarity", "view_similarity_by_ratio", "crop_similarity")


class Ensemble(Attack):
    """Score = log-odds of a logistic regression on signals, raw and relative to references not trained on the image.

    Args:
        signals: Names of the signals that are combined.
        regularisation: Inverse strength of the ridge penalty.
    """

    paper = "mimia"
    _classifier: Pipeline | None = None

    def __init__(self, *, signals: tuple[str, ...] = _RECONSTRUCTION, regularisation: PositiveFloat = 1.0) -> None:
        self.signals = signals
        self.regularisation = regularisation

    @property
    def requirements(self) -> Requirements:
        """Two shadows, each the other's reference, and a population to learn from."""
        return Requirements(signals=self.signals, shadows=2, population=True)

    def _learn(self, games: Sequence[ShadowGame]) -> None:
        if not games:
            return
        features, labels = labelled(games, self._features)
        usable = np.isfinite(features).all(axis=1)
        if labels[usable].all() or not labels[usable].any():
            raise self._nothing_to_learn_from()
        regression = LogisticRegression(
            C=self.regularisation, class_weight="balanced", solver="newton-cholesky", tol=1e-8
        )
        self._classifier = make_pipeline(StandardScaler(), regression)
        self._classifier.fit(features[usable], labels[usable])

    def _score(self, inputs: AttackInput) -> Floats:
        features = self._features(inputs)
        usable = np.isfinite(features).all(axis=1)
        scores = np.full(len(features), np.nan)
        if usable.any() and self._classifier is not None:
            scores[usable] = self._classifier.decision_function(features[usable])
        return scores

    def _features(self, inputs: AttackInput) -> Floats:
        """Return the target's negative numbers, and how far they are below the references': (images, 2 × numbers)."""
        references = inputs.references
        target, others = self._numbers(inputs.target)[0], self._numbers(references.signals)
        outside = ~references.membership[:, :, None]
        count = outside.sum(axis=0)
        total = np.where(outside, others, 0.0).sum(axis=0)
        expected = np.divide(total, count, out=np.full(target.shape, np.nan), where=count > 0)
        return np.concatenate([-target, expected - target], axis=1)

    def _numbers(self, signals: Signals) -> Floats:
        """Return all signals as numbers on a scale that suits easy and hard images alike, (models, images, n)."""
        return np.concatenate([_numbers(name, signals[name].astype(np.float64)) for name in self.signals], axis=2)


def _numbers(name: str, values: Floats) -> Floats:
    if name == "loss_neighbourhood":  # logarithms already
        return values
    if name == "view_similarity_by_ratio":  # each number comes from another query
        logs: Floats = np.log(np.maximum(values, SMALLEST))
        return logs
    summary: Floats = np.stack([values.mean(axis=2), values.std(axis=2)], axis=2)
    return np.log(np.maximum(summary, SMALLEST))


WHITE_BOX = partial(Ensemble, signals=(*_RECONSTRUCTION, "gradients"))
EMBEDDINGS = partial(Ensemble, signals=_EMBEDDINGS)
ENCODER = partial(Ensemble, signals=_RECONSTRUCTION + _EMBEDDINGS)
