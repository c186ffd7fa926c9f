"""Calibration without references (Shafran et al., arXiv 2102.07762), by how predictable an image is from itself.

A ridge regression on the features of an untrained network measures how well an image's patches follow from each other.
"""

import numpy as np

from mimia.attacks.base import Attack, Requirements
from mimia.attacks.summaries import mean_distance
from mimia.runtime.arrays import Floats
from mimia.signals.arrays import AttackInput


class Predictability(Attack):
    """Score = P − L, where P is the error of the ridge regression."""

    paper = "Shafran et al., arXiv 2102.07762, section 4"
    requirements = Requirements(signals=("reconstruction", "patch_predictability"), shadows=1)

    def _score(self, inputs: AttackInput) -> Floats:
        target = inputs.target
        scores: Floats = np.subtract(mean_distance(target, "patch_predictability"), mean_distance(target))[0]
        return scores
