"""A lower bound on the ε of (ε, δ)-differential privacy from the scores of members and non-members."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import beta

from mimia.arrays import Floats, Indices
from mimia.errors import MimiaError


@dataclass(frozen=True)
class Fixed:
    """One threshold that was fixed beforehand, such as one learned on shadows.

    Attributes:
        threshold: An image that scores so high or higher is called a member.
    """

    threshold: float


@dataclass(frozen=True)
class Halves:
    """The threshold is chosen on one half of the images of each side, and the bound measured on the other.

    Valid because the second half has no say in the threshold.

    Attributes:
        seed: Of the halves.
    """

    seed: int


@dataclass(frozen=True)
class Bonferroni:
    """Several thresholds at ranks among the non-members that are fixed beforehand; each has its share of the error.

    The thresholds depend on the scores, and Clopper and Pearson's bounds hold nevertheless. Take the smallest region of
    high scores in which k non-members or fewer would be improbable. If the bound fails at the kth-highest non-member,
    the scores from there on contain this region, and so few scores lie in it that the bound fails for the region
    itself; the region is fixed, so that this is no more probable than at a fixed threshold, with ties or without. For
    the members all thresholds are fixed, because the non-members' scores are independent of theirs.

    Attributes:
        thresholds: How many; among few images, some of them coincide and are not counted twice.
    """

    thresholds: int


Strategy = Fixed | Halves | Bonferroni


@dataclass(frozen=True)
class EpsilonBound:
    """What ε is at least.

    Attributes:
        value: Lower bound on ε, 0 or more.
        ceiling: Largest value that this strategy can give for these numbers of images: where they are told apart
            without a mistake.
        threshold: What gave the value.
        delta: The δ that goes with it.
        confidence: Of the bound.
    """

    value: float
    ceiling: float
    threshold: float
    delta: float
    confidence: float


def epsilon_lower_bound(
    members: Floats, nonmembers: Floats, strategy: Strategy, delta: float = 0.0, confidence: float = 0.95
) -> EpsilonBound:
    """Bound ε from below: the largest of ln((TPR − δ) / FPR) and ln((TNR − δ) / FNR) (Kairouz et al., ICML 2015).

    TPR (TNR = 1 − FPR) is at its lower and FPR (FNR = 1 − TPR) at its upper bound of Clopper and Pearson (1934). These
    two bounds are all that goes in, so each may fail with half of 1 − confidence, divided by the number of thresholds:
    then all of them hold together with the confidence.

    It is a bound on the ε of a training where a coin decided for each image whether it is a member, and where the
    images' scores are independent, as if each came from a training of its own; `one_run_bound` does without this.

    Args:
        members: Scores of members, (m,).
        nonmembers: Scores of non-members, (n,).
        strategy: Where the threshold comes from.
        delta: The δ of (ε, δ).
        confidence: Probability that the value is not above ε.

    Raises:
        MimiaError: A side has too few images.

    >>> bound = epsilon_lower_bound(np.ones(1000), np.zeros(1000), Fixed(0.5))
    >>> round(bound.value, 2), bound.value == bound.ceiling
    (5.6, True)
    """
    fewest = 2 if isinstance(strategy, Halves) else 1
    if min(len(members), len(nonmembers)) < fewest:
        raise MimiaError(
            f"A bound on ε needs {fewest} images or more on each side and has {len(members):,} members and "
            f"{len(nonmembers):,} non-members: pass more."
        )
    tail = (1 - confidence) / 2
    members, nonmembers, thresholds = _with_thresholds(
        members.astype(np.float64), nonmembers.astype(np.float64), strategy, delta, tail
    )
    tail /= len(thresholds)
    values = _values(members, nonmembers, thresholds, delta, tail)
    best = values.argmax()
    ceiling = _values(np.ones(len(members)), np.zeros(len(nonmembers)), np.ones(1), delta, tail)
    return EpsilonBound(
        value=max(0.0, float(values[best])),
        ceiling=max(0.0, float(ceiling[0])),
        threshold=float(thresholds[best]),
        delta=delta,
        confidence=confidence,
    )


def _with_thresholds(
    members: Floats, nonmembers: Floats, strategy: Strategy, delta: float, tail: float
) -> tuple[Floats, Floats, Floats]:
    """Give the scores that the bound is measured on, and its thresholds."""
    match strategy:
        case Fixed(threshold):
            return members, nonmembers, np.array([threshold])
        case Halves(seed):
            generator = np.random.default_rng(seed)
            first_in, members = np.array_split(generator.permutation(members), 2)
            first_out, nonmembers = np.array_split(generator.permutation(nonmembers), 2)
            candidates = _between(np.concatenate([first_in, first_out]))
            best = _values(first_in, first_out, candidates, delta, tail).argmax()
            return members, nonmembers, candidates[[best]]
        case Bonferroni(count):
            highest_first = np.sort(nonmembers)[::-1]
            above_all = np.nextafter(highest_first[0], np.inf)
            return members, nonmembers, np.concatenate([[above_all], highest_first])[_ranks(len(nonmembers), count)]


def _between(scores: Floats) -> Floats:
    """Give thresholds between neighbouring scores, so that images like them fall on the same sides."""
    distinct = np.unique(scores)
    return (distinct[1:] + distinct[:-1]) / 2 if len(distinct) > 1 else distinct


def _ranks(nonmembers: int, count: int) -> Indices:
    """Give numbers of false alarms from 0 up, evenly spaced in their log-odds: dense at both ends of the ROC curve."""
    end = np.log(nonmembers)
    return np.unique((nonmembers * expit(np.linspace(-end, end, count))).astype(np.intp))


def _values(members: Floats, nonmembers: Floats, thresholds: Floats, delta: float, tail: float) -> Floats:
    """Give the bound at each threshold, with a given chance of error for each of its two rates; −∞ if there is none."""
    hits = len(members) - np.searchsorted(np.sort(members), thresholds)
    alarms = len(nonmembers) - np.searchsorted(np.sort(nonmembers), thresholds)
    true_rate = _lowest(hits, len(members), tail)
    rejection_rate = _lowest(len(nonmembers) - alarms, len(nonmembers), tail)
    with np.errstate(divide="ignore"):
        finds = np.log(np.maximum(true_rate - delta, 0)) - np.log1p(-rejection_rate)
        spares = np.log(np.maximum(rejection_rate - delta, 0)) - np.log1p(-true_rate)
    best: Floats = np.maximum(finds, spares)
    return best


def _lowest(hits: Indices, of: int, tail: float) -> Floats:
    """Give Clopper and Pearson's lower bound on a rate."""
    return np.where(hits > 0, beta.ppf(tail, np.maximum(hits, 1), of - hits + 1), 0.0)
