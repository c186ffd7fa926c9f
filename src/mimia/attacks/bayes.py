"""BASE, the Bayes-optimal attack for losses that are negative log-likelihoods (Lassila et al., arXiv 2505.24089).

RMIA with a single population point and InfoRMIA rank images in the same order.
"""

from mimia.attacks.base import Attack, Requirements
from mimia.attacks.summaries import log_mean_exp_where, mean_distance
from mimia.runtime.arrays import Floats
from mimia.signals.arrays import AttackInput


class BASE(Attack):
    """Score = −L − log mean over the references k that did not see the image of exp(−L_k)."""

    paper = "Lassila et al., arXiv 2505.24089"
    requirements = Requirements(signals=("reconstruction",), shadows=2)

    def _score(self, inputs: AttackInput) -> Floats:
        references = inputs.references
        expected = log_mean_exp_where(-mean_distance(references.signals), ~references.membership)
        scores: Floats = -mean_distance(inputs.target)[0] - expected
        return scores
