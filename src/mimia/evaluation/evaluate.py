"""How well an attack tells members from non-members, and the verdict on the model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import mannwhitneyu

from mimia.arrays import Bools, Floats
from mimia.attacks.base import Scores
from mimia.config import EvaluationSettings
from mimia.evaluation.conformal import conformal_p_values
from mimia.evaluation.estimate import Estimate, share
from mimia.evaluation.roc import roc_area, roc_points, tpr_at_fpr

LOW_RATES = (0.01, 0.001)
_SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Evaluation:
    """How well an attack does.

    Attributes:
        attack: Its name, or ``blind`` for the baseline without a model.
        area: ROC area; bootstrap interval.
        tpr_at_1_percent: True-positive rate at 1 % false positives; Clopper–Pearson interval.
        tpr_at_01_percent: The same at 0.1 %.
        threshold: Learned on shadows; None for the blind baseline.
        balanced_accuracy: At that threshold; from two 97.5 % Clopper–Pearson intervals.
        precision: At that threshold, for the shares of members and non-members at hand.
        recall: At that threshold.
        p_value: One-sided Mann–Whitney test that members score higher.
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
    false_rate: list[float]
    true_rate: list[float]


@dataclass(frozen=True)
class Verdict:
    """The answer of an audit.

    Attributes:
        kind: ``leaks``, ``no leak found``, or ``invalid``: a baseline without a model succeeds too.
        sentence: The answer with its evidence, for a reader.
    """

    kind: Literal["leaks", "no leak found", "invalid"]
    sentence: str


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
        settings: Bootstrap resamples and seed, and from how many false positives on a rate is given.
        threshold: Learned on shadows; without one there is no accuracy, precision and recall.
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
    return Evaluation(
        attack=attack,
        area=roc_area(inside, outside, settings.resamples, settings.seed),
        tpr_at_1_percent=tpr_at_fpr(inside, outside, LOW_RATES[0], settings.fewest_false_positives),
        tpr_at_01_percent=tpr_at_fpr(inside, outside, LOW_RATES[1], settings.fewest_false_positives),
        threshold=threshold,
        balanced_accuracy=accuracy,
        precision=precision,
        recall=recall,
        p_value=float(mannwhitneyu(inside, outside, alternative="greater").pvalue),
        false_rate=false_rate.tolist(),
        true_rate=true_rate.tolist(),
    )


def image_p_values(scores: Scores, holdout: Bools) -> Floats:
    """Give each image's conformal p-value against the holdout; NaN for images of the holdout itself."""
    p_values = conformal_p_values(scores.values, scores.values[holdout])
    return np.where(holdout, np.nan, p_values)


def judge(evaluations: Sequence[Evaluation], blind: Evaluation) -> Verdict:
    """Give the verdict.

    It is *invalid* where the blind baseline's area is above one half with its whole interval; else *leaks* where
    one of the attacks scores members higher than non-members with p < .05, corrected for their number
    (Bonferroni); else *no leak found*.
    """
    best = max(evaluations, key=lambda evaluation: evaluation.area.value or 0.0)
    if _tells_apart(blind):
        return Verdict(
            "invalid",
            "No verdict is possible: members and non-members can be told apart by their pixel statistics alone "
            f"(area {blind.area}), so that an attack's success would not show membership. Draw both "
            "at random from one source and prepare them alike.",
        )
    p_value = min(1.0, len(evaluations) * min(each.p_value for each in evaluations))
    evidence = f"The strongest attack, {best.attack}, has a ROC area of {best.area} (½ is a guess)"
    if best.tpr_at_1_percent.value is not None:
        evidence += f" and finds {100 * best.tpr_at_1_percent.value:.1f} % of the members at 1 % false alarms"
    evidence += f"; {_p(p_value)}."
    if p_value < _SIGNIFICANT:
        return Verdict("leaks", f"This model gives away its pre-training images. {evidence}")
    return Verdict("no leak found", f"No leak was found with these attacks and this many images. {evidence}")


def judge_candidates(listed: int, candidates: int, p_value: float, blind: Evaluation) -> Verdict:
    """Give the verdict on a set of candidates of unknown membership.

    It is *invalid* where the candidates can be told from the reference images by pixel statistics alone; else
    *leaks* where the candidates score higher than the known non-members with p < .05; else *no leak found*.

    Args:
        listed: Candidates in the list of members.
        candidates: All of them.
        p_value: Of the set as a whole.
        blind: Baseline without a model, candidates against known non-members.
    """
    if _tells_apart(blind):
        return Verdict(
            "invalid",
            "No verdict is possible: candidates and reference images can be told apart by their pixel statistics alone "
            f"(area {blind.area}), so that a difference in the model's response would not show membership. Pass "
            "reference images of the same source, prepared alike.",
        )
    evidence = f"{listed:,} of {candidates:,} candidates are listed as members; for the set as a whole {_p(p_value)}."
    if p_value < _SIGNIFICANT:
        return Verdict("leaks", f"This model was pre-trained on some of the candidates. {evidence}")
    return Verdict("no leak found", f"Nothing shows that this model was pre-trained on the candidates. {evidence}")


def _tells_apart(blind: Evaluation) -> bool:
    return blind.area.low is not None and blind.area.low > 0.5


def _p(p_value: float) -> str:
    return f"p = {p_value:.2g}" if p_value >= 1e-12 else "p < 1e-12"


def _balanced_accuracy(hits: int, members: int, rejections: int, nonmembers: int) -> Estimate:
    """Average two shares; each interval covers with 97.5 %, so that together they do with 95 %."""
    recall, specificity = share(hits, members, 0.975), share(rejections, nonmembers, 0.975)
    low = ((recall.low or 0) + (specificity.low or 0)) / 2
    high = ((recall.high or 0) + (specificity.high or 0)) / 2
    return Estimate(((recall.value or 0) + (specificity.value or 0)) / 2, low, high)
