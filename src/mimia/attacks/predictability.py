"""Calibration without references (Shafran et al., arXiv 2102.07762): how well can an image be predicted at all?

An image's parts follow from each other more or less; a ridge regression on the features of an unrelated network tells
how much, without a model that was trained.
"""

import numpy as np

from mimia.arrays import Floats
from mimia.attacks.base import Attack, Needs
from mimia.attacks.summaries import mean_distance
from mimia.signals.base import Evidence


class Predictability(Attack):
    """Score = P − L, where P is the error of the ridge regression."""

    paper = "Shafran et al., arXiv 2102.07762, section 4"
    needs = Needs(signals=("distances", "predictability"), shadows=1)

    def _score(self, evidence: Evidence) -> Floats:
        target = evidence.target
        scores: Floats = np.subtract(mean_distance(target, "predictability"), mean_distance(target))[0]
        return scores
