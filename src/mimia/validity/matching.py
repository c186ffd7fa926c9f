"""The attack among pairs of a member and a non-member that look alike to classifiers which see no model."""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mimia.evaluation.evaluate import mann_whitney
from mimia.evaluation.intervals import Estimate
from mimia.evaluation.roc import roc_auc
from mimia.runtime.arrays import Bools, Floats, Indices
from mimia.validity.blind_baseline import BlindGuess


@dataclass(frozen=True)
class Matched:
    """The deciding attack among matched pairs of images.

    Attributes:
        pairs: Number of pairs of a member and a non-member.
        auc: AUC among them, if there are enough.
        p_value: One-sided Mann–Whitney test that members score higher.
    """

    pairs: int
    auc: Estimate
    p_value: float


def evaluate_matched(scores: Floats, is_member: Bools, guesses: Sequence[BlindGuess]) -> Matched:
    """Evaluate an attack on images that are matched on a weighted sum of the classifiers' scores.

    Args:
        scores: Of the attack, (N,).
        is_member: (N,).
        guesses: Of the classifiers, for the same images; none if there are too few images for them.
    """
    if not guesses:
        return Matched(0, Estimate(None, note="too few images"), 1.0)
    odds = np.column_stack([guess.scores for guess in guesses])
    combine = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    members, nonmembers = match_pairs(combine.fit(odds, is_member).decision_function(odds), is_member)
    if len(members) < 2:
        return Matched(len(members), Estimate(None, note="no images look alike"), 1.0)
    first, second = scores[members], scores[nonmembers]
    return Matched(len(members), roc_auc(first, second), mann_whitney(first, second))


def match_pairs(scores: Floats, is_member: Bools, caliper: float = 0.2) -> tuple[Indices, Indices]:
    """Match members to non-members one to one, so that both have the same distribution of a score.

    The closest of all remaining pairs is taken, until none is within the caliper. A caliper of .2 standard deviations
    of the log-odds removes nearly all of the difference (Austin, Pharmaceutical Statistics 10, 2011).

    Args:
        scores: Log-odds of being a member, (N,).
        is_member: (N,).
        caliper: Largest difference within a pair, in standard deviations of the scores within a side.

    Returns:
        Places of the matched members and of their partners, (pairs,) each, the closest pair first.

    >>> match_pairs(np.array([0.0, 1.0, 5.0, 0.1, 1.3, 9.0]), np.array([True, True, True, False, False, False]))
    (array([0, 1]), array([3, 4]))
    """
    reach = caliper * np.sqrt((scores[is_member].var() + scores[~is_member].var()) / 2)
    order = np.lexsort((is_member, scores))
    values, sides = scores[order].tolist(), is_member[order].tolist()
    count = len(order)
    below, above = list(range(-1, count - 1)), list(range(1, count + 1))  # remaining neighbours in this order
    gone = [False] * count
    pairs = []
    # The closest pair is always one of neighbours; a heap has all of them, so that 50,000 images take a second.
    waiting = [(values[upper] - values[upper - 1], upper - 1, upper) for upper in range(1, count)]
    heapify(waiting)
    while waiting:
        difference, lower, upper = heappop(waiting)
        if difference > reach:
            break
        if gone[lower] or gone[upper] or sides[lower] == sides[upper]:
            continue
        gone[lower] = gone[upper] = True
        pairs.append((lower, upper) if sides[lower] else (upper, lower))
        lower, upper = below[lower], above[upper]
        if lower >= 0:
            above[lower] = upper
        if upper < count:
            below[upper] = lower
        if lower >= 0 and upper < count:
            heappush(waiting, (values[upper] - values[lower], lower, upper))
    members, nonmembers = order[np.array(pairs, dtype=np.intp).reshape(-1, 2).T]
    return members, nonmembers
