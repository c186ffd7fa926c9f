import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import t as student_t

from mimia.attacks.bavaria import BaVarIA
from mimia.attacks.lira import LiRA
from mimia.signals.arrays import AttackInput, ShadowSignals, Signals

DRAWS = 2
FLOOR = float(np.finfo(np.float32).tiny)
SMALLEST = 1e-12  # is added to each variance
STRENGTH = 4.0  # degrees of freedom of the prior, by default


def phi(signals: Signals, model: int, image: int) -> float:
    return -math.log(max(sum(signals["reconstruction"][model, image].tolist()) / DRAWS, FLOOR))


def phis(shadows: ShadowSignals, image: int, seen: bool) -> list[float]:
    models = range(len(shadows))
    return [phi(shadows.signals, model, image) for model in models if shadows.membership[model, image] == seen]


def prior(shadows: ShadowSignals, seen: bool) -> tuple[float, float, float, float]:
    """Estimate m, k, a and b: of means over images, and of variances within an image."""
    groups = [phis(shadows, image, seen) for image in range(len(shadows.signals.images))]
    groups = [group for group in groups if group]
    means = [sum(group) / len(group) for group in groups]
    squares = sum((value - mean) ** 2 for group, mean in zip(groups, means, strict=True) for value in group)
    within = squares / sum(len(group) - 1 for group in groups) + SMALLEST
    m = sum(means) / len(means)
    apart = sum((mean - m) ** 2 for mean in means) / len(means) + SMALLEST
    return m, within / apart, STRENGTH / 2, STRENGTH / 2 * within


def predictive(values: list[float], of: tuple[float, float, float, float]) -> tuple[float, float, float]:
    """Degrees of freedom, location and scale after each value in turn: a second derivation of the update."""
    m, k, a, b = of
    for value in values:
        b += k * (value - m) ** 2 / (2 * (k + 1))
        m = (k * m + value) / (k + 1)
        k, a = k + 1, a + 0.5
    return 2 * a, m, math.sqrt(b * (k + 1) / (a * k))


def log_density(value: float, freedom: float, location: float, scale: float) -> float:
    place = (value - location) / scale
    constant = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    return constant - math.log(scale) - (freedom + 1) / 2 * math.log1p(place**2 / freedom)


@pytest.mark.parametrize("online", [False, True])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_score_is_that_of_the_formula(
    online: bool,
    drawn: Callable[..., st.SearchStrategy[AttackInput]],
    pool: Callable[..., tuple[ShadowSignals, ShadowSignals]],
    data: st.DataObject,
) -> None:
    shadows, _ = pool({"reconstruction": DRAWS}, shadows=4)
    attack = BaVarIA(online=online).fit(shadows)
    before, before_in = prior(shadows, False), prior(shadows, True)
    inputs = data.draw(drawn({"reconstruction": DRAWS}))
    for image, score in enumerate(attack._score(inputs)):
        value = phi(inputs.target, 0, image)
        inside, outside = phis(inputs.references, image, True), phis(inputs.references, image, False)
        if not outside or (online and not inside):
            assert math.isnan(score)
        elif online:
            ratio = log_density(value, *predictive(inside, before_in)) - log_density(
                value, *predictive(outside, before)
            )
            assert score == pytest.approx(ratio, rel=1e-6, abs=1e-6)
        else:
            freedom, location, scale = predictive(outside, before)
            survival = float(student_t.sf((value - location) / scale, freedom))
            assert score == pytest.approx(-math.log(survival), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("place", "references"), [(1e5, 66), (1e3, 300), (1e6, 300), (40, 20_000)])
def test_probability_that_is_too_small_for_a_float_keeps_its_logarithm(
    place: float,
    references: int,
    inputs: Callable[..., AttackInput],
    pool: Callable[..., tuple[ShadowSignals, ShadowSignals]],
) -> None:
    attack = BaVarIA().fit(pool({"reconstruction": 1})[0])
    assert attack._outside is not None
    values = np.ones((1 + references, 1, 1), np.float32)  # all references agree that φ is 0
    of = (attack._outside.m, attack._outside.k, attack._outside.a, attack._outside.b)
    freedom, location, scale = predictive([0.0] * references, of)
    values[0] = math.exp(-min(location + place * scale, 85))
    place = (-math.log(values[0, 0, 0]) - location) / scale
    score = attack._score(inputs({"reconstruction": values}, np.zeros((references, 1), dtype=bool)))[0]

    def relative_density(further: float) -> float:
        """Density at place + further × place / freedom, over that at the place."""
        there = place * (1 + further / freedom)
        return math.exp(-(freedom + 1) / 2 * math.log((freedom + there**2) / (freedom + place**2)))

    integral = quad(relative_density, 0, math.inf)[0] * place / freedom
    expected = log_density(place, freedom, 0, 1) + math.log(integral)
    assert score == pytest.approx(-expected, rel=1e-5)


def test_images_far_above_or_below_what_references_say_do_not_tie(
    inputs: Callable[..., AttackInput], pool: Callable[..., tuple[ShadowSignals, ShadowSignals]]
) -> None:
    attack = BaVarIA().fit(pool({"reconstruction": 1})[0])
    values = np.ones((21, 40, 1), np.float32)
    values[0, :, 0] = np.exp(np.linspace(-60, 60, 40))
    scores = attack._score(inputs({"reconstruction": values}, np.zeros((20, 40), dtype=bool)))
    assert np.isfinite(scores).all()
    assert (np.diff(scores) < 0).all()


def test_with_many_references_it_orders_images_as_lira_does(
    inputs: Callable[..., AttackInput], pool: Callable[..., tuple[ShadowSignals, ShadowSignals]]
) -> None:
    shadows = pool({"reconstruction": 1})[0]
    generator = np.random.default_rng(0)
    deviations = generator.uniform(0.1, 0.3, (1, 30, 1))
    values = np.exp(generator.normal(0, 1, (3001, 30, 1)) * deviations).astype(np.float32)
    evaluated = inputs({"reconstruction": values}, np.zeros((3000, 30), dtype=bool))
    of_lira = LiRA(pooled=False)._score(evaluated)
    np.testing.assert_array_equal(np.argsort(BaVarIA().fit(shadows)._score(evaluated)), np.argsort(of_lira))


def test_a_few_references_that_happen_to_agree_convince_less_than_lira(
    inputs: Callable[..., AttackInput], pool: Callable[..., tuple[ShadowSignals, ShadowSignals]]
) -> None:
    values = np.exp([[[-0.2], [-0.2]], [[0.0], [-0.1]], [[0.0], [0.1]]]).astype(np.float32)
    evaluated = inputs({"reconstruction": values}, np.zeros((2, 2), dtype=bool))
    agreeing, apart = LiRA(pooled=False)._score(evaluated)
    assert agreeing > 1000 * apart
    agreeing, apart = BaVarIA().fit(pool({"reconstruction": 1})[0])._score(evaluated)
    assert apart < agreeing < 2 * apart
