"""Difficulty calibration (Watson et al., arXiv 2111.08440, equation 2) on the logarithm of the distance.

An image's own difficulty, and not membership, makes most of the variance of its distance. Models that did not see the
image measure that difficulty; with the same masks for all, the noise of the masks cancels too.
"""

from typing import ClassVar

import numpy as np

from mimia.arrays import Floats
from mimia.attacks.base import Attack, Needs
from mimia.signals.base import Shadows, Signals

_SMALLEST = np.finfo(np.float32).tiny  # a blank patch-normalised image can have the distance 0


class Calibrated(Attack):
    """Score = mean over the references k that did not see the image of log L_k − log L."""

    name: ClassVar[str] = "calibrated"
    needs: ClassVar[Needs] = Needs(access="embeddings", shadows=2)

    def _score(self, target: Signals, references: Shadows) -> Floats:
        out = ~references.membership
        count = out.sum(axis=0)
        total = np.where(out, _log_distance(references.signals), 0.0).sum(axis=0)
        difficulty = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
        scores: Floats = difficulty - _log_distance(target)[0]
        return scores


def _log_distance(signals: Signals) -> Floats:
    """Logarithm of the mean distance over the masks, (models, images)."""
    distance = signals.values.mean(axis=-1, dtype=np.float64)
    logs: Floats = np.log(np.maximum(distance, _SMALLEST))
    return logs
