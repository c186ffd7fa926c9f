"""BaVarIA: LiRA with variances that a prior keeps stable (Brännvall, arXiv 2603.11799).

Mean and variance of φ = −log L over models have a normal-inverse-gamma prior, so that what is predicted of another
model is a Student t, which a few references widen and many bring to LiRA's normal. The prior is estimated from all
images of the shadows: the mean of all, the pooled variance within an image, and how far images lie apart.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr
from scipy.stats import t as student_t

from mimia.arrays import Bools, Floats
from mimia.attacks.base import Attack, Needs, Played, all_shadows
from mimia.attacks.summaries import log_distance, mean_where, pooled_variance
from mimia.signals.base import Evidence

_SMALLEST = 1e-12
_UNDERFLOW = 1e-290  # a probability below it is followed by its logarithm alone


@dataclass(frozen=True)
class _Prior:
    """Normal-inverse-gamma: mean m, worth k observations; shape a and scale b of the variance."""

    m: float
    k: float
    a: float
    b: float

    def predict(self, values: Floats, chosen: Bools) -> tuple[Floats, Floats, Floats]:
        """Location, scale and degrees of freedom of the Student t after the chosen values, each (images,)."""
        n = chosen.sum(axis=0)
        total = np.where(chosen, values, 0.0).sum(axis=0)
        mean = np.divide(total, n, out=np.full(len(n), self.m), where=n > 0)
        squares = (np.where(chosen, values - mean, 0.0) ** 2).sum(axis=0)
        k, a = self.k + n, self.a + n / 2
        location = (self.k * self.m + n * mean) / k
        b = self.b + squares / 2 + self.k * n * (mean - self.m) ** 2 / (2 * k)
        return location, np.sqrt(b * (k + 1) / (a * k)), 2 * a


class Bavaria(Attack):
    """Score = log t(φ | saw it) − log t(φ | did not) online, −log P(t > φ | did not) offline.

    Args:
        online: Whether the references were trained on halves of the images that are judged.
        strength: Degrees of freedom of the prior of the variance.
    """

    paper = "Brännvall, arXiv 2603.11799"
    _inside: _Prior | None = None
    _outside: _Prior | None = None

    def __init__(self, *, online: bool = False, strength: float = 4.0) -> None:
        self.online = online
        self.strength = strength

    @property
    def needs(self) -> Needs:
        """As LiRA with a pooled variance."""
        return Needs(signals=("distances",), shadows=4 if self.online else 2, online=self.online)

    def _learn(self, played: Played) -> None:
        if played:
            shadows = all_shadows(played)
            values = -log_distance(shadows.signals)
            self._outside = self._prior(values, ~shadows.membership)
            self._inside = self._prior(values, shadows.membership) if self.online else None

    def _score(self, evidence: Evidence) -> Floats:
        assert self._outside is not None
        value, references = -log_distance(evidence.target)[0], -log_distance(evidence.references.signals)
        inside = evidence.references.membership
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
    """Logarithm of P(t > place), which neither ties far below the location nor becomes infinite far above it."""
    above = stdtr(freedom, -places)
    below = np.log1p(-np.minimum(stdtr(freedom, places), 0.5))
    far = np.maximum(places, 1.0)
    tail = student_t.logpdf(far, freedom) + np.log(far / freedom + 1 / far)
    upper = np.where(above > _UNDERFLOW, np.log(np.maximum(above, _UNDERFLOW)), tail)
    return np.where(places < 0, below, upper)
