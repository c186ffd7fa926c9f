"""Tests of whether a whole set of images was trained on: weak scores of single images add up to a test of their mean.

Each image counts once, because the images are what is independent: a test of K means of batches that are drawn again
and again from the same images takes K for an amount of evidence that is not there. With `welch_test`, DI4SSL (Dziedzic
et al., arXiv 2209.09024) is the test of the scores of ``mixture``, and DOV4MM (Xie et al., arXiv 2507.12022), without
its repeated batches, that of the scores of ``dov4mm``. CDI (Dubiński et al., arXiv 2411.12858) tests one combined score
per image in this way.
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mimia.evaluation.intervals import Estimate, proportion
from mimia.runtime.arrays import Floats
from mimia.runtime.errors import MimiaError
from mimia.runtime.seeds import derived_seed

_BATCH = 100  # permutations in memory at once


@dataclass(frozen=True)
class SetPower:
    """How often a test finds that a set of one size was trained on.

    Attributes:
        size: Images in a set.
        power: Proportion of the sets of members that are found.
        fpr: Proportion of the sets of non-members that are taken for members.
    """

    size: int
    power: Estimate
    fpr: Estimate


def welch_test(candidates: Floats, holdout: Floats) -> float:
    """Return the p-value of Welch's one-sided test that candidates have the higher mean.

    Where all scores of a side are the same, on both sides, it is 0 if candidates score higher, and 1 if not.

    Args:
        candidates: Scores of the set, (n,).
        holdout: Scores of known non-members, (m,).

    Raises:
        MimiaError: A side has fewer than two images.

    >>> round(welch_test(np.array([1.0, 3.0, 2.0]), np.array([2.0, 1.0, 3.0])), 6)
    0.5
    """
    _refuse_fewer(candidates, holdout)
    return float(_welch(candidates, holdout))


def permutation_test(candidates: Floats, holdout: Floats, seed: int, resamples: int = 9_999) -> float:
    """Return the p-value of a one-sided permutation test of the difference of means.

    p = (1 + #{as large a difference}) / (1 + resamples), and so never below 1 / (1 + resamples); where there are no
    more choices of n among all n + m images than resamples, each choice counts once and p is exact. Valid for any
    number of images where candidates that are no members are exchangeable with the holdout (Phipson and Smyth, 2010).

    Args:
        candidates: Scores of the set, (n,).
        holdout: Scores of known non-members, (m,).
        seed: Of the resamples.
        resamples: Number of random choices of n among all n + m images.

    Raises:
        MimiaError: A side has fewer than two images, or a score is not finite.

    >>> permutation_test(np.array([1.0, 1.0]), np.array([1.0, 1.0, 1.0]), seed=0)
    1.0
    """
    _refuse_fewer(candidates, holdout)
    scores = np.concatenate([candidates, holdout]).astype(np.float64)
    if not np.isfinite(scores).all():
        raise MimiaError("A score is not finite, and cannot be tested: leave its image out.")
    scores -= scores.mean()
    size = np.abs(scores).sum()

    def statistic(chosen: Floats, _: Floats, axis: int) -> Floats:
        # SciPy takes for ties what differs by rounding, relative to the statistic: so it must not be near zero.
        total: Floats = size + chosen.sum(axis)
        return total

    found = stats.permutation_test(
        np.split(scores, [len(candidates)]),
        statistic,
        vectorized=True,
        n_resamples=resamples,
        batch=_BATCH,
        alternative="greater",
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def power_curve(
    members: Floats, nonmembers: Floats, sizes: Iterable[int], repeats: int = 200, level: float = 0.01, seed: int = 0
) -> list[SetPower]:
    """Count how often random sets of each size score higher than known non-members by `welch_test`.

    Each repeat draws a set of members, and splits the non-members anew: one half is the holdout, and a set of
    non-members comes from the other. So a set of non-members and the holdout are exchangeable in each repeat. The
    figures are of these images: sets that are not small against their pool share images, and other images would give
    other figures.

    Args:
        members: Scores, (m,).
        nonmembers: Scores, (n,).
        sizes: Images in a set.
        repeats: Sets of each size.
        level: A set is found with a p-value below it.
        seed: Of sets and halves; the draws for one size do not depend on the other sizes.

    Returns:
        A point for each size, in their order. Where a set is larger than half of the non-members, there is no FPR.

    Raises:
        MimiaError: A set is larger than the members or has fewer than two images, or there are too few non-members.
    """
    return [_power(members, nonmembers, size, repeats, level, derived_seed(seed, "sets", size)) for size in sizes]


def smallest_set(curve: Sequence[SetPower], power: float = 0.95) -> int | None:
    """Return the smallest size from which on all sizes of a curve reach a power, or None if the largest does not.

    >>> smallest_set([SetPower(10, proportion(5, 10), proportion(0, 10)), SetPower(20, Estimate(1.0), Estimate(0.0))])
    20
    """
    smallest = None
    for point in sorted(curve, key=lambda point: point.size, reverse=True):
        if point.power.value is None or point.power.value < power:
            break
        smallest = point.size
    return smallest


def _power(members: Floats, nonmembers: Floats, size: int, repeats: int, level: float, seed: int) -> SetPower:
    if not 2 <= size <= len(members):
        raise MimiaError(
            f"A set of {size:,} images cannot be drawn from {len(members):,} members: choose sizes from 2 to "
            f"{len(members):,}."
        )
    half = len(nonmembers) // 2
    _refuse_fewer(members, nonmembers[half:])
    generator = np.random.default_rng(seed)
    sets, others = np.empty((repeats, size)), np.empty((repeats, len(nonmembers)))
    for repeat in range(repeats):
        others[repeat] = generator.permutation(nonmembers)
        sets[repeat] = generator.choice(members, size, replace=False)
    holdout = others[:, half:]
    power = proportion(int((_welch(sets, holdout) < level).sum()), repeats)
    if size > half:
        return SetPower(size, power, Estimate(None, note=f"too few images: {half:,} of {size:,} non-members"))
    return SetPower(size, power, proportion(int((_welch(others[:, :size], holdout) < level).sum()), repeats))


def _welch(candidates: Floats, holdout: Floats) -> Floats:
    """Return p-values along the last axis."""
    first, second = candidates.astype(np.float64), holdout.astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scores that hardly differ; those that never do come below
        p_values = stats.ttest_ind(first, second, axis=-1, equal_var=False, alternative="greater").pvalue
    constant = (np.ptp(first, axis=-1) == 0) & (np.ptp(second, axis=-1) == 0)
    return np.where(constant, np.where(first[..., 0] > second[..., 0], 0.0, 1.0), p_values)


def _refuse_fewer(candidates: Floats, holdout: Floats) -> None:
    if min(len(candidates), len(holdout)) < 2:
        raise MimiaError(
            f"A test of a set needs at least 2 images on each side and has {len(candidates):,} candidates "
            f"and {len(holdout):,} known non-members: pass more."
        )
