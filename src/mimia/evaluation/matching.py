"""Pairs of a member and a non-member that look alike to a classifier which sees no model."""

from heapq import heapify, heappop, heappush

import numpy as np

from mimia.arrays import Bools, Floats, Indices


def matched(scores: Floats, members: Bools, caliper: float = 0.2) -> tuple[Indices, Indices]:
    """Match members to non-members one to one, so that the sides have the same distribution of a score.

    Of all pairs that are left, the closest is taken, until none is within the caliper. A caliper of .2 standard
    deviations of the log-odds takes nearly all of the difference away (Austin, Pharmaceutical Statistics 10, 2011).

    Args:
        scores: Log-odds of being a member, (N,).
        members: (N,).
        caliper: Largest difference within a pair, in standard deviations of the scores within a side.

    Returns:
        Places of the matched members and of their partners, (pairs,) each, the closest pair first.

    >>> matched(np.array([0.0, 1.0, 5.0, 0.1, 1.3, 9.0]), np.array([True, True, True, False, False, False]))
    (array([0, 1]), array([3, 4]))
    """
    reach = caliper * np.sqrt((scores[members].var() + scores[~members].var()) / 2)
    order = np.lexsort((members, scores))
    values, sides = scores[order].tolist(), members[order].tolist()
    count = len(order)
    below, above = list(range(-1, count - 1)), list(range(1, count + 1))  # the neighbours that are left
    gone = [False] * count
    pairs = []
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
    first, second = order[np.array(pairs, dtype=np.intp).reshape(-1, 2).T]
    return first, second
