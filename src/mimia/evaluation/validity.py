"""What else than membership could tell the two sides apart, measured on the very images that are judged.

Published attacks on large models were found to tell dates or preparations apart, not membership (Das et al., arXiv
2406.16201; Duan et al., arXiv 2402.07841). So an attack's success is believed only beside what needs no knowledge of
the members: classifiers that see no model, and the same attack on models that saw neither side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import mannwhitneyu
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mimia.arrays import Bools, Floats
from mimia.config import EvaluationSettings
from mimia.evaluation.blind import BlindGuess, blind_area
from mimia.evaluation.comparison import Comparison, compare
from mimia.evaluation.estimate import Estimate
from mimia.evaluation.evaluate import Evaluation, evaluate
from mimia.evaluation.matching import matched
from mimia.evaluation.roc import roc_area

STRICT = 0.001
"""Chance at which each check would speak against sides that differ in nothing but membership."""


@dataclass(frozen=True)
class ControlScores:
    """The deciding attack on a model that saw neither side.

    Attributes:
        model: What a reader calls it.
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
        model: What a reader calls it.
        area: ROC area; membership cannot be the cause of what is above one half.
        p_value: One-sided Mann–Whitney test that members score higher.
        excess: By how much the target's area is larger, on the same images.
    """

    model: str
    area: Estimate
    p_value: float
    excess: Comparison


@dataclass(frozen=True)
class Matched:
    """The deciding attack among pairs of images that look alike to the classifiers without a model.

    Attributes:
        pairs: A member and a non-member each.
        area: ROC area among them, if there are enough.
        p_value: One-sided Mann–Whitney test that members score higher.
    """

    pairs: int
    area: Estimate
    p_value: float


@dataclass(frozen=True)
class Duplicates:
    """Images that show the same picture as another.

    Attributes:
        across: Images of the first side with a near-duplicate on the second.
        within: Images of each side that repeat another one of their own side.
    """

    across: int
    within: tuple[int, int]


@dataclass(frozen=True)
class Measurements:
    """What the validity checks measured.

    Attributes:
        blind: Classifiers that see no model; the area is the mean of the folds' areas.
        apart: Whether one of them tells the sides apart, with a chance of `STRICT` for each if they are alike.
        controls: The deciding attack on models that saw neither side.
        matched: The deciding attack among images matched on the blind scores.
        duplicates: Near-duplicates that are left on the sides.
        reconstruction: Target's error, divided by that of the mean colour, on the side where it is smaller; None if it
            is not asked.
    """

    blind: tuple[Evaluation, ...]
    apart: bool
    controls: tuple[Control, ...]
    matched: Matched
    duplicates: Duplicates
    reconstruction: float | None


def measure_validity(
    scores: Floats,
    inside: Bools,
    guesses: Sequence[BlindGuess],
    controls: Sequence[ControlScores],
    duplicates: Duplicates,
    reconstruction: float | None,
    settings: EvaluationSettings,
) -> Measurements:
    """Measure all that the verdict depends on besides the attacks' own figures.

    Args:
        scores: Of the attack that decides, (images,).
        inside: Which images are on the first side, members or candidates, (images,).
        guesses: Of the classifiers without a model, for all images.
        controls: Scores by models that saw neither side.
        duplicates: Near-duplicates that are left on the sides.
        reconstruction: Target's error, divided by that of the mean colour.
        settings: Of the evaluation.
    """
    blind = tuple(
        replace(
            evaluate(f"blind {guess.name}", guess.scores, inside, settings),
            area=blind_area(guess, inside),
        )
        for guess in guesses
    )
    strict = [blind_area(guess, inside, 1 - 2 * STRICT) for guess in guesses]
    return Measurements(
        blind=blind,
        apart=any(area.low is not None and area.low > 0.5 for area in strict),
        controls=tuple(compare_control(each, scores, inside) for each in controls),
        matched=_among_matched(scores, inside, guesses),
        duplicates=duplicates,
        reconstruction=reconstruction,
    )


def compare_control(control: ControlScores, scores: Floats, inside: Bools) -> Control:
    """Compare the deciding attack with itself on another model.

    Args:
        control: Its scores by that model.
        scores: Its scores by the target, (images,).
        inside: Which images are on the first side, (images,).
    """
    members = inside[control.chosen]
    return Control(
        control.model,
        roc_area(control.scores[members], control.scores[~members]),
        _p_value(control.scores[members], control.scores[~members]),
        compare(scores[control.chosen], control.scores, members),
    )


def _among_matched(scores: Floats, inside: Bools, guesses: Sequence[BlindGuess]) -> Matched:
    """Match on one score that weighs the classifiers by how much they tell."""
    odds = np.column_stack([guess.scores for guess in guesses])
    combine = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    first, second = matched(combine.fit(odds, inside).decision_function(odds), inside)
    if len(first) < 2:
        return Matched(len(first), Estimate(None, note="no images look alike"), 1.0)
    return Matched(len(first), roc_area(scores[first], scores[second]), _p_value(scores[first], scores[second]))


def _p_value(first: Floats, second: Floats) -> float:
    return float(mannwhitneyu(first, second, alternative="greater").pvalue)
