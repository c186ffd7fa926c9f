"""PartCrop (Zhu et al., arXiv 2404.02462): parts of an image that was trained on find their place in its feature map.

Members and non-members, of the target and of the shadows, are cropped by one procedure; the released code gives
members random crops and non-members a plain resize, which alone tells them apart.
"""

import numpy as np

from mimia.arrays import Floats
from mimia.attacks.base import Attack, Needs, Played
from mimia.attacks.networks import Classifier, perceptron
from mimia.signals.base import Evidence


class PartCrop(Attack):
    """Score = log-odds that a classifier gives the sorted divergences of the crops' responses.

    Args:
        epochs: Of the classifier.
        seed: Of the classifier.
    """

    paper = "Zhu et al., arXiv 2404.02462, section 4"
    needs = Needs(signals=("parts",), shadows=2, known=True)
    _classifier: Classifier | None = None

    def __init__(self, epochs: int = 100, seed: int = 0) -> None:
        self.epochs = epochs
        self.seed = seed

    def _learn(self, played: Played) -> None:
        if played:
            features = np.concatenate([evidence.target["parts"][0] for evidence, _ in played])
            labels = np.concatenate([members for _, members in played])
            module = perceptron(features.shape[1], 512, 256, 128, 1)
            self._classifier = Classifier(module, self.epochs, self.seed, weight_decay=5e-4).fit(features, labels)

    def _score(self, evidence: Evidence) -> Floats:
        assert self._classifier is not None
        return self._classifier.predict(evidence.target["parts"][0])
