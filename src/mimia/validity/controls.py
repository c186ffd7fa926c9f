"""Controls: the deciding attack on models that saw neither side, and all measurements that the verdict rests on.

Published attacks on large models were found to tell dates or preparations apart, not membership (Das et al., arXiv
2406.16201; Duan et al., arXiv 2402.07841). So an attack's success counts only beside controls that cannot know the
members: classifiers that see no model, and the same attack on models that saw neither side.
"""

from dataclasses import dataclass

from mimia.evaluation.comparison import Comparison, compare
from mimia.evaluation.evaluate import Evaluation, mann_whitney
from mimia.evaluation.intervals import Estimate
from mimia.evaluation.roc import roc_auc
from mimia.runtime.arrays import Bools, Floats
from mimia.validity.likeness import Likeness
from mimia.validity.matching import Matched
from mimia.validity.preparation import Preparation

STRICT = 0.001
"""Probability that each check speaks against sides that differ in nothing but membership."""


@dataclass(frozen=True)
class ControlScores:
    """The deciding attack's scores by a model that saw neither side.

    Attributes:
        model: Its name, for a reader.
        scores: Of the chosen images, (chosen,).
        chosen: Which images of both sides were scored, (images,).
    """

    model: str
    scores: Floats
    chosen: Bools


@dataclass(frozen=True)
class Control:
    """How well the deciding attack tells the sides apart by a model that saw neither.

    Attributes:
        model: Its name, for a reader.
        auc: AUC; membership cannot be the cause of what is above one half.
        p_value: One-sided Mann–Whitney test that members score higher.
        excess: By how much the target's AUC is larger, on the same images.
    """

    model: str
    auc: Estimate
    p_value: float
    excess: Comparison


@dataclass(frozen=True)
class Duplicates:
    """Numbers of images that show the same picture as another.

    Attributes:
        across: Images of the first side with a near-duplicate on the second.
        within: Images of each side that repeat another one of their own side.
    """

    across: int
    within: tuple[int, int]


@dataclass(frozen=True)
class Measurements:
    """All that the verdict depends on besides the attacks' own figures.

    Attributes:
        blind: Classifiers that see no model; their AUC is the mean of the folds' AUCs.
        blind_separates: Whether one of them tells the sides apart; each does by chance with probability `STRICT`.
        controls: The deciding attack on models that saw neither side.
        matched: The deciding attack among images matched on the blind scores.
        duplicates: Near-duplicates that are left on the sides.
        reconstruction: The target's error divided by that of the mean colour, on the side where it is smaller; None if
            the target does not reconstruct for the attacks.
        preparation: In what the sides differ, if a classifier tells them apart.
        likeness: How the target's answers about unseen images compare with the shadows'; empty in older reports.
    """

    blind: tuple[Evaluation, ...]
    blind_separates: bool
    controls: tuple[Control, ...]
    matched: Matched
    duplicates: Duplicates
    reconstruction: float | None
    preparation: Preparation | None = None
    likeness: tuple[Likeness, ...] = ()


def compare_control(control: ControlScores, scores: Floats, is_member: Bools) -> Control:
    """Compare the deciding attack with itself on another model.

    Args:
        control: Its scores by that model.
        scores: Its scores by the target, (images,).
        is_member: Which images are on the first side, (images,).
    """
    chosen = is_member[control.chosen]
    members, nonmembers = control.scores[chosen], control.scores[~chosen]
    return Control(
        control.model,
        roc_auc(members, nonmembers),
        mann_whitney(members, nonmembers),
        compare(scores[control.chosen], control.scores, chosen),
    )
