"""The robust membership inference attack RMIA (Zarifzadeh et al., arXiv 2312.03262).

The ratio of an image's likelihood under the target to that under the references is compared with the ratios of a
population of known non-members.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from pydantic import PositiveFloat

from mimia.attacks.base import Attack, Requirements
from mimia.attacks.games import ShadowGame
from mimia.attacks.summaries import auc, log_mean_exp_where, mean_distance
from mimia.runtime.arrays import Floats
from mimia.signals.arrays import AttackInput

_OFFSETS = tuple(np.arange(11) / 10)


class RMIA(Attack):
    """Score = proportion of the population z with (p(x)/p̄(x)) / (p(z)/p̄(z)) ≥ γ, where p = exp(−L/T).

    Online, p̄ is the mean of the two means over the references that were trained on the image and that were not.
    Offline, p̄ = ½ ((1 + a) p_out + 1 − a) (section 3, equation 9 and appendix B.2.2), with the a of 0, .1, … 1 that
    has the highest AUC on shadows. Ties, as between images that beat every z, are broken by the ratio, which moves
    the score by less than one z.

    Args:
        online: Whether the references were trained on halves of the images that are evaluated.
        gamma: γ; 1 ranks the images.
        temperature: T, in units of the distance.
    """

    paper = "Zarifzadeh et al., arXiv 2312.03262, eq. 4 and 9"
    _offset: float = 1.0

    def __init__(self, *, online: bool = False, gamma: PositiveFloat = 1.0, temperature: PositiveFloat = 1.0) -> None:
        self.online = online
        self.gamma = gamma
        self.temperature = temperature

    @property
    def requirements(self) -> Requirements:
        """References, and a population."""
        return Requirements(
            signals=("reconstruction",), shadows=4 if self.online else 2, online=self.online, population=True
        )

    def _learn(self, games: Sequence[ShadowGame]) -> None:
        if self.online:
            return
        aucs = {}
        for offset in _OFFSETS if games else ():
            self._offset = float(offset)
            ratios = [(self._log_ratios(game.inputs), game.members) for game in games]
            found = [auc(ratio[~np.isnan(ratio)], members[~np.isnan(ratio)]) for ratio, members in ratios]
            if not np.isnan(found).all():
                aucs[self._offset] = float(np.nanmean(found))
        self._offset = max(aucs, key=lambda offset: aucs[offset], default=1.0)

    def _score(self, inputs: AttackInput) -> Floats:
        assert inputs.population is not None
        ratios, population = self._log_ratios(inputs), np.sort(self._log_ratios(inputs.population, seen=False))
        beaten = np.searchsorted(population, ratios - np.log(self.gamma), side="right")
        within = (1 + ratios / (1 + np.abs(ratios))) / 2  # from 0 to 1, strictly increasing
        return np.where(np.isnan(ratios), np.nan, (beaten + within) / (len(population) + 1))

    def _log_ratios(self, inputs: AttackInput, *, seen: bool = True) -> Floats:
        """Return the log-likelihood under the target minus that under the references, (images,).

        No reference was trained on the population, so that its p̄ online is p_out.
        """
        references = -mean_distance(inputs.references.signals) / self.temperature
        inside = inputs.references.membership
        expected = log_mean_exp_where(references, ~inside)
        with np.errstate(invalid="ignore"):  # NaN stays NaN
            if not self.online:
                never = np.log1p(-self._offset) if self._offset < 1 else -np.inf
                expected = np.logaddexp(np.log1p(self._offset) + expected, never) - np.log(2)
            elif seen:
                expected = np.logaddexp(expected, log_mean_exp_where(references, inside)) - np.log(2)
        ratios: Floats = -mean_distance(inputs.target)[0] / self.temperature - expected
        return ratios


ONLINE = partial(RMIA, online=True)
