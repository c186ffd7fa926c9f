"""A lower bound on ε from one training, where a fair coin decided for each canary whether it was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import beta, binom

from mimia.runtime.arrays import Bools, Floats
from mimia.runtime.errors import MimiaError

_DIVISORS = (1, 2, 4, 8)  # of the number of canaries: the numbers of guesses that are tried


@dataclass(frozen=True)
class OneRunBound:
    """A lower bound on ε.

    Attributes:
        value: Lower bound on ε, 0 or more.
        ceiling: Largest possible value with so many canaries: where all guesses are right.
        guesses: Number of guesses that gave the value.
        right: Number of right guesses among them.
        delta: δ of (ε, δ).
        confidence: Probability that the value is not above ε.
    """

    value: float
    ceiling: float
    guesses: int
    right: int
    delta: float
    confidence: float


def one_run_bound(
    scores: Floats,
    included: Bools,
    guesses: Sequence[int] | None = None,
    delta: float = 0.0,
    confidence: float = 0.95,
) -> OneRunBound:
    """Guess which canaries were included, and bound ε from below by the number of right guesses.

    Of r guesses, half are "in" for the highest scores and half "out" for the lowest. The other canaries are not
    guessed, and neither are those that score the same as one of them. The right guesses refute each ε for which
    `guessing_p_value` is at most 1 − confidence, divided by the number of different r (Steinke, Nasr and Jagielski,
    arXiv 2305.08846). The scores of canaries may depend on each other, but on the coins only through the
    model.

    Args:
        scores: Of all canaries, (m,).
        included: Whether each canary was trained on, (m,).
        guesses: Numbers of guesses to try, each from 2 to m; default: m, m/2, m/4 and m/8.
        delta: δ of (ε, δ).
        confidence: Probability that the value is not above ε.

    Raises:
        MimiaError: There are fewer than two canaries, or fewer than guesses.

    >>> coins = np.arange(1000) % 2 == 0
    >>> bound = one_run_bound(coins.astype(float), coins)
    >>> round(bound.value, 2), bound.value == bound.ceiling, bound.right
    (5.43, True, 1000)
    """
    images = len(scores)
    if images < 2:
        raise MimiaError(f"A bound from one training needs 2 canaries or more and has {images}: make more.")
    tried = sorted(set(guesses or (max(2, images // divisor) for divisor in _DIVISORS)), reverse=True)
    if not 2 <= tried[-1] <= tried[0] <= images:
        raise MimiaError(f"Each number of guesses must be from 2 to {images:,}, the number of canaries; got {tried}.")
    level = (1 - confidence) / len(tried)
    counts = [_guess(scores, included, number // 2) for number in tried]
    values = [_smallest_epsilon(images, made, right, delta, level) for made, right in counts]
    best = int(np.argmax(values))
    most = tried[0] // 2 * 2
    return OneRunBound(
        value=values[best],
        ceiling=_smallest_epsilon(images, most, most, delta, level),
        guesses=counts[best][0],
        right=counts[best][1],
        delta=delta,
        confidence=confidence,
    )


def guessing_p_value(epsilon: float, images: int, guesses: int, right: int, delta: float = 0.0) -> float:
    """Return an upper bound on the probability of as many right guesses under (ε, δ)-differential privacy.

    P[W ≥ v] + 2mδ · max over i of P[v > W ≥ v − i] / i, where W is binomial with r trials of probability
    e^ε / (e^ε + 1) (Steinke, Nasr and Jagielski, arXiv 2305.08846, the theorem for approximate differential privacy).

    Args:
        epsilon: ε.
        images: Canaries m, each included by a fair coin.
        guesses: r.
        right: v.
        delta: δ.

    >>> round(guessing_p_value(0.0, images=10, guesses=4, right=4), 4), guessing_p_value(9.0, 10, 4, right=0)
    (0.0625, 1.0)
    """
    chance = expit(epsilon)
    p_value = binom.sf(right - 1, guesses, chance)
    if delta > 0 and right > 0:
        fewer = binom.pmf(np.arange(right)[::-1], guesses, chance).cumsum()
        p_value += 2 * images * delta * (fewer / np.arange(1, right + 1)).max()
    return float(min(1.0, p_value))


def _guess(scores: Floats, included: Bools, half: int) -> tuple[int, int]:
    """Return the number of guesses on the highest and the lowest scores, and how many of them are right."""
    ordered = np.sort(scores)
    high, low = scores > ordered[len(scores) - half - 1], scores < ordered[half]
    return int(high.sum() + low.sum()), int(included[high].sum() + (~included[low]).sum())


def _smallest_epsilon(images: int, guesses: int, right: int, delta: float, level: float) -> float:
    """Return the smallest ε that is not refuted.

    The p-value crosses the level once, whatever δ is: it is the maximum over i of (2mδ/i) P[W ≥ v − i] +
    (1 − 2mδ/i) P[W ≥ v], and each of these rises with ε from the start up to 1 or beyond, and then falls, if it does,
    no lower than 1.
    """
    if guessing_p_value(0.0, images, guesses, right, delta) > level:
        return 0.0
    # For δ = 0, the chance of a right guess has Clopper and Pearson's lower bound.
    pure = max(0.0, float(logit(beta.ppf(level, right, guesses - right + 1))))
    if delta == 0:
        return pure
    # At `pure` itself, rounding could put the p-value below the level; one further it is above.
    return float(brentq(lambda epsilon: guessing_p_value(epsilon, images, guesses, right, delta) - level, 0, pure + 1))
