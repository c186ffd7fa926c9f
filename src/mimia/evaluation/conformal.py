"""Conformal p-values for single images, and lists of members with a bounded false-discovery rate."""

import numpy as np
from scipy.stats import false_discovery_control

from mimia.runtime.arrays import Bools, Floats


def conformal_p_values(scores: Floats, holdout_scores: Floats) -> Floats:
    """Rank scores among those of known non-members: p = (1 + #{s_i ≥ s}) / (n + 1).

    Valid where a candidate that is no member is exchangeable with the holdout: from the same source, and as unseen by
    the shadows (Bates et al., arXiv 2104.08279, equation 2).

    Args:
        scores: Of the candidates, (images,).
        holdout_scores: Of known non-members, (n,).

    Returns:
        (images,); small if the image scores higher than the holdout.

    >>> conformal_p_values(np.array([5.0, 2.0, 0.0]), np.array([1.0, 2.0, 3.0]))
    array([0.25, 0.75, 1.  ])
    """
    ordered = np.sort(holdout_scores)
    at_least = len(ordered) - np.searchsorted(ordered, scores, side="left")
    return (1 + at_least) / (len(ordered) + 1)


def discoveries(p_values: Floats, fdr: float) -> Bools:
    """Choose images so that the expected proportion of non-members among the chosen is at most ``fdr``.

    Benjamini and Hochberg's procedure (1995), which holds for conformal p-values from one holdout (Bates et al.,
    arXiv 2104.08279, theorem 2).
    """
    chosen: Bools = false_discovery_control(p_values, method="bh") <= fdr
    return chosen
