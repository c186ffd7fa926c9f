"""Conformal p-values that use every reference image, also those that shadow models were trained on.

A candidate was seen by no shadow, and a reference image of the shadow pool by about half of them. So the two are
compared by those shadows alone that did not see the reference image: by these, and by the target, a candidate that is
no member is exchangeable with it. Each set of shadows judges the images that exactly its members did not see, and the
counts are pooled, as in cross-conformal prediction (Vovk, arXiv 1208.0806, equation 4) and in the jackknife+ (Barber et
al., arXiv 1905.02928). Each group alone gives exact p-values. Pooled ones average over groups: at worst they are twice
too small in theory, and they were never too small in our simulations (docs/validity.md).
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import false_discovery_control

from mimia.attacks.base import Attack
from mimia.runtime.arrays import Bools, Floats, Indices
from mimia.signals.arrays import AttackInput


class CrossConformal(NamedTuple):
    """p-values of candidates.

    Attributes:
        p_values: (1 + #{reference images that score at least as high}) / (n + 1), (candidates,).
        judging: Number n of reference images.
    """

    p_values: Floats
    judging: int

    @property
    def q_values(self) -> Floats:
        """Return the smallest false discovery rate at which each candidate is listed (Benjamini and Hochberg)."""
        q_values: Floats = false_discovery_control(self.p_values, method="bh")
        return q_values


def cross_conformal(attack: Attack, candidates: AttackInput, judging: AttackInput) -> CrossConformal:
    """Rank candidates among known non-members, each of these by the shadows that did not see it.

    Args:
        attack: Fitted on the shadows.
        candidates: Signals of target and shadows on images that no shadow was trained on, (candidates,).
        judging: The same on known non-members of the target; the membership says which shadows were trained on which.
    """
    membership = judging.references.membership
    patterns, group_of = np.unique(membership, axis=1, return_inverse=True)
    at_least = np.zeros(len(candidates.target.images), dtype=np.intp)
    n_judging = 0
    for group, pattern in enumerate(patterns.T):
        unseen = np.flatnonzero(~pattern)
        if len(unseen) == 0:
            continue
        chosen: Bools = group_of.ravel() == group
        both = _by_shadows(candidates.joined(judging.of_images(chosen), judging.target.values), unseen)
        values = attack.score(both).values
        own, others = values[: len(at_least)], np.sort(values[len(at_least) :])
        at_least += len(others) - np.searchsorted(others, own, side="left")
        n_judging += len(others)
    return CrossConformal((1 + at_least) / (n_judging + 1), n_judging)


def _by_shadows(inputs: AttackInput, shadows: Indices) -> AttackInput:
    """Return the input with some of the references."""
    population = None if inputs.population is None else _by_shadows(inputs.population, shadows)
    return AttackInput(inputs.target, inputs.references.of_models(shadows), population)
