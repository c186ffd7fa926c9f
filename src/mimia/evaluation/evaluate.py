"""How well an attack tells members from non-members."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import mannwhitneyu

from mimia.arrays import Bools, Floats
from mimia.attacks.base import Scores
from mimia.config import EvaluationSettings
from mimia.evaluation.comparison import holm
from mimia.evaluation.conformal import conformal_p_values
from mimia.evaluation.estimate import Estimate, share
from mimia.evaluation.roc import roc_area, roc_points, tpr_at_fpr

LOW_RATES = (0.01, 0.001)


@dataclass(frozen=True)
class Evaluation:
    """How well an attack does.

    Attributes:
        attack: Its name.
        area: ROC area; interval of DeLong's variance.
        tpr_at_1_percent: True-positive rate at 1 % false positives; Clopper–Pearson interval.
        tpr_at_01_percent: The same at 0.1 %.
        threshold: Learned on shadows; None where there is none.
        balanced_accuracy: At that threshold; from two 97.5 % Clopper–Pearson intervals.
        precision: At that threshold, for the shares of members and non-members at hand.
        recall: At that threshold.
        p_value: One-sided Mann–Whitney test that members score higher.
        corrected: The same, corrected for the number of attacks (Holm).
        p_value_lower: The other side of the test: that members score lower.
        false_rate: False-positive rates of the ROC curve.
        true_rate: True-positive rates of the ROC curve.
    """

    attack: str
    area: Estimate
    tpr_at_1_percent: Estimate
    tpr_at_01_percent: Estimate
    threshold: float | None
    balanced_accuracy: Estimate | None
    precision: Estimate | None
    recall: Estimate | None
    p_value: float
    corrected: float
    p_value_lower: float
    false_rate: list[float]
    true_rate: list[float]


def evaluate(
    attack: str,
    scores: Floats,
    members: Bools,
    settings: EvaluationSettings,
    threshold: float | None = None,
) -> Evaluation:
    """Evaluate scores against the truth.

    Args:
        attack: Its name.
        scores: (images,).
        members: (images,).
        settings: From how many false positives on a rate is given.
        threshold: Learned on shadows; without one there is no accuracy, precision and recall.

    Returns:
        With the p-value of a single attack.
    """
    inside, outside = scores[members], scores[~members]
    false_rate, true_rate = roc_points(inside, outside)
    accuracy = precision = recall = None
    if threshold is not None:
        hits, alarms = int((inside >= threshold).sum()), int((outside >= threshold).sum())
        recall = share(hits, len(inside))
        precision = share(hits, hits + alarms)
        if precision.value is None:
            precision = Estimate(None, note="no image is called a member")
        accuracy = _balanced_accuracy(hits, len(inside), len(outside) - alarms, len(outside))
    p_value = float(mannwhitneyu(inside, outside, alternative="greater").pvalue)
    return Evaluation(
        attack=attack,
        area=roc_area(inside, outside),
        tpr_at_1_percent=tpr_at_fpr(inside, outside, LOW_RATES[0], settings.fewest_false_positives),
        tpr_at_01_percent=tpr_at_fpr(inside, outside, LOW_RATES[1], settings.fewest_false_positives),
        threshold=threshold,
        balanced_accuracy=accuracy,
        precision=precision,
        recall=recall,
        p_value=p_value,
        corrected=p_value,
        p_value_lower=float(mannwhitneyu(inside, outside, alternative="less").pvalue),
        false_rate=false_rate.tolist(),
        true_rate=true_rate.tolist(),
    )


def evaluate_together(
    attacks: Sequence[Scores], members: Bools, settings: EvaluationSettings
) -> tuple[Evaluation, ...]:
    """Evaluate several attacks on the same images, with p-values that are corrected for their number.

    Args:
        attacks: Scores of the same images in the same order.
        members: (images,).
        settings: From how many false positives on a rate is given.
    """
    alone = [evaluate(each.attack, each.values, members, settings, each.threshold) for each in attacks]
    corrected = holm([each.p_value for each in alone])
    return tuple(replace(each, corrected=value) for each, value in zip(alone, corrected, strict=True))


def image_p_values(scores: Scores, holdout: Bools) -> Floats:
    """Give each image's conformal p-value against the holdout; NaN for images of the holdout itself."""
    p_values = conformal_p_values(scores.values, scores.values[holdout])
    return np.where(holdout, np.nan, p_values)


def _balanced_accuracy(hits: int, members: int, rejections: int, nonmembers: int) -> Estimate:
    """Average two shares; each interval covers with 97.5 %, so that together they do with 95 %."""
    recall, specificity = share(hits, members, 0.975), share(rejections, nonmembers, 0.975)
    low = ((recall.low or 0) + (specificity.low or 0)) / 2
    high = ((recall.high or 0) + (specificity.high or 0)) / 2
    return Estimate(((recall.value or 0) + (specificity.value or 0)) / 2, low, high)
