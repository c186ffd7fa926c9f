"""Metrics of membership inference on plain arrays.

Scores are higher for likely members. Each function takes scores of any numeric type, (images,), and which images are
members, (images,), as booleans or as 0 and 1; it raises `MimiaError` where these have different lengths, where a score
is not finite, or where a side has no image. With intervals and notes, these figures are those of a report.
"""

from collections.abc import Sequence

import numpy as np
import sklearn.metrics
from numpy.typing import ArrayLike

from mimia.evaluation import arguments, comparison, conformal, epsilon, one_run, roc, set_tests
from mimia.evaluation import power as evaluation_power
from mimia.evaluation.arguments import checked_strategy, finite, inside, labelled, no_nan, probability, sides, whole
from mimia.evaluation.epsilon import Bonferroni, Fixed, Halves, Strategy
from mimia.evaluation.evaluate import mann_whitney
from mimia.evaluation.roc_display import RocDisplay
from mimia.evaluation.tpr_interval import tpr_interval
from mimia.runtime.arrays import Bools, Floats
from mimia.runtime.errors import MimiaError

__all__ = [
    "Bonferroni",
    "Fixed",
    "Halves",
    "RocDisplay",
    "auc_interval",
    "auc_p_value",
    "balanced_accuracy",
    "benjamini_hochberg",
    "compare_auc",
    "conformal_p_values",
    "detectable_auc",
    "epsilon_lower_bound",
    "holm",
    "one_run_epsilon",
    "permutation_test",
    "roc_auc",
    "roc_curve",
    "tpr_at_fpr",
    "tpr_at_fpr_interval",
    "welch_test",
]

_TWENTY_RANKS = Bonferroni(20)


def roc_auc(scores: ArrayLike, is_member: ArrayLike) -> float:
    """Return the probability that a member scores higher than a non-member; ties count half.

    >>> roc_auc([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0])
    0.75
    """
    return _value(roc.roc_auc(*sides(scores, is_member)).value)


def auc_interval(scores: ArrayLike, is_member: ArrayLike, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the two-sided interval of the AUC, the wider one of DeLong (1988) and of Newcombe (2006) at each end.

    >>> low, high = auc_interval([0.9, 0.4, 0.8, 0.6, 0.1, 0.2], [1, 1, 1, 0, 0, 0])
    >>> round(low, 2), round(high, 2)
    (0.09, 1.0)
    """
    estimate = roc.roc_auc(*sides(scores, is_member), probability(confidence=confidence))
    return _value(estimate.low), _value(estimate.high)


def auc_p_value(scores: ArrayLike, is_member: ArrayLike) -> float:
    """Return the p-value of the one-sided Mann–Whitney test that members score higher, so that the AUC is above ½.

    >>> round(auc_p_value([0.9, 0.7, 0.8, 0.6, 0.1, 0.2], [1, 1, 1, 0, 0, 0]), 3)
    0.05
    """
    return mann_whitney(*sides(scores, is_member))


def compare_auc(first: ArrayLike, second: ArrayLike, is_member: ArrayLike) -> tuple[float, float]:
    """Return by how much the first AUC is larger, and the one-sided p-value of that (DeLong et al., 1988).

    Args:
        first: Scores, (images,).
        second: Other scores of the same images, (images,).
        is_member: (images,); two or more of each side.

    >>> compare_auc([4, 3, 1, 2], [1, 3, 4, 2], [1, 1, 0, 0])[0]
    0.75
    """
    values, truth = labelled(first, is_member)
    others, _ = labelled(second, is_member)
    if not 2 <= truth.sum() <= len(truth) - 2:
        raise MimiaError("A comparison of AUCs needs two members and two non-members or more: pass more images.")
    found = comparison.compare(values, others, truth)
    return _value(found.difference.value), found.p_value


def roc_curve(scores: ArrayLike, is_member: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Return FPR, TPR and thresholds of the ROC curve, (points,) each; by scikit-learn.

    >>> fpr, tpr, _ = roc_curve([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0])
    >>> fpr.tolist(), tpr.tolist()
    ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])
    """
    members, nonmembers = sides(scores, is_member)
    truth = np.repeat([1, 0], [len(members), len(nonmembers)])
    fpr, tpr, thresholds = sklearn.metrics.roc_curve(truth, np.concatenate([members, nonmembers]))
    return fpr, tpr, thresholds


def tpr_at_fpr(scores: ArrayLike, is_member: ArrayLike, fpr: float) -> float:
    """Return the largest TPR of all thresholds whose FPR is at most ``fpr`` (Carlini et al., arXiv 2112.03570).

    With fewer than about 10 / ``fpr`` non-members a handful of them sets it, and a report gives no figure.

    >>> tpr_at_fpr([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0], 0.01)
    0.5
    """
    return _value(roc.tpr_at_fpr(*sides(scores, is_member), probability(fpr=fpr), fewest=0).value)


def tpr_at_fpr_interval(
    scores: ArrayLike, is_member: ArrayLike, fpr: float, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the two-sided interval of the TPR at a fixed FPR, with the uncertainty of both sides' images.

    >>> low, high = tpr_at_fpr_interval(np.arange(200), np.arange(200) >= 120, 0.1)
    >>> round(low, 2), round(high, 2)
    (0.95, 1.0)
    """
    return tpr_interval(*sides(scores, is_member), probability(fpr=fpr), inside(confidence=confidence))


def balanced_accuracy(scores: ArrayLike, is_member: ArrayLike, *, threshold: float) -> float:
    """Return the mean of TPR and true-negative rate, where scores from the threshold on count as members.

    Choose the threshold on other images, such as those of shadow models.

    >>> balanced_accuracy([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0], threshold=0.5)
    0.5
    """
    return _value(roc.balanced_accuracy(*sides(scores, is_member), no_nan(threshold=threshold)).value)


def epsilon_lower_bound(
    scores: ArrayLike,
    is_member: ArrayLike,
    *,
    strategy: Strategy = _TWENTY_RANKS,
    delta: float = 0.0,
    confidence: float = 0.95,
) -> float:
    """Return a lower bound on the ε of (ε, δ)-differential privacy (Kairouz et al., ICML 2015).

    Valid where a fair coin decided for each image whether it is a member, and scores are independent of each other.

    Args:
        scores: (images,).
        is_member: (images,).
        strategy: Choice of the threshold: ``Fixed(threshold)`` beforehand, ``Halves(seed)``, or ``Bonferroni(number)``
            of thresholds at fixed ranks of the non-members; default: 20.
        delta: δ of (ε, δ).
        confidence: Probability that the value is not above ε.

    >>> round(epsilon_lower_bound([1] * 500 + [0] * 500, [1] * 500 + [0] * 500, strategy=Fixed(0.5)), 2)
    4.91
    """
    members, nonmembers = sides(scores, is_member)
    confidence = probability(confidence=confidence)
    return epsilon.epsilon_lower_bound(
        members, nonmembers, checked_strategy(strategy), probability(delta=delta), confidence
    ).value


def one_run_epsilon(
    scores: ArrayLike,
    is_member: ArrayLike,
    *,
    guesses: Sequence[int] | None = None,
    delta: float = 0.0,
    confidence: float = 0.95,
) -> float:
    """Return a lower bound on ε from one training with canaries (Steinke et al., arXiv 2305.08846, theorem for (ε, δ)).

    Valid where a fair coin decided for each canary whether it is a member; scores may depend on each other.

    Args:
        scores: Of all canaries, (m,).
        is_member: Whether each was trained on, (m,).
        guesses: Numbers of guesses to try; default: m, m/2, m/4 and m/8.
        delta: δ of (ε, δ).
        confidence: Probability that the value is not above ε.

    >>> round(one_run_epsilon([1] * 500 + [0] * 500, [1] * 500 + [0] * 500), 2)
    5.43
    """
    if guesses is not None and not len(guesses):
        raise MimiaError("guesses has no number: name one or more, or leave it out.")
    delta, confidence = probability(delta=delta), probability(confidence=confidence)
    return one_run.one_run_bound(*labelled(scores, is_member), guesses, delta, confidence).value


def conformal_p_values(scores: ArrayLike, holdout_scores: ArrayLike) -> Floats:
    """Return the p-value of each image: its rank among known non-members (Bates et al., arXiv 2104.08279, equation 2).

    Args:
        scores: Of the candidates, (images,).
        holdout_scores: Of known non-members from the same source, (n,).

    Returns:
        (images,), from 1 / (n + 1) to 1.

    >>> conformal_p_values([5, 2, 0], [1, 2, 3]).tolist()
    [0.25, 0.75, 1.0]
    """
    return conformal.conformal_p_values(finite(scores), finite(holdout_scores))


def benjamini_hochberg(p_values: ArrayLike, *, fdr: float) -> Bools:
    """Choose images so that the expected proportion of non-members among them is at most ``fdr`` (1995).

    Args:
        p_values: (images,).
        fdr: Bound on the false-discovery rate.

    Returns:
        Whether each image is chosen, (images,).

    >>> benjamini_hochberg([0.01, 0.02, 0.9], fdr=0.1).tolist()
    [True, True, False]
    """
    return conformal.discoveries(arguments.p_values(p_values), probability(fdr=fdr))


def welch_test(scores: ArrayLike, holdout_scores: ArrayLike) -> float:
    """Return the p-value of Welch's one-sided test that a set scores higher than known non-members, by its mean.

    Args:
        scores: Of the set, (n,); two or more.
        holdout_scores: Of known non-members, (m,); two or more.

    >>> round(welch_test([3, 4, 5], [1, 2, 3]), 3)
    0.035
    """
    return set_tests.welch_test(finite(scores), finite(holdout_scores))


def permutation_test(scores: ArrayLike, holdout_scores: ArrayLike, *, seed: int = 0, resamples: int = 9_999) -> float:
    """Return the p-value of the permutation test that a set scores higher than known non-members, by its mean.

    It is exact with no more permutations than ``resamples`` (Phipson and Smyth, 2010).

    Args:
        scores: Of the set, (n,); two or more.
        holdout_scores: Of known non-members, (m,); two or more.
        seed: Of the permutations.
        resamples: Their number.

    >>> permutation_test([3, 4, 5], [1, 2, 3])
    0.1
    """
    return set_tests.permutation_test(
        finite(scores), finite(holdout_scores), whole(0, seed=seed), whole(1, resamples=resamples)
    )


def holm(p_values: ArrayLike) -> Floats:
    """Return p-values corrected for their number (Holm, Scandinavian Journal of Statistics 6, 1979).

    Whichever hypotheses are true, the probability that one of them has a corrected p-value below a level is at most
    that level.

    Args:
        p_values: (tests,).

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    return np.array(comparison.holm(arguments.p_values(p_values)))


def detectable_auc(members: int, nonmembers: int, *, level: float = 0.05, power: float = 0.9) -> float:
    """Return the AUC that a one-sided Mann–Whitney test of so many images finds with a given probability.

    Args:
        members: Number of members.
        nonmembers: Number of non-members.
        level: Of the test; divide it by the number of attacks if p-values are corrected for it.
        power: Probability of finding it.

    >>> round(detectable_auc(200, 1000), 3), round(detectable_auc(1000, 5000), 3)
    (0.566, 0.529)
    """
    settings = inside(level=level), inside(power=power)
    return evaluation_power.detectable_auc(whole(1, members=members), whole(1, nonmembers=nonmembers), *settings)


def _value(figure: float | None) -> float:
    assert figure is not None  # figures are missing only where a side has no image, which is refused
    return figure
