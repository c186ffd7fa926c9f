import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimia.attacks.calibrated import Calibrated
from mimia.runtime.errors import MimiaError
from mimia.signals.arrays import AttackInput, ShadowSignals, Signals, leave_one_out

Drawn = Callable[..., st.SearchStrategy[AttackInput]]
Scale = Literal["ratio", "difference"]

SMALLEST = float(np.finfo(np.float32).tiny)
BOTH_SCALES = pytest.mark.parametrize("scale", ["ratio", "difference"])


def slow_score(inputs: AttackInput, image: int, name: str, scale: Scale) -> float:
    """Mean over the references k that did not see the image of L_k − L, or of log L_k − log L."""

    def measure(signals: Signals, model: int) -> float:
        values = signals[name][model, image].tolist()
        mean: float = sum(values) / len(values)
        return mean if scale == "difference" else math.log(max(mean, SMALLEST))

    references, seen = inputs.references, inputs.references.membership
    own = measure(inputs.target, 0)
    gains = [measure(references.signals, model) - own for model in range(len(references)) if not seen[model, image]]
    return sum(gains) / len(gains) if gains else math.nan


@BOTH_SCALES
@pytest.mark.parametrize("name", ["reconstruction", "view_similarity"])
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_score_is_the_mean_gain_over_the_references_that_did_not_see_the_image(
    name: str, scale: Scale, drawn: Drawn, data: st.DataObject
) -> None:
    inputs = data.draw(drawn({name: 3}))
    scores = Calibrated(signal=name, scale=scale)._score(inputs)
    expected = [slow_score(inputs, image, name, scale) for image in range(len(scores))]
    np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-12)


@BOTH_SCALES
def test_threshold_is_learned_with_each_shadow_judged_by_the_others(
    scale: Scale, pool: Callable[..., tuple[ShadowSignals, ShadowSignals]]
) -> None:
    shadows, _ = pool({"reconstruction": 4}, shadows=2)
    scores, labels = [], []
    for shadow in range(len(shadows)):
        inputs = leave_one_out(shadows, shadow)
        for image in range(len(shadows.signals.images)):
            score = slow_score(inputs, image, "reconstruction", scale)
            if not math.isnan(score):
                scores.append(score)
                labels.append(bool(shadows.membership[shadow, image]))
    assert len(scores) == 80  # 40 of 120 were seen by the other shadow, and there are no others

    def balanced_accuracy(cut: float) -> float:
        inside = [score >= cut for score, member in zip(scores, labels, strict=True) if member]
        outside = [score < cut for score, member in zip(scores, labels, strict=True) if not member]
        return sum(inside) / len(inside) + sum(outside) / len(outside)

    learned = Calibrated(scale=scale).fit(shadows).threshold_
    assert balanced_accuracy(learned) == pytest.approx(max(map(balanced_accuracy, [*scores, math.inf])))
    ordered = np.unique(scores)
    assert np.isclose((ordered[1:] + ordered[:-1]) / 2, learned, rtol=1e-9).any()


def test_image_that_every_reference_saw_is_refused(
    pool: Callable[..., tuple[ShadowSignals, ShadowSignals]], inputs: Callable[..., AttackInput]
) -> None:
    attack = Calibrated()
    attack.name = "calibrated"
    attack.fit(pool({"reconstruction": 2})[0])
    membership = np.zeros((2, 5), dtype=bool)
    membership[:, [3, 4]] = True
    with pytest.raises(MimiaError, match="cannot score 2 images that too many shadows were trained on"):
        attack.score(inputs({"reconstruction": np.ones((3, 5, 2), np.float32)}, membership))


def test_difficulty_of_an_image_cancels(inputs: Callable[..., AttackInput]) -> None:
    generator = np.random.default_rng(0)
    values, factors = generator.exponential(size=(4, 12, 6)), generator.uniform(0.1, 10, (1, 12, 1))
    membership = np.arange(12) == np.array([[0], [1], [2]])
    before = Calibrated()._score(inputs({"reconstruction": values.astype(np.float32)}, membership))
    after = Calibrated()._score(inputs({"reconstruction": (values * factors).astype(np.float32)}, membership))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


def test_distance_of_zero_gives_a_finite_score(inputs: Callable[..., AttackInput]) -> None:
    blank = inputs({"reconstruction": np.zeros((3, 4, 2), np.float32)}, np.zeros((2, 4), dtype=bool))
    assert Calibrated()._score(blank).tolist() == [0, 0, 0, 0]
