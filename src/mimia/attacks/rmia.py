"""The robust attack RMIA (Zarifzadeh et al., arXiv 2312.03262): is the image likelier than images of the population?

The ratio of an image's likelihood under the target to that under the references is compared with the same ratio of
images that are known to be no members.
"""

import numpy as np

from mimia.arrays import Floats
from mimia.attacks.base import Attack, Needs, Played
from mimia.attacks.summaries import area, log_mean_exp_where, mean_distance
from mimia.signals.base import Evidence

_OFFSETS = tuple(np.arange(11) / 10)


class Rmia(Attack):
    """Score = share of the known non-members z with (p(x)/p̄(x)) / (p(z)/p̄(z)) ≥ γ, where p = exp(−L/T).

    Online, p̄ is the mean of the two means over the references that saw the image and that did not. Offline, where
    none saw it, p̄ = ½ ((1 + a) p_out + 1 − a) (section 3, equation 9 and appendix B.2.2), and a is the one of 0, .1, …
    1 that gives the largest area on shadows. Among images that beat equally many, as all do that beat every z, the
    ratio decides: it moves the score by less than one z.

    Args:
        online: Whether the references were trained on halves of the images that are judged.
        gamma: γ; 1 ranks the images.
        temperature: T, in units of the distance.
    """

    paper = "Zarifzadeh et al., arXiv 2312.03262, eq. 4 and 9"
    _offset: float = 1.0

    def __init__(self, *, online: bool = False, gamma: float = 1.0, temperature: float = 1.0) -> None:
        self.online = online
        self.gamma = gamma
        self.temperature = temperature

    @property
    def needs(self) -> Needs:
        """References, and known non-members as the population."""
        return Needs(signals=("distances",), shadows=4 if self.online else 2, online=self.online, known=True)

    def _learn(self, played: Played) -> None:
        if self.online:
            return
        areas = {}
        for offset in _OFFSETS if played else ():
            self._offset = float(offset)
            ratios = [(self._log_ratios(evidence), members) for evidence, members in played]
            found = [area(ratio[~np.isnan(ratio)], members[~np.isnan(ratio)]) for ratio, members in ratios]
            if not np.isnan(found).all():
                areas[self._offset] = float(np.nanmean(found))
        self._offset = max(areas, key=lambda offset: areas[offset], default=1.0)

    def _score(self, evidence: Evidence) -> Floats:
        assert evidence.known is not None
        ratios, population = self._log_ratios(evidence), np.sort(self._log_ratios(evidence.known, seen=False))
        beaten = np.searchsorted(population, ratios - np.log(self.gamma), side="right")
        within = (1 + ratios / (1 + np.abs(ratios))) / 2  # from 0 to 1, and never even
        return np.where(np.isnan(ratios), np.nan, (beaten + within) / (len(population) + 1))

    def _log_ratios(self, evidence: Evidence, *, seen: bool = True) -> Floats:
        """Log-likelihood under the target less that under the references, (images,).

        No reference saw the images of the population, so that online p_out alone is expected of them.
        """
        references = -mean_distance(evidence.references.signals) / self.temperature
        inside = evidence.references.membership
        expected = log_mean_exp_where(references, ~inside)
        with np.errstate(invalid="ignore"):  # NaN stays NaN
            if not self.online:
                never = np.log1p(-self._offset) if self._offset < 1 else -np.inf
                expected = np.logaddexp(np.log1p(self._offset) + expected, never) - np.log(2)
            elif seen:
                expected = np.logaddexp(expected, log_mean_exp_where(references, inside)) - np.log(2)
        ratios: Floats = -mean_distance(evidence.target)[0] / self.temperature - expected
        return ratios
