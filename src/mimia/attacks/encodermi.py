"""EncoderMI (Liu et al., arXiv 2108.11023): views of an image that was trained on are embedded more alike.

The variant T, a threshold on the mean similarity, is `Threshold` on the kind ``views``.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from mimia.arrays import Floats
from mimia.attacks.base import Attack, Needs, Played
from mimia.attacks.networks import Classifier, perceptron
from mimia.signals.base import Evidence

_HIDDEN = 256
_HIDDEN_OF_EACH = 64  # a set takes its network as often as it has numbers


class EncoderMi(Attack):
    """Score = log-odds that a classifier gives the pairwise distances of an image's views.

    Args:
        variant: ``vector`` (V) takes the sorted distances; ``set`` (S) takes them one by one and sums what it makes
            of each, so that their order cannot matter.
        epochs: Of the classifier.
        seed: Of the classifier.
    """

    paper = "Liu et al., arXiv 2108.11023, section 4"
    needs = Needs(signals=("views",), shadows=2, known=True)
    _classifier: Classifier | None = None

    def __init__(self, variant: Literal["vector", "set"] = "vector", epochs: int = 100, seed: int = 0) -> None:
        self.variant = variant
        self.epochs = epochs
        self.seed = seed

    def _learn(self, played: Played) -> None:
        if played:
            features = np.concatenate([self._features(evidence) for evidence, _ in played])
            labels = np.concatenate([members for _, members in played])
            pairs = features.shape[1]
            module = _SetClassifier() if self.variant == "set" else perceptron(pairs, _HIDDEN, _HIDDEN, 1)
            classifier = Classifier(module, self.epochs, self.seed, exchangeable=self.variant == "set")
            self._classifier = classifier.fit(features, labels)

    def _score(self, evidence: Evidence) -> Floats:
        assert self._classifier is not None
        return self._classifier.predict(self._features(evidence))

    def _features(self, evidence: Evidence) -> Floats:
        distances = evidence.target["views"][0]
        return distances if self.variant == "set" else np.sort(distances, axis=-1)


class _SetClassifier(nn.Module):
    """Deep sets (Zaheer et al., arXiv 1703.06114): (rows, set) -> (rows, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.each = perceptron(1, _HIDDEN_OF_EACH, _HIDDEN_OF_EACH)
        self.all = perceptron(_HIDDEN_OF_EACH, _HIDDEN_OF_EACH, 1)

    def forward(self, rows: Tensor) -> Tensor:
        together: Tensor = self.all(torch.relu(self.each(rows.unsqueeze(-1))).mean(dim=1))
        return together
