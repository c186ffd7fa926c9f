"""The attack of *Membership Inference Attack Against Masked Image Modeling* (arXiv 2408.06825).

An image that the encoder was pre-trained on is reconstructed with a lower error; the threshold is learned on shadows.
"""

from typing import ClassVar

import numpy as np

from mimia.arrays import Floats
from mimia.attacks.base import Attack, Needs
from mimia.signals.base import Shadows, Signals


class Threshold(Attack):
    """Score = −L, the mean distance over the masks, with its sign turned."""

    name: ClassVar[str] = "threshold"
    needs: ClassVar[Needs] = Needs(access="embeddings", shadows=1)

    def _score(self, target: Signals, references: Shadows) -> Floats:
        scores: Floats = -target.values[0].mean(axis=-1, dtype=np.float64)
        return scores
