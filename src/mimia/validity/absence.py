"""Evidence of absence: what a run has to show before it may say that no leak was found."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from mimia.evaluation.evaluate import Evaluation
from mimia.evaluation.intervals import p_value_text
from mimia.evaluation.roc import roc_auc
from mimia.evaluation.tpr_interval import tpr_interval
from mimia.validity.checks import Sides
from mimia.validity.likeness import Likeness, most_unlike

HINT = 0.1
"""With a corrected p-value below it, an attack found too much for “no leak found”."""
_LARGEST = 1_000_000  # images of a side that are proposed
_STEP = 2**0.25


@dataclass(frozen=True)
class AbsenceCriterion:
    """What “no leak found” asks for.

    Attributes:
        auc: The upper end of the deciding AUC's interval is below it.
        tpr: The upper end of the interval of the TPR at 1 % FPR is below it.
        assumed: What was assumed about the target, one sentence each; there may be nothing.
        shadows: Number of shadow models, which show what the attack finds in a model that leaks.
    """

    auc: float
    tpr: float
    assumed: Sequence[str] = ()
    shadows: int = 2


def lacking_evidence(
    deciding: Evaluation,
    evaluations: Sequence[Evaluation],
    likeness: Sequence[Likeness],
    sides: Sides,
    criterion: AbsenceCriterion,
) -> str | None:
    """Return, for a reader, why absence is not shown and what would settle it, or None if it is shown.

    Args:
        deciding: The attack that decides.
        evaluations: All attacks.
        likeness: How the target compares with the shadows.
        sides: What is told apart.
        criterion: What is asked for.
    """
    p_value = min(each.p_value_holm for each in evaluations) if len(evaluations) > 1 else deciding.p_value
    auc, tpr = (1.0 if each.high is None else each.high for each in (deciding.auc, deciding.tpr_at_1_percent))
    if len(deciding.fpr) == 2:
        return (
            "The attack that decides gives all images the same score, so it sees nothing of this model: see that its "
            "answers depend on the images."
        )
    if p_value < HINT:
        which = f" (p = {p_value_text(p_value)} by the most significant attack)" if len(evaluations) > 1 else ""
        return f"This is too little for a leak and too much for none{which}: {_more_images(sides, criterion)}"
    if criterion.shadows == 0:
        return (
            "It rests on the given references alone, and no shadow model shows what this attack would find in a model "
            "that leaks: train some with shadows.count (--shadows 2)."
        )
    if criterion.assumed:
        return (
            f"It rests on what the checkpoint does not say ({criterion.assumed[0]}), and a wrong assumption hides a "
            "leak: state it under [checkpoint], or pass the files that say it."
        )
    if unlike := most_unlike(likeness):
        return f"The shadow models are unlike the target, so what they show of members need not hold for it: {unlike}."
    if auc >= criterion.auc or tpr >= criterion.tpr:
        return (
            f"With these images, an AUC up to {auc:.3f} and a TPR up to {100 * tpr:.1f} % at 1 % FPR are possible, and "
            f"“no leak found” asks for less than {criterion.auc:.2f} and {100 * criterion.tpr:.0f} %: "
            f"{_more_images(sides, criterion)}"
        )
    return None


def images_for_absence(sizes: tuple[int, int], criterion: AbsenceCriterion) -> tuple[int, int] | None:
    """Return the number of images of each side with which an attack that finds nothing meets a criterion.

    Both sides grow in proportion. Scores are taken for evenly spread; by chance, more images may be needed.

    Args:
        sizes: Number of images of each side now.
        criterion: What is asked for.

    Returns:
        As many as there are, or more; None if a million of a side do not suffice.
    """
    factor = 1.0
    while max(sizes) * factor <= _LARGEST:
        members, nonmembers = (norm.ppf((np.arange(count) + 0.5) / count) for count in _scaled(sizes, factor))
        auc, (_, tpr) = roc_auc(members, nonmembers).high, tpr_interval(members, nonmembers, 0.01, 0.95)
        if auc is not None and auc < criterion.auc and tpr < criterion.tpr:
            return _scaled(sizes, factor)
        factor *= _STEP
    return None


def _scaled(sizes: tuple[int, int], factor: float) -> tuple[int, int]:
    first, second = (int(np.ceil(size * factor)) for size in sizes)
    return first, second


def _more_images(sides: Sides, criterion: AbsenceCriterion) -> str:
    needed = images_for_absence(sides.sizes, criterion)
    if needed is None:
        return "no number of images can show that: raise evaluation.margin_auc or evaluation.margin_tpr."
    if sides.first == "candidates":
        first, second = map(_rounded, needed)
        return (
            f"more candidates of the same origin, if there are any (about {first:,}), and reference images (about "
            f"{second:,} that judge them) or more shadow models (shadows.count) may settle it."
        )
    if needed == sides.sizes:
        return f"repeat it with twice as many {sides.first} and {sides.second}."
    first, second = (_rounded(count) for count in needed)
    return f"about {first:,} {sides.first} and {second:,} {sides.second} can show that there is none."


def _rounded(count: int) -> int:
    """Round up to two digits."""
    unit = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // unit) * unit
