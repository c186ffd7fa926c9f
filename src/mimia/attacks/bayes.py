"""BASE, the Bayes-optimal attack for losses that are negative log-likelihoods (Lassila et al., arXiv 2505.24089).

RMIA with a single population point and InfoRMIA give the same order of images.
"""

from mimia.arrays import Floats
from mimia.attacks.base import Attack, Needs
from mimia.attacks.summaries import log_mean_exp_where, mean_distance
from mimia.signals.base import Evidence


class Base(Attack):
    """Score = −L − log mean over the references k that did not see the image of exp(−L_k)."""

    paper = "Lassila et al., arXiv 2505.24089"
    needs = Needs(signals=("distances",), shadows=2)

    def _score(self, evidence: Evidence) -> Floats:
        references = evidence.references
        expected = log_mean_exp_where(-mean_distance(references.signals), ~references.membership)
        scores: Floats = -mean_distance(evidence.target)[0] - expected
        return scores
