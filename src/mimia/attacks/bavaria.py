"""BaVarIA: LiRA with variances that a prior keeps stable (Brännvall, arXiv 2603.11799).

Mean and variance of φ = −log L over models have a normal-inverse-gamma prior, so that the prediction for another model
is a Student t distribution. It is wide with few references, and tends to LiRA's normal with many. The prior is
estimated from all images of the shadows: overall mean, pooled variance within an image, variance between images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from pydantic import PositiveFloat
from scipy.special import stdtr
from scipy.stats import t as student_t

from mimia.attacks.base import Attack, Requirements
from mimia.attacks.games import ShadowGame, all_shadows
from mimia.attacks.summaries import log_distance, mean_where, pooled_variance
from mimia.runtime.arrays import Bools, Floats
from mimia.signals.arrays import AttackInput

_SMALLEST = 1e-12
_UNDERFLOW = 1e-290  # the logarithm of a smaller probability is computed by an expansion


@dataclass(frozen=True)
class _Prior:
    """Normal-inverse-gamma prior: mean m with the weight of k observations; shape a and scale b of the variance."""

    m: float
    k: float
    a: float
    b: float

    def predict(self, values: Floats, chosen: Bools) -> tuple[Floats, Floats, Floats]:
        """Return location, scale and degrees of freedom of the Student t given the chosen values, each (images,)."""
        n = chosen.sum(axis=0)
        total = np.where(chosen, values, 0.0).sum(axis=0)
        mean = np.divide(total, n, out=np.full(len(n), self.m), where=n > 0)
        squares = (np.where(chosen, values - mean, 0.0) ** 2).sum(axis=0)
        k, a = self.k + n, self.a + n / 2
        location = (self.k * self.m + n * mean) / k
        b = self.b + squares / 2 + self.k * n * (mean - self.m) ** 2 / (2 * k)
        return location, np.sqrt(b * (k + 1) / (a * k)), 2 * a


class BaVarIA(Attack):
    """Score = log t(φ | member) − log t(φ | non-member) online, −log P(t > φ | non-member) offline.

    Args:
        online: Whether the references were trained on halves of the images that are evaluated.
        strength: Degrees of freedom of the prior on the variance.
    """

    paper = "Brännvall, arXiv 2603.11799"
    _inside: _Prior | None = None
    _outside: _Prior | None = None

    def __init__(self, *, online: bool = False, strength: PositiveFloat = 4.0) -> None:
        self.online = online
        self.strength = strength

    @property
    def requirements(self) -> Requirements:
        """Those of LiRA with a pooled variance."""
        return Requirements(signals=("reconstruction",), shadows=4 if self.online else 2, online=self.online)

    def _learn(self, games: Sequence[ShadowGame]) -> None:
        if games:
            shadows = all_shadows(games)
            values = -log_distance(shadows.signals)
            self._outside = self._prior(values, ~shadows.membership)
            self._inside = self._prior(values, shadows.membership) if self.online else None

    def _score(self, inputs: AttackInput) -> Floats:
        assert self._outside is not None
        value, references = -log_distance(inputs.target)[0], -log_distance(inputs.references.signals)
        inside = inputs.references.membership
        location, scale, freedom = self._outside.predict(references, ~inside)
        if self._inside is None:
            return np.where(inside.all(axis=0), np.nan, -_log_survival((value - location) / scale, freedom))
        location_in, scale_in, freedom_in = self._inside.predict(references, inside)
        ratio = student_t.logpdf(value, freedom_in, location_in, scale_in)
        ratio -= student_t.logpdf(value, freedom, location, scale)
        return np.where(inside.all(axis=0) | ~inside.any(axis=0), np.nan, ratio)

    def _prior(self, values: Floats, chosen: Bools) -> _Prior:
        means = mean_where(values, chosen)
        within = pooled_variance(values, chosen)
        within = _SMALLEST if np.isnan(within) else within + _SMALLEST
        apart = float(np.nanvar(means)) + _SMALLEST
        return _Prior(m=float(np.nanmean(means)), k=within / apart, a=self.strength / 2, b=self.strength / 2 * within)


def _log_survival(places: Floats, freedom: Floats) -> Floats:
    """Return log P(t > place), without ties far below the location and finite far above it."""
    above = stdtr(freedom, -places)
    below = np.log1p(-np.minimum(stdtr(freedom, places), 0.5))
    far = np.maximum(places, 1.0)
    tail = student_t.logpdf(far, freedom) + np.log(far / freedom + 1 / far)
    upper = np.where(above > _UNDERFLOW, np.log(np.maximum(above, _UNDERFLOW)), tail)
    return np.where(places < 0, below, upper)


ONLINE = partial(BaVarIA, online=True)
