"""A lower bound on the ε of (ε, δ)-differential privacy from the scores of members and non-members."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import beta

from mimia.runtime.arrays import Floats, Indices
from mimia.runtime.errors import MimiaError


@dataclass(frozen=True)
class Fixed:
    """One threshold that was fixed beforehand, such as one learned on shadows.

    Attributes:
        threshold: An image that scores as high or higher is called a member.
    """

    threshold: float


@dataclass(frozen=True)
class Halves:
    """The threshold is chosen on one half of the images of each side, and the bound measured on the other.

    Valid because the threshold does not depend on the second half.

    Attributes:
        seed: Of the random halves.
    """

    seed: int


@dataclass(frozen=True)
class Bonferroni:
    """Several thresholds at ranks among the non-members that are fixed beforehand; each gets a part of the error.

    The thresholds depend on the scores, but Clopper and Pearson's bounds hold all the same. Take the smallest region of
    high scores in which k non-members or fewer would be improbable. If the bound fails at the kth-highest non-member,
    the scores from there on contain this region, and so few scores lie in it that the bound fails for the region
    itself. The region is fixed, so this is no more probable than at a fixed threshold, with ties or without. For the
    members all thresholds are fixed, because the non-members' scores are independent of theirs.

    Attributes:
        thresholds: Their number; with few images some coincide, and count once.
    """

    thresholds: int


Strategy = Fixed | Halves | Bonferroni


@dataclass(frozen=True)
class EpsilonBound:
    """A lower bound on ε.

    Attributes:
        value: Lower bound on ε, 0 or more.
        ceiling: Largest value that this strategy can reach with these numbers of images: where no image is mistaken.
        threshold: The threshold that gave the value.
        delta: δ of (ε, δ).
        confidence: Probability that the value is not above ε.
    """

    value: float
    ceiling: float
    threshold: float
    delta: float
    confidence: float


def epsilon_lower_bound(
    members: Floats, nonmembers: Floats, strategy: Strategy, delta: float = 0.0, confidence: float = 0.95
) -> EpsilonBound:
    """Return a lower bound on ε: the larger of ln((TPR − δ) / FPR) and ln((TNR − δ) / FNR).

    These are the regions of Kairouz et al. (ICML 2015), with TPR and TNR = 1 − FPR at their lower bounds of Clopper and
    Pearson (1934), and FNR = 1 − TPR. Each of these two bounds may fail with half of 1 − confidence, divided by the
    number of thresholds, so that all of them hold together with the confidence.

    Valid for a training where a fair coin decided for each image whether it is a member, if the images' scores are
    independent, as if each came from a training of its own. `one_run_bound` does without this assumption.

    Args:
        members: Scores of members, (m,).
        nonmembers: Scores of non-members, (n,).
        strategy: Choice of the threshold.
        delta: δ of (ε, δ).
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
    """Return the scores that the bound is measured on, and its thresholds."""
    match strategy:
        case Fixed(threshold):
            return members, nonmembers, np.array([threshold])
        case Halves(seed):
            generator = np.random.default_rng(seed)
            first_members, members = np.array_split(generator.permutation(members), 2)
            first_nonmembers, nonmembers = np.array_split(generator.permutation(nonmembers), 2)
            candidates = _between(np.concatenate([first_members, first_nonmembers]))
            best = _values(first_members, first_nonmembers, candidates, delta, tail).argmax()
            return members, nonmembers, candidates[[best]]
        case Bonferroni(count):
            highest_first = np.sort(nonmembers)[::-1]
            above_all = np.nextafter(highest_first[0], np.inf)
            return members, nonmembers, np.concatenate([[above_all], highest_first])[_ranks(len(nonmembers), count)]


def _between(scores: Floats) -> Floats:
    """Return thresholds halfway between neighbouring scores."""
    distinct = np.unique(scores)
    return (distinct[1:] + distinct[:-1]) / 2 if len(distinct) > 1 else distinct


def _ranks(nonmembers: int, count: int) -> Indices:
    """Return numbers of false positives, evenly spaced in their log-odds: dense at both ends of the ROC curve."""
    end = np.log(nonmembers)
    return np.unique((nonmembers * expit(np.linspace(-end, end, count))).astype(np.intp))


def _values(members: Floats, nonmembers: Floats, thresholds: Floats, delta: float, tail: float) -> Floats:
    """Return the bound at each threshold, −∞ if there is none; each of the two rates errs with probability ``tail``."""
    hits = len(members) - np.searchsorted(np.sort(members), thresholds)
    rejections = np.searchsorted(np.sort(nonmembers), thresholds)
    tpr = _lower_bound(hits, len(members), tail)
    tnr = _lower_bound(rejections, len(nonmembers), tail)
    with np.errstate(divide="ignore"):
        of_members = np.log(np.maximum(tpr - delta, 0)) - np.log1p(-tnr)
        of_nonmembers = np.log(np.maximum(tnr - delta, 0)) - np.log1p(-tpr)
    best: Floats = np.maximum(of_members, of_nonmembers)
    return best


def _lower_bound(hits: Indices, of: int, tail: float) -> Floats:
    """Return Clopper and Pearson's lower bound on a rate, for many counts at once; SciPy's binomtest takes only one."""
    return np.where(hits > 0, beta.ppf(tail, np.maximum(hits, 1), of - hits + 1), 0.0)
