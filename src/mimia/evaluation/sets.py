"""Was a whole set of images trained on? Weak scores of single images add up to a test of their mean.

Each image counts once, because images are what is independent: a test of K means of batches that are drawn again and
again from the same images takes the K for evidence that is not there. With `welch_test`, DI4SSL (Dziedzic et al.,
arXiv 2209.09024) is the test of the scores of ``mixture``, and DOV4MM (Xie et al., arXiv 2507.12022), without its
repeated batches, that of the scores of ``dov4mm``. CDI (Dubiński et al., arXiv 2411.12858) tests one combined score
per image in this way.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.special import stdtr

from mimia.arrays import Floats
from mimia.errors import MimiaError
from mimia.evaluation.estimate import Estimate, share
from mimia.seeds import derived_seed

SetTest: TypeAlias = Callable[[Floats, Floats], float]
"""From scores of candidates and of known non-members to a p-value that is small if candidates score higher."""


@dataclass(frozen=True)
class SetPower:
    """How often a test calls sets of one size trained on.

    Attributes:
        size: Images in a set.
        power: Share of the sets of members that are found.
        false_alarms: Share of the sets of non-members that are taken for members.
    """

    size: int
    power: Estimate
    false_alarms: Estimate


def welch_test(candidates: Floats, known: Floats) -> float:
    """Give the p-value of Welch's one-sided test that candidates have the higher mean.

    Where no score differs from another of its side, it is 0 if candidates score higher, and 1 if not.

    Args:
        candidates: Scores of the set, (n,).
        known: Scores of known non-members, (m,).

    Raises:
        MimiaError: A side has fewer than two images.

    >>> welch_test(np.array([1.0, 3.0, 2.0]), np.array([2.0, 1.0, 3.0]))
    0.5
    """
    candidates, known = _checked(candidates, known, fewest=2)
    if np.ptp(candidates) == 0 and np.ptp(known) == 0:
        return 0.0 if candidates[0] > known[0] else 1.0
    # Of each mean its variance and degrees of freedom; scipy.stats takes ten times as long, and power curves ask often.
    (first, n), (second, m) = ((side.var(ddof=1) / len(side), len(side) - 1) for side in (candidates, known))
    freedom = (first + second) ** 2 / (first**2 / n + second**2 / m)
    return float(stdtr(freedom, (known.mean() - candidates.mean()) / np.sqrt(first + second)))


def permutation_test(candidates: Floats, known: Floats, seed: int, resamples: int = 9_999) -> float:
    """Give the p-value of a one-sided permutation test of the difference of means.

    p = (1 + #{as large a difference}) / (1 + resamples), and so never below 1 / (1 + resamples). It is valid for any
    number of images and resamples where candidates that are no members are exchangeable with the known ones (Phipson
    and Smyth, 2010).

    Args:
        candidates: Scores of the set, (n,).
        known: Scores of known non-members, (m,).
        seed: Of the resamples.
        resamples: Number of random choices of n among all n + m images.

    Raises:
        MimiaError: A side has no image.

    >>> permutation_test(np.array([1.0, 1.0]), np.array([1.0, 1.0, 1.0]), seed=0)
    1.0
    """
    candidates, known = _checked(candidates, known, fewest=1)
    scores = np.concatenate([candidates, known])
    scores, n = scores - scores.mean(), len(candidates)
    generator = np.random.default_rng(seed)
    drawn = np.array([generator.choice(scores, n, replace=False, shuffle=False).sum() for _ in range(resamples)])
    rounding = 1e-12 * np.abs(scores).sum()  # sums of the same scores in another order are ties
    lower = int((drawn < scores[:n].sum() - rounding).sum())
    return (1 + resamples - lower) / (1 + resamples)


def power_curve(
    members: Floats,
    nonmembers: Floats,
    sizes: Iterable[int],
    repeats: int = 200,
    level: float = 0.01,
    seed: int = 0,
    test: SetTest = welch_test,
) -> list[SetPower]:
    """Count how often random sets of each size score higher than known non-members with p < level.

    Each repeat draws a set of members, and splits the non-members anew: one half is known, and a set of non-members
    comes from the other. So a set of non-members and the known ones are exchangeable in each repeat. The figures are
    of these images: sets that are not small against their pool share images, and other images would give other shares.

    Args:
        members: Scores, (m,).
        nonmembers: Scores, (n,).
        sizes: Images in a set.
        repeats: Sets of each size.
        level: A set is found with a p-value below it.
        seed: Of sets and halves; what is drawn for one size does not depend on the others.
        test: For example ``partial(permutation_test, seed=0)``.

    Returns:
        A point for each size, in their order. Where half of the non-members is smaller than the set, there is no share
        of false alarms.

    Raises:
        MimiaError: There are no sets of such a size, or too few non-members for the test.
    """
    return [_power(members, nonmembers, size, repeats, level, derived_seed(seed, "sets", size), test) for size in sizes]


def smallest_set(curve: Sequence[SetPower], power: float = 0.95) -> int | None:
    """Give the smallest size from which on all sizes of a curve reach a power, or None if the largest does not.

    >>> smallest_set([SetPower(10, share(5, 10), share(0, 10)), SetPower(20, share(10, 10), share(0, 10))])
    20
    """
    smallest = None
    for point in sorted(curve, key=lambda point: point.size, reverse=True):
        if point.power.value is None or point.power.value < power:
            break
        smallest = point.size
    return smallest


def _power(
    members: Floats, nonmembers: Floats, size: int, repeats: int, level: float, seed: int, test: SetTest
) -> SetPower:
    if not 1 <= size <= len(members):
        raise MimiaError(
            f"A set of {size:,} images cannot be drawn from {len(members):,} members: choose sizes from 1 to "
            f"{len(members):,}."
        )
    generator = np.random.default_rng(seed)
    half = len(nonmembers) // 2
    found = alarms = 0
    for _ in range(repeats):
        others, known = np.split(generator.permutation(nonmembers), [half])
        found += test(generator.choice(members, size, replace=False), known) < level
        if size <= half:
            alarms += test(others[:size], known) < level
    power = share(found, repeats)
    if size > half:
        return SetPower(size, power, Estimate(None, note=f"too few images: {half:,} of {size:,} non-members"))
    return SetPower(size, power, share(alarms, repeats))


def _checked(candidates: Floats, known: Floats, fewest: int) -> tuple[Floats, Floats]:
    """Give both in double precision, or refuse them."""
    if min(len(candidates), len(known)) < fewest:
        raise MimiaError(
            f"This test of a set needs {fewest} images or more on each side and has {len(candidates):,} candidates and "
            f"{len(known):,} known non-members: pass more."
        )
    return candidates.astype(np.float64), known.astype(np.float64)
