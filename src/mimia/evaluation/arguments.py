"""Checks of the plain arrays that users pass."""

import math

import numpy as np
from numpy.typing import ArrayLike

from mimia.evaluation.epsilon import Bonferroni, Fixed, Halves, Strategy
from mimia.runtime.arrays import Bools, Floats
from mimia.runtime.errors import MimiaError


def finite(scores: ArrayLike) -> Floats:
    """Return scores as an array of double precision, (images,).

    Raises:
        MimiaError: They are no numbers, not one-dimensional, none, or not all finite.
    """
    try:
        values = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise MimiaError("Scores must be numbers, one for each image.") from error
    if values.ndim != 1 or not len(values):
        raise MimiaError(f"Scores must be one number for each image, and have the shape {values.shape}.")
    if not np.isfinite(values).all():
        raise MimiaError("A score is infinite or no number: leave out the image that it belongs to.")
    return values


def labelled(scores: ArrayLike, is_member: ArrayLike) -> tuple[Floats, Bools]:
    """Return scores and labels as arrays, (images,) each.

    Raises:
        MimiaError: Lengths differ, a score is not finite, a label is not 0 or 1, or a side has no image.
    """
    values, labels = finite(scores), np.asarray(is_member)
    if labels.shape != values.shape:
        raise MimiaError(
            f"Each score needs one label, and there are {len(values):,} scores and {labels.size:,} labels."
        )
    if not np.isin(labels, [0, 1]).all():
        raise MimiaError("Labels must be True for members and False for non-members (or 1 and 0).")
    truth = labels.astype(bool)
    if truth.all() or not truth.any():
        missing = "non-member" if truth.all() else "member"
        raise MimiaError(f"There is no {missing} among the images: pass scores of both.")
    return values, truth


def sides(scores: ArrayLike, is_member: ArrayLike) -> tuple[Floats, Floats]:
    """Return the scores of members and of non-members; raise as `labelled` does."""
    values, truth = labelled(scores, is_member)
    return values[truth], values[~truth]


def p_values(values: ArrayLike) -> Floats:
    """Return p-values as an array, (tests,).

    Raises:
        MimiaError: They are not numbers from 0 to 1.
    """
    found = finite(values)
    if found.min() < 0 or found.max() > 1:
        raise MimiaError("A p-value is below 0 or above 1: pass p-values and not scores.")
    return found


def whole(least: int, **named: float) -> int:
    """Return the one argument, a whole number from ``least`` on.

    Raises:
        MimiaError: It is not; the text has its name.
    """
    ((name, value),) = named.items()
    if not isinstance(value, (int, np.integer)) or value < least:
        raise MimiaError(f"{name} must be a whole number from {least} on, and is {value!r}.")
    return int(value)


def inside(**named: float) -> float:
    """Return the one argument, a number above 0 and below 1.

    Raises:
        MimiaError: It is not; the text has its name.
    """
    ((name, value),) = named.items()
    if not 0 < value < 1:
        raise MimiaError(f"{name} must be above 0 and below 1, and is {value}.")
    return value


def probability(**named: float) -> float:
    """Return the one argument, a number from 0 on and below 1.

    Raises:
        MimiaError: It is not; the text has its name.
    """
    ((name, value),) = named.items()
    if not 0 <= value < 1:
        raise MimiaError(f"{name} must be at least 0 and below 1, and is {value}.")
    return value


def no_nan(**named: float) -> float:
    """Return the one argument, a number that may be infinite.

    Raises:
        MimiaError: It is no number; the text has its name.
    """
    ((name, value),) = named.items()
    if math.isnan(value):
        raise MimiaError(f"{name} is no number: pass a score, or an infinite value to call all or no image a member.")
    return value


def checked_strategy(strategy: Strategy) -> Strategy:
    """Return how a bound on ε chooses its threshold.

    Raises:
        MimiaError: It is no such choice, or has a setting without a meaning.
    """
    match strategy:
        case Bonferroni(thresholds):
            whole(1, thresholds=thresholds)
        case Fixed(threshold):
            no_nan(threshold=threshold)
        case Halves(seed):
            whole(0, seed=seed)
        case _:
            raise MimiaError(
                f"strategy must be Fixed(threshold), Halves(seed) or Bonferroni(number), not {strategy!r}."
            )
    return strategy
