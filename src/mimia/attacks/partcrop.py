"""PartCrop (Zhu et al., arXiv 2404.02462): the feature map of a training image responds more sharply to its parts.

Members and non-members, of the target and of the shadows, are cropped by one procedure. The released code takes random
crops of members and a plain resize of non-members, which suffices to separate them.
"""

from collections.abc import Sequence

from pydantic import NonNegativeInt, PositiveInt

from mimia.attacks.base import Attack, Requirements
from mimia.attacks.games import ShadowGame, labelled
from mimia.attacks.networks import Classifier, perceptron
from mimia.runtime.arrays import Floats
from mimia.signals.arrays import AttackInput


class PartCrop(Attack):
    """Score = log-odds that a classifier gives the sorted divergences of the crops' responses.

    Args:
        epochs: Epochs of the classifier.
        seed: Seed of the classifier.
    """

    paper = "Zhu et al., arXiv 2404.02462, section 4"
    requirements = Requirements(signals=("partcrop",), shadows=2, population=True)
    _classifier: Classifier | None = None

    def __init__(self, *, epochs: PositiveInt = 100, seed: NonNegativeInt = 0) -> None:
        self.epochs = epochs
        self.seed = seed

    def _learn(self, games: Sequence[ShadowGame]) -> None:
        if games:
            features, labels = labelled(games, lambda inputs: inputs.target["partcrop"][0])
            module = perceptron(features.shape[1], 512, 256, 128, 1)
            self._classifier = Classifier(module, self.epochs, self.seed, weight_decay=5e-4).fit(features, labels)

    def _score(self, inputs: AttackInput) -> Floats:
        assert self._classifier is not None
        return self._classifier.predict(inputs.target["partcrop"][0])
