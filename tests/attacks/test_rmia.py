import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimia.attacks.rmia import RMIA
from mimia.signals.arrays import AttackInput, ShadowSignals, leave_one_out

Drawn = Callable[..., st.SearchStrategy[AttackInput]]
Pool = Callable[..., tuple[ShadowSignals, ShadowSignals]]

DRAWS = 2
ROUNDING = 1e-9


def likelihood(distances: list[float], temperature: float) -> float:
    return math.exp(-sum(distances) / len(distances) / temperature)


def slow_ratio(inputs: AttackInput, image: int, offset: float | None, temperature: float = 1.0) -> float:
    """P / p̄: online (no offset) over those that saw the image and those that did not; offline with the offset a."""
    groups: dict[bool, list[float]] = {True: [], False: []}
    for reference, seen in zip(inputs.references.signals["reconstruction"], inputs.references.membership, strict=True):
        groups[bool(seen[image])].append(likelihood(reference[image].tolist(), temperature))
    means = {seen: sum(group) / len(group) if group else math.nan for seen, group in groups.items()}
    online, offline = (means[True] + means[False]) / 2, ((1 + (offset or 0)) * means[False] + 1 - (offset or 0)) / 2
    expected = online if offset is None else offline
    return likelihood(inputs.target["reconstruction"][0, image].tolist(), temperature) / expected


def slow_auc(inputs: AttackInput, members: list[bool], offset: float) -> Fraction:
    """Proportion of the pairs of a member and another in which the member's ratio is higher; half for ties."""
    ratios = [slow_ratio(inputs, image, offset) for image in range(len(members))]
    pairs = [
        (inside, outside)
        for inside, member in zip(ratios, members, strict=True)
        for outside, other in zip(ratios, members, strict=True)
        if member and not other and not math.isnan(inside + outside)
    ]
    wins = sum(2 if inside > outside else int(inside == outside) for inside, outside in pairs)
    return Fraction(wins, 2 * len(pairs))


@cache
def fitted(online: bool, gamma: float, temperature: float, pool: Pool) -> RMIA:
    return RMIA(online=online, gamma=gamma, temperature=temperature).fit(
        pool({"reconstruction": DRAWS})[0], population=pool({"reconstruction": DRAWS})[1]
    )


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize(("gamma", "temperature"), [(1.0, 1.0), (2.0, 0.5), (0.8, 2.0)])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_score_is_the_proportion_of_the_population_that_the_image_beats(
    online: bool, gamma: float, temperature: float, drawn: Drawn, pool: Pool, data: st.DataObject
) -> None:
    attack = fitted(online, gamma, temperature, pool)
    inputs = data.draw(drawn({"reconstruction": DRAWS}, population=True))
    population = inputs.population
    assert population is not None
    size = len(population.target.images)
    # No reference saw the population: online p̄ is p_out, which the offline formula is for a = 1.
    ratios = [slow_ratio(population, image, 1.0 if online else attack._offset, temperature) for image in range(size)]
    for image, score in enumerate(attack._score(inputs)):
        ratio = slow_ratio(inputs, image, None if online else attack._offset, temperature)
        if math.isnan(ratio):
            assert math.isnan(score)
            continue
        surely = sum(ratio / other >= gamma * (1 + ROUNDING) for other in ratios)
        perhaps = sum(ratio / other >= gamma * (1 - ROUNDING) for other in ratios)
        assert surely <= math.floor(score * (size + 1)) <= perhaps
        assert 0 < score < 1


def test_image_beats_one_that_is_exactly_like_it(inputs: Callable[..., AttackInput], pool: Pool) -> None:
    attack = RMIA().fit(pool({"reconstruction": DRAWS})[0], population=pool({"reconstruction": DRAWS})[1])
    values = np.random.default_rng(0).exponential(size=(3, 1, DRAWS)).astype(np.float32)
    evaluated = inputs({"reconstruction": values}, np.zeros((2, 1), dtype=bool), {"reconstruction": values})
    assert math.floor(2 * attack._score(evaluated)[0]) == 1


@pytest.mark.parametrize("online", [False, True])
def test_images_that_beat_the_whole_population_are_still_ordered_by_their_ratios(
    online: bool, inputs: Callable[..., AttackInput], pool: Pool
) -> None:
    attack = RMIA(online=online).fit(pool({"reconstruction": 1})[0], population=pool({"reconstruction": 1})[1])
    values = np.full((5, 6, 1), 3.0, np.float32)
    values[0, :, 0] = [2.5, 0.1, 1.0, 0.5, 2.0, 1.5]
    membership = np.tile([[True], [False], [True], [False]], 6)
    population = {"reconstruction": np.full((5, 3, 1), 3.0, np.float32)}
    scores = attack._score(inputs({"reconstruction": values}, membership, population))
    assert (scores > 3 / 4).all()
    np.testing.assert_array_equal(np.argsort(scores), np.argsort(-values[0, :, 0]))


@pytest.mark.parametrize("seed", range(4))
def test_offset_is_one_that_tells_members_of_the_shadows_best(seed: int, pool: Pool) -> None:
    shadows, population = pool({"reconstruction": DRAWS}, shadows=3, leak=0.1, seed=seed)
    learned = RMIA().fit(shadows, population=population)._offset
    learning = shadows.of_images(np.any(shadows.membership, axis=0)).joined(population, ["reconstruction"])
    mean_aucs = {}
    for tenths in range(11):
        aucs = [
            slow_auc(leave_one_out(learning, shadow), learning.membership[shadow].tolist(), tenths / 10)
            for shadow in range(len(learning))
        ]
        mean_aucs[tenths / 10] = sum(aucs, Fraction(0)) / len(aucs)
    assert mean_aucs[learned] == max(mean_aucs.values())
    assert len(set(mean_aucs.values())) > 1  # else any would do


def test_likelihoods_that_are_too_small_for_a_float_give_finite_scores(
    inputs: Callable[..., AttackInput], pool: Pool
) -> None:
    attack = RMIA(online=True).fit(pool({"reconstruction": 1})[0], population=pool({"reconstruction": 1})[1])
    generator = np.random.default_rng(0)
    values = generator.exponential(size=(5, 6, 1)).astype(np.float32)
    population = generator.exponential(size=(5, 9, 1)).astype(np.float32)
    membership = np.tile([[True], [False], [True], [False]], 6)
    near, far = (
        attack._score(inputs({"reconstruction": values + shift}, membership, {"reconstruction": population + shift}))
        for shift in (0, 1024)
    )
    np.testing.assert_allclose(far, near, atol=1e-4)
