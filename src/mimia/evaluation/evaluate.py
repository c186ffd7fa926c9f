"""How well an attack tells members from non-members."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import mannwhitneyu

from mimia.attacks.base import Scores
from mimia.config.settings import EvaluationSettings
from mimia.evaluation.comparison import holm
from mimia.evaluation.conformal import conformal_p_values
from mimia.evaluation.cross_conformal import CrossConformal
from mimia.evaluation.intervals import Estimate, proportion
from mimia.evaluation.roc import balanced_accuracy, roc_auc, roc_points, tpr_at_fpr
from mimia.runtime.arrays import Bools, Floats

LOW_RATES = (0.01, 0.001)


@dataclass(frozen=True)
class Evaluation:
    """Figures of an attack.

    Attributes:
        attack: Its name.
        auc: AUC; interval of `auc_interval`.
        tpr_at_1_percent: TPR at 1 % FPR; interval of `tpr_interval`.
        tpr_at_01_percent: The same at 0.1 %.
        threshold: Learned on shadows; None where there is none.
        balanced_accuracy: At that threshold; interval from Wilson's of both rates.
        precision: At that threshold, for the numbers of members and non-members at hand.
        recall: At that threshold.
        p_value: One-sided Mann–Whitney test that members score higher.
        p_value_holm: The same, corrected for the number of attacks (Holm), with the weights of `level_shares`.
        p_value_lower: The other side of the test: that members score lower.
        fpr: False-positive rates of the ROC curve.
        tpr: True-positive rates of the ROC curve.
        shadow_auc: Mean AUC on the shadows, by which the deciding attack is chosen; None where there is none.
    """

    attack: str
    auc: Estimate
    tpr_at_1_percent: Estimate
    tpr_at_01_percent: Estimate
    threshold: float | None
    balanced_accuracy: Estimate | None
    precision: Estimate | None
    recall: Estimate | None
    p_value: float
    p_value_holm: float
    p_value_lower: float
    fpr: list[float]
    tpr: list[float]
    shadow_auc: float | None = None


def evaluate(
    attack: str,
    scores: Floats,
    is_member: Bools,
    settings: EvaluationSettings,
    threshold: float | None = None,
    shadow_auc: float | None = None,
) -> Evaluation:
    """Evaluate scores against the truth.

    Args:
        attack: Its name.
        scores: (images,).
        is_member: (images,).
        settings: From how many false positives on a TPR is given.
        threshold: Learned on shadows; without one there is no accuracy, precision and recall.
        shadow_auc: Mean AUC on the shadows.

    Returns:
        Figures with the p-value of a single attack.
    """
    members, nonmembers = scores[is_member], scores[~is_member]
    fpr, tpr = roc_points(members, nonmembers)
    accuracy = precision = recall = None
    if threshold is not None:
        hits, false_positives = int((members >= threshold).sum()), int((nonmembers >= threshold).sum())
        recall = proportion(hits, len(members))
        precision = proportion(hits, hits + false_positives)
        if precision.value is None:
            precision = Estimate(None, note="no image is called a member")
        accuracy = balanced_accuracy(members, nonmembers, threshold)
    p_value = mann_whitney(members, nonmembers)
    return Evaluation(
        attack=attack,
        auc=roc_auc(members, nonmembers),
        tpr_at_1_percent=tpr_at_fpr(members, nonmembers, LOW_RATES[0], settings.fewest_false_positives),
        tpr_at_01_percent=tpr_at_fpr(members, nonmembers, LOW_RATES[1], settings.fewest_false_positives),
        threshold=threshold,
        balanced_accuracy=accuracy,
        precision=precision,
        recall=recall,
        p_value=p_value,
        p_value_holm=p_value,
        p_value_lower=mann_whitney(nonmembers, members),
        fpr=fpr.tolist(),
        tpr=tpr.tolist(),
        shadow_auc=shadow_auc,
    )


def mann_whitney(first: Floats, second: Floats) -> float:
    """Return the p-value of the one-sided Mann–Whitney test that the first scores are higher."""
    return float(mannwhitneyu(first, second, alternative="greater").pvalue)


def evaluate_together(
    attacks: Sequence[Scores], is_member: Bools, settings: EvaluationSettings
) -> tuple[Evaluation, ...]:
    """Evaluate several attacks on the same images, with p-values corrected for their number.

    Holm's weights are those of `level_shares`, which no score of the target has a part in.

    Args:
        attacks: Scores of the same images in the same order.
        is_member: (images,).
        settings: From how many false positives on a TPR is given.
    """
    alone = [
        evaluate(each.attack, each.values, is_member, settings, each.threshold, each.shadow_auc) for each in attacks
    ]
    shares = level_shares([each.shadow_auc for each in attacks])
    adjusted = holm([each.p_value for each in alone], shares)
    return tuple(replace(each, p_value_holm=value) for each, value in zip(alone, adjusted, strict=True))


def evaluate_candidates(
    deciding: Scores, candidates: Bools, ranked: CrossConformal, settings: EvaluationSettings
) -> Evaluation:
    """Evaluate candidates as a set against the other images.

    The p-value is the smaller of two: that of the Mann–Whitney test, which sees a slight shift of all candidates, and
    that of Simes' test of their own p-values (Biometrika 73, 1986), which sees a single member. The corrected one is
    twice as large.

    Args:
        deciding: Scores of the attack that decides, (images,).
        candidates: Which images they are, (images,).
        ranked: The candidates' own p-values.
        settings: From how many false positives on a TPR is given.
    """
    alone = evaluate(
        deciding.attack, deciding.values, candidates, settings, deciding.threshold, shadow_auc=deciding.shadow_auc
    )
    p_value = min(alone.p_value, float(ranked.q_values.min()))
    return replace(alone, p_value=p_value, p_value_holm=min(1.0, 2 * p_value))


def best_on_shadows(shadow_aucs: Sequence[float | None]) -> int:
    """Return the place of the attack with the largest mean AUC on the shadows; of equal ones the last.

    Without shadows, this is the last attack.

    >>> best_on_shadows([0.6, 0.9, 0.9]), best_on_shadows([None, None])
    (2, 1)
    """
    return max(range(len(shadow_aucs)), key=lambda place: (shadow_aucs[place] or 0.0, place))


def level_shares(shadow_aucs: Sequence[float | None]) -> list[float]:
    """Return the share of the level that each attack's test gets: half of it for the best attack on the shadows.

    That attack is chosen before any score of the target is seen (`best_on_shadows`). The others
    share the other half, so that a leak that it misses can still be found.

    Args:
        shadow_aucs: Mean AUC of each attack on the shadows, (attacks,).

    >>> level_shares([0.6, 0.9, 0.7]), level_shares([0.6])
    ([0.25, 0.5, 0.25], [1.0])
    """
    others = len(shadow_aucs) - 1
    if others == 0:
        return [1.0]
    best = best_on_shadows(shadow_aucs)
    return [0.5 if place == best else 0.5 / others for place in range(len(shadow_aucs))]


def image_p_values(scores: Scores, holdout: Bools) -> Floats:
    """Return each image's conformal p-value against the holdout; NaN for images of the holdout itself."""
    p_values = conformal_p_values(scores.values, scores.values[holdout])
    return np.where(holdout, np.nan, p_values)
