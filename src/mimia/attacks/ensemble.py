"""A learned combination of many signals, fitted on shadows alone.

The distance under training's own question holds what the target remembers and how hard the image is; references and
the neighbouring questions (other mask ratios, the mirrored and shifted image) tell the second part. How they have to be
weighed is learned where membership is known: on each shadow in the place of the target.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from mimia.arrays import Floats
from mimia.attacks.base import Attack, Needs, Played
from mimia.signals.base import Evidence, Signals

_SMALLEST = np.finfo(np.float32).tiny


class Ensemble(Attack):
    """Score = log-odds of a logistic regression on all signals, raw and relative to the references that did not see it.

    Args:
        kinds: What is combined.
        regularisation: Inverse strength of the ridge penalty.
    """

    paper = "mimia"
    _classifier: Pipeline | None = None

    def __init__(self, kinds: tuple[str, ...] = ("distances", "surroundings"), regularisation: float = 1.0) -> None:
        self.kinds = kinds
        self.regularisation = regularisation

    @property
    def needs(self) -> Needs:
        """Two shadows, each the other's reference, and known non-members to learn from."""
        return Needs(signals=self.kinds, shadows=2, known=True)

    def _learn(self, played: Played) -> None:
        if not played:
            return
        features = np.concatenate([self._features(evidence) for evidence, _ in played])
        labels = np.concatenate([members for _, members in played])
        usable = np.isfinite(features).all(axis=1)
        if labels[usable].all() or not labels[usable].any():
            raise self._nothing_to_learn_from()
        regression = LogisticRegression(
            C=self.regularisation, class_weight="balanced", solver="newton-cholesky", tol=1e-8
        )
        self._classifier = make_pipeline(StandardScaler(), regression)
        self._classifier.fit(features[usable], labels[usable])

    def _score(self, evidence: Evidence) -> Floats:
        features = self._features(evidence)
        usable = np.isfinite(features).all(axis=1)
        scores = np.full(len(features), np.nan)
        if usable.any() and self._classifier is not None:
            scores[usable] = self._classifier.decision_function(features[usable])
        return scores

    def _features(self, evidence: Evidence) -> Floats:
        """What the target says, and how much less than the references: (images, 2 × numbers)."""
        references = evidence.references
        target, others = self._numbers(evidence.target)[0], self._numbers(references.signals)
        outside = ~references.membership[:, :, None]
        count = outside.sum(axis=0)
        total = np.where(outside, others, 0.0).sum(axis=0)
        expected = np.divide(total, count, out=np.full(target.shape, np.nan), where=count > 0)
        return np.concatenate([-target, expected - target], axis=1)

    def _numbers(self, signals: Signals) -> Floats:
        """All kinds as numbers whose differences mean the same for easy and for hard images: (models, images, n)."""
        return np.concatenate([_numbers(kind, signals[kind].astype(np.float64)) for kind in self.kinds], axis=2)


def _numbers(kind: str, values: Floats) -> Floats:
    if kind == "surroundings":  # logarithms already
        return values
    if kind == "ratios":  # each number another question
        logs: Floats = np.log(np.maximum(values, _SMALLEST))
        return logs
    summary: Floats = np.stack([values.mean(axis=2), values.std(axis=2)], axis=2)
    return np.log(np.maximum(summary, _SMALLEST))
