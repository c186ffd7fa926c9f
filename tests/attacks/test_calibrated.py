import math
from dataclasses import replace

import numpy as np
import pytest

from mimia.arrays import Bools, Floats
from mimia.attacks.calibrated import Calibrated
from mimia.errors import MimiaError
from mimia.signals.base import Shadows, Signals


def make_signals(values: Floats) -> Signals:
    """Make signals of (models, images, draws)."""
    models, images, _ = values.shape
    names = tuple(f"model {number}" for number in range(models))
    return Signals(values.astype(np.float32), names, np.array([f"image {number}" for number in range(images)]), "masks")


def slow_score(target: Signals, shadows: Shadows, membership: Bools, image: int) -> float:
    """Score by the formula: the mean over the references k that did not see the image of log L_k − log L."""

    def log_distance(signals: Signals, model: int) -> float:
        values = signals.values[model, image].tolist()
        return math.log(sum(values) / len(values))

    references = [model for model in range(len(shadows)) if not membership[model, image]]
    gains = [log_distance(shadows.signals, model) - log_distance(target, 0) for model in references]
    return sum(gains) / len(gains)


@pytest.fixture
def signals() -> Signals:
    return make_signals(np.random.default_rng(0).exponential(size=(5, 12, 6)))


@pytest.fixture
def shadows(signals: Signals) -> Shadows:
    membership = np.random.default_rng(1).random((4, 12)) < 0.5
    membership[:, 0] = [True, False, True, True]
    membership[:, 1] = False
    membership[0, membership.all(axis=0)] = False
    return Shadows(signals.without_model(0), membership)


def test_score_is_the_mean_log_ratio_to_the_references_that_did_not_see_the_image(
    signals: Signals, shadows: Shadows
) -> None:
    target = signals.of_model(0)
    scores = Calibrated().fit(shadows).score(target, shadows).values
    expected = [slow_score(target, shadows, shadows.membership, image) for image in range(12)]
    np.testing.assert_allclose(scores, expected, rtol=1e-9)


def test_threshold_is_learned_with_each_shadow_judged_by_the_others(shadows: Shadows) -> None:
    scores, labels = [], []
    for shadow in range(4):
        others = shadows.without(shadow)
        for image in range(12):
            if not others.membership[:, image].all():
                target = shadows.signals.of_model(shadow)
                scores.append(slow_score(target, others, others.membership, image))
                labels.append(bool(shadows.membership[shadow, image]))
    assert len(scores) < 48  # else no image was seen by all others, and the test would show less

    def balanced_accuracy(cut: float) -> float:
        inside = [score >= cut for score, member in zip(scores, labels, strict=True) if member]
        outside = [score < cut for score, member in zip(scores, labels, strict=True) if not member]
        return sum(inside) / len(inside) + sum(outside) / len(outside)

    learned = Calibrated().fit(shadows).threshold
    assert balanced_accuracy(learned) == pytest.approx(max(map(balanced_accuracy, [*scores, math.inf])))
    ordered = np.unique(scores)
    assert np.isclose((ordered[1:] + ordered[:-1]) / 2, learned, rtol=1e-9).any()


def test_image_that_every_reference_saw_is_refused(signals: Signals, shadows: Shadows) -> None:
    membership = shadows.membership.copy()
    membership[:, [3, 5]] = True
    with pytest.raises(MimiaError, match="cannot judge 2 images that every shadow was trained on"):
        Calibrated().fit(shadows).score(signals.of_model(0), replace(shadows, membership=membership))


def test_difficulty_of_an_image_cancels(signals: Signals, shadows: Shadows) -> None:
    attack = Calibrated().fit(shadows)
    before = attack.score(signals.of_model(0), shadows).values
    factors = np.random.default_rng(2).uniform(0.1, 10, (1, 12, 1)).astype(np.float32)
    harder = replace(signals, values=signals.values * factors)
    after = attack.score(harder.of_model(0), replace(shadows, signals=harder.without_model(0))).values
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


def test_distance_of_zero_gives_a_finite_score() -> None:
    blank = make_signals(np.zeros((3, 4, 2)))
    shadows = Shadows(blank.without_model(0), np.array([[True, False, False, False], [False, True, False, False]]))
    assert Calibrated().fit(shadows).score(blank.of_model(0), shadows).values.tolist() == [0, 0, 0, 0]
