import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimia.attacks.rmia import Rmia
from mimia.signals.base import Evidence, Shadows, play

Drawn = Callable[..., st.SearchStrategy[Evidence]]
Pool = Callable[..., tuple[Shadows, Shadows]]

DRAWS = 2
ROUNDING = 1e-9


def likelihood(distances: list[float], temperature: float) -> float:
    return math.exp(-sum(distances) / len(distances) / temperature)


def slow_ratio(evidence: Evidence, image: int, offset: float | None, temperature: float = 1.0) -> float:
    """P / p̄: online (no offset) over those that saw the image and those that did not; offline with the offset a."""
    groups: dict[bool, list[float]] = {True: [], False: []}
    for reference, seen in zip(evidence.references.signals["distances"], evidence.references.membership, strict=True):
        groups[bool(seen[image])].append(likelihood(reference[image].tolist(), temperature))
    means = {seen: sum(group) / len(group) if group else math.nan for seen, group in groups.items()}
    online, offline = (means[True] + means[False]) / 2, ((1 + (offset or 0)) * means[False] + 1 - (offset or 0)) / 2
    expected = online if offset is None else offline
    return likelihood(evidence.target["distances"][0, image].tolist(), temperature) / expected


def slow_area(evidence: Evidence, members: list[bool], offset: float) -> Fraction:
    """Share of the pairs of a member and another in which the member's ratio is higher; half for ties."""
    ratios = [slow_ratio(evidence, image, offset) for image in range(len(members))]
    pairs = [
        (inside, outside)
        for inside, member in zip(ratios, members, strict=True)
        for outside, other in zip(ratios, members, strict=True)
        if member and not other and not math.isnan(inside + outside)
    ]
    wins = sum(2 if inside > outside else int(inside == outside) for inside, outside in pairs)
    return Fraction(wins, 2 * len(pairs))


@cache
def fitted(online: bool, gamma: float, temperature: float, pool: Pool) -> Rmia:
    return Rmia(online=online, gamma=gamma, temperature=temperature).fit(*pool({"distances": DRAWS}))


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize(("gamma", "temperature"), [(1.0, 1.0), (2.0, 0.5), (0.8, 2.0)])
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_score_is_the_share_of_the_population_that_the_image_beats(
    online: bool, gamma: float, temperature: float, drawn: Drawn, pool: Pool, data: st.DataObject
) -> None:
    attack = fitted(online, gamma, temperature, pool)
    evidence = data.draw(drawn({"distances": DRAWS}, known=True))
    known = evidence.known
    assert known is not None
    size = len(known.target.images)
    # No reference saw the population: online p̄ is p_out, which the offline formula is for a = 1.
    population = [slow_ratio(known, image, 1.0 if online else attack._offset, temperature) for image in range(size)]
    for image, score in enumerate(attack._score(evidence)):
        ratio = slow_ratio(evidence, image, None if online else attack._offset, temperature)
        if math.isnan(ratio):
            assert math.isnan(score)
            continue
        surely = sum(ratio / other >= gamma * (1 + ROUNDING) for other in population)
        perhaps = sum(ratio / other >= gamma * (1 - ROUNDING) for other in population)
        assert surely <= math.floor(score * (size + 1)) <= perhaps
        assert 0 < score < 1


def test_image_beats_one_that_is_exactly_like_it(evidence: Callable[..., Evidence], pool: Pool) -> None:
    attack = Rmia().fit(*pool({"distances": DRAWS}))
    values = np.random.default_rng(0).exponential(size=(3, 1, DRAWS)).astype(np.float32)
    judged = evidence({"distances": values}, np.zeros((2, 1), dtype=bool), {"distances": values})
    assert math.floor(2 * attack._score(judged)[0]) == 1


@pytest.mark.parametrize("online", [False, True])
def test_images_that_beat_the_whole_population_are_still_ordered_by_their_ratios(
    online: bool, evidence: Callable[..., Evidence], pool: Pool
) -> None:
    attack = Rmia(online=online).fit(*pool({"distances": 1}))
    values = np.full((5, 6, 1), 3.0, np.float32)
    values[0, :, 0] = [2.5, 0.1, 1.0, 0.5, 2.0, 1.5]
    membership = np.tile([[True], [False], [True], [False]], 6)
    known = {"distances": np.full((5, 3, 1), 3.0, np.float32)}
    scores = attack._score(evidence({"distances": values}, membership, known))
    assert (scores > 3 / 4).all()
    np.testing.assert_array_equal(np.argsort(scores), np.argsort(-values[0, :, 0]))


@pytest.mark.parametrize("seed", range(4))
def test_offset_is_one_that_tells_members_of_the_shadows_best(seed: int, pool: Pool) -> None:
    shadows, known = pool({"distances": DRAWS}, shadows=3, leak=0.1, seed=seed)
    learned = Rmia().fit(shadows, known)._offset
    learning = shadows.of_images(np.any(shadows.membership, axis=0)).joined(known, ["distances"])
    mean_areas = {}
    for tenths in range(11):
        areas = [
            slow_area(play(learning, shadow), learning.membership[shadow].tolist(), tenths / 10)
            for shadow in range(len(learning))
        ]
        mean_areas[tenths / 10] = sum(areas, Fraction(0)) / len(areas)
    assert mean_areas[learned] == max(mean_areas.values())
    assert len(set(mean_areas.values())) > 1  # else any would do


def test_likelihoods_that_are_too_small_for_a_float_give_finite_scores(
    evidence: Callable[..., Evidence], pool: Pool
) -> None:
    attack = Rmia(online=True).fit(*pool({"distances": 1}))
    generator = np.random.default_rng(0)
    values = generator.exponential(size=(5, 6, 1)).astype(np.float32)
    known = generator.exponential(size=(5, 9, 1)).astype(np.float32)
    membership = np.tile([[True], [False], [True], [False]], 6)
    near, far = (
        attack._score(evidence({"distances": values + shift}, membership, {"distances": known + shift}))
        for shift in (0, 1024)
    )
    np.testing.assert_allclose(far, near, atol=1e-4)
