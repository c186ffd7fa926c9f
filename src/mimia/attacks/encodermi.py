"""EncoderMI (Liu et al., arXiv 2108.11023): views of a training image are embedded more alike.

The variant T, a threshold on the mean similarity, is `Threshold` on the signal ``crop_similarity``.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from mimia.attacks.base import Attack, Requirements
from mimia.attacks.games import ShadowGame, labelled
from mimia.attacks.networks import Classifier, perceptron
from mimia.runtime.arrays import Floats
from mimia.signals.arrays import AttackInput

_HIDDEN = 256
_HIDDEN_OF_EACH = 64  # the network runs once for each number of a set


class EncoderMI(Attack):
    """Score = log-odds that a classifier gives the pairwise distances of an image's views.

    Args:
        variant: ``vector`` (V) takes the sorted distances; ``set`` (S) embeds each distance and takes the mean, so that
            their order does not matter.
        epochs: Epochs of the classifier.
        seed: Seed of the classifier.
    """

    paper = "Liu et al., arXiv 2108.11023, section 4"
    requirements = Requirements(signals=("crop_similarity",), shadows=2, population=True)
    _classifier: Classifier | None = None

    def __init__(
        self, *, variant: Literal["vector", "set"] = "vector", epochs: PositiveInt = 100, seed: NonNegativeInt = 0
    ) -> None:
        self.variant = variant
        self.epochs = epochs
        self.seed = seed

    def _learn(self, games: Sequence[ShadowGame]) -> None:
        if games:
            features, labels = labelled(games, self._features)
            pairs = features.shape[1]
            module = _SetClassifier() if self.variant == "set" else perceptron(pairs, _HIDDEN, _HIDDEN, 1)
            classifier = Classifier(module, self.epochs, self.seed, exchangeable=self.variant == "set")
            self._classifier = classifier.fit(features, labels)

    def _score(self, inputs: AttackInput) -> Floats:
        assert self._classifier is not None
        return self._classifier.predict(self._features(inputs))

    def _features(self, inputs: AttackInput) -> Floats:
        distances = inputs.target["crop_similarity"][0]
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


SET = partial(EncoderMI, variant="set")
