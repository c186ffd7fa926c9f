import math
import statistics
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from mimia.attacks.lira import LiRA
from mimia.runtime.errors import MimiaError
from mimia.signals.arrays import AttackInput, ShadowSignals, Signals

DRAWS = 2
FLOOR = float(np.finfo(np.float32).tiny)
SMALLEST = 1e-12  # is added to each variance


def phi(signals: Signals, model: int, image: int) -> float:
    return -math.log(max(sum(signals["reconstruction"][model, image].tolist()) / DRAWS, FLOOR))


def phis(shadows: ShadowSignals, image: int, seen: bool) -> list[float]:
    """φ of an image over the models that saw it, or that did not."""
    models = range(len(shadows))
    return [phi(shadows.signals, model, image) for model in models if shadows.membership[model, image] == seen]


def pooled(shadows: ShadowSignals, seen: bool) -> float:
    """Sum of the squares of all deviations from an image's mean, by the degrees of freedom."""
    squares, freedom = 0.0, 0
    for image in range(len(shadows.signals.images)):
        values = phis(shadows, image, seen)
        if values:
            mean = sum(values) / len(values)
            squares += sum((value - mean) ** 2 for value in values)
            freedom += len(values) - 1
    return squares / freedom


def normal(values: list[float], variance: float | None) -> tuple[float, float]:
    if not values:
        return math.nan, math.nan
    if variance is None:
        variance = statistics.variance(values) if len(values) > 1 else math.nan
    return sum(values) / len(values), math.sqrt(variance + SMALLEST)


def log_density(value: float, mean: float, deviation: float) -> float:
    return -(((value - mean) / deviation) ** 2) / 2 - math.log(deviation * math.sqrt(2 * math.pi))


def slow_score(inputs: AttackInput, image: int, online: bool, variances: tuple[float, float] | None) -> float:
    """Algorithm 1 online; offline how many deviations φ lies above the mean of those that did not see it."""
    value = phi(inputs.target, 0, image)
    outside = normal(phis(inputs.references, image, False), None if variances is None else variances[0])
    if not online:
        return (value - outside[0]) / outside[1]
    inside = normal(phis(inputs.references, image, True), None if variances is None else variances[1])
    return log_density(value, *inside) - log_density(value, *outside)


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("is_pooled", [False, True])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_score_is_that_of_the_formula(
    online: bool,
    is_pooled: bool,
    drawn: Callable[..., st.SearchStrategy[AttackInput]],
    pool: Callable[..., tuple[ShadowSignals, ShadowSignals]],
    data: st.DataObject,
) -> None:
    shadows, _ = pool({"reconstruction": DRAWS}, shadows=6)
    attack = LiRA(online=online, pooled=is_pooled).fit(shadows)
    variances = (pooled(shadows, False), pooled(shadows, True)) if is_pooled else None
    inputs = data.draw(drawn({"reconstruction": DRAWS}))
    scores = attack._score(inputs)
    expected = [slow_score(inputs, image, online, variances) for image in range(len(scores))]
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("online", [False, True])
def test_an_image_without_the_references_that_a_variance_takes_is_refused(
    online: bool, pool: Callable[..., tuple[ShadowSignals, ShadowSignals]], inputs: Callable[..., AttackInput]
) -> None:
    attack = LiRA(online=online, pooled=False)
    attack.name = "lira"
    attack.fit(pool({"reconstruction": DRAWS}, shadows=6)[0])
    membership = np.array([[True, True], [True, True], [True, False], [False, False]])
    with pytest.raises(MimiaError, match="cannot score 1 images"):
        attack.score(inputs({"reconstruction": np.ones((5, 2, DRAWS), np.float32)}, membership))


def test_offline_scores_of_nonmembers_are_standard_normal(inputs: Callable[..., AttackInput]) -> None:
    phi_values = np.random.default_rng(0).normal(0, 0.2, (400, 500, 1))
    values = {"reconstruction": np.exp(-phi_values).astype(np.float32)}
    scores = LiRA(pooled=False)._score(inputs(values, np.zeros((399, 500), dtype=bool)))
    assert abs(scores.mean()) < 4 / math.sqrt(500)
    assert 0.85 < scores.std() < 1.15


def test_online_score_is_the_log_ratio_of_the_true_densities_where_there_are_many_references(
    inputs: Callable[..., AttackInput],
) -> None:
    generator = np.random.default_rng(1)
    membership = np.repeat(np.arange(2000)[:, None] % 2 == 0, 50, axis=1)
    references = np.where(
        membership, generator.normal(0.5, 0.1, membership.shape), generator.normal(0, 0.2, (2000, 50))
    )
    target = generator.normal(0.2, 0.2, (1, 50))
    values = np.exp(-np.concatenate([target, references]))[:, :, None].astype(np.float32)
    scores = LiRA(online=True, pooled=False)._score(inputs({"reconstruction": values}, membership))
    truth = norm.logpdf(target[0], 0.5, 0.1) - norm.logpdf(target[0], 0, 0.2)
    np.testing.assert_allclose(scores, truth, rtol=0.1, atol=0.3)


@pytest.mark.parametrize(("attack", "fewest"), [(LiRA(), 2), (LiRA(pooled=False), 3)])
def test_variance_of_one_image_takes_a_shadow_more(attack: LiRA, fewest: int) -> None:
    generator = np.random.default_rng(0)
    losses, membership = generator.exponential(size=(fewest, 20)), np.zeros((fewest, 20), dtype=bool)
    membership[:, :10] = np.arange(fewest)[:, None] % 2 == np.arange(10) % 2
    attack.fit(losses, membership)
    assert np.isfinite(attack.score(losses[0, 10:], references=losses[:, 10:])).all()
    with pytest.raises(MimiaError, match=f"needs {fewest} shadow models and has {fewest - 1}"):
        attack.fit(losses[1:], membership[1:])
