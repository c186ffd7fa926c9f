"""The ROC curve, its area, and the true-positive rate at low false-positive rates.

Ties count half in the area: it is the probability that a member scores higher than a non-member, plus half the
probability that they score the same.
"""

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve

from mimia.arrays import Floats, Indices
from mimia.evaluation.estimate import Estimate, share

_WEIGHTS_IN_MEMORY = 2**22


def roc_points(members: Floats, nonmembers: Floats) -> tuple[Floats, Floats]:
    """Give false- and true-positive rates of all thresholds, without points on straight lines."""
    false_rate, true_rate, _ = roc_curve(*_labelled(members, nonmembers))
    return false_rate, true_rate


def roc_area(members: Floats, nonmembers: Floats, resamples: int, seed: int) -> Estimate:
    """Give the ROC area with a percentile interval of the stratified bootstrap.

    Args:
        members: Scores of members, (m,).
        nonmembers: Scores of non-members, (n,).
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.

    >>> roc_area(np.array([2.0, 1.0]), np.array([1.0, 0.0]), resamples=10, seed=0).value
    0.875
    """
    area = float(roc_auc_score(*_labelled(members, nonmembers)))
    areas = _bootstrap_areas(members, nonmembers, resamples, np.random.default_rng(seed))
    low, high = np.quantile(areas, [0.025, 0.975])
    return Estimate(area, float(low), float(high))


def tpr_at_fpr(members: Floats, nonmembers: Floats, rate: float, fewest: int = 10) -> Estimate:
    """Give the share of members that score above all but a given share of the non-members.

    The interval (Clopper–Pearson) is for the threshold that these non-members set. With fewer than ``fewest``
    non-members above the threshold there is no figure, because they would not say where it is.
    """
    allowed = int(rate * len(nonmembers) + 1e-9)
    if allowed < fewest:
        needed = round(fewest / rate)
        return Estimate(None, note=f"too few images: {len(nonmembers):,} of {needed:,} non-members")
    bar = np.partition(nonmembers, -allowed - 1)[-allowed - 1]  # ties with it are not above it
    return share(int((members > bar).sum()), len(members))


def _labelled(members: Floats, nonmembers: Floats) -> tuple[Floats, Floats]:
    labels = np.concatenate([np.ones(len(members)), np.zeros(len(nonmembers))])
    return labels, np.concatenate([members, nonmembers])


def _bootstrap_areas(members: Floats, nonmembers: Floats, resamples: int, generator: np.random.Generator) -> Floats:
    """Areas of resamples: each is a sum over the distinct scores, weighted by how often each was drawn."""
    m, n = len(members), len(nonmembers)
    distinct, place = np.unique(np.concatenate([members, nonmembers]), return_inverse=True)
    order_m, starts_m, groups_m = _groups(place[:m])
    order_n, starts_n, groups_n = _groups(place[m:])
    areas = []
    chunk = max(1, _WEIGHTS_IN_MEMORY // (m + n))
    for start in range(0, resamples, chunk):
        count = min(chunk, resamples - start)
        positive = np.zeros((count, len(distinct)))
        negative = np.zeros((count, len(distinct)))
        drawn = generator.multinomial(m, np.full(m, 1 / m), size=count)
        positive[:, groups_m] = np.add.reduceat(drawn[:, order_m], starts_m, axis=1)
        drawn = generator.multinomial(n, np.full(n, 1 / n), size=count)
        negative[:, groups_n] = np.add.reduceat(drawn[:, order_n], starts_n, axis=1)
        beaten = negative.cumsum(axis=1) - negative / 2
        areas.append((positive * beaten).sum(axis=1) / (m * n))
    return np.concatenate(areas)


def _groups(place: Indices) -> tuple[Indices, Indices, Indices]:
    """Sort places; tell where each distinct one starts, and which it is."""
    order = np.argsort(place, kind="stable")
    groups, starts = np.unique(place[order], return_index=True)
    return order, starts, groups
