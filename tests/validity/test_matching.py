import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimia.evaluation.roc import roc_auc
from mimia.runtime.arrays import Floats
from mimia.validity.matching import match_pairs


def auc(inside: Floats, outside: Floats) -> float:
    return roc_auc(inside, outside).value or 0.0


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(2, 12))
@settings(max_examples=100, deadline=None)
def test_closest_pair_that_is_left_is_taken_until_none_is_within_the_caliper(
    seed: int, inside: int, outside: int
) -> None:
    generator = np.random.default_rng(seed)
    members = generator.permutation(np.arange(inside + outside) < inside)
    scores = generator.normal(size=inside + outside)
    reach = 0.5 * np.sqrt((scores[members].var() + scores[~members].var()) / 2)
    distances = np.where(members[:, None] & ~members, np.abs(scores[:, None] - scores), np.inf)
    pairs = []
    while distances.min() <= reach:
        one, other = np.unravel_index(distances.argmin(), distances.shape)
        pairs.append((one, other))
        distances[one] = distances[:, other] = np.inf
    assert list(zip(*match_pairs(scores, members, caliper=0.5), strict=True)) == pairs


def test_matched_sides_cannot_be_told_apart_by_the_score_any_more() -> None:
    generator = np.random.default_rng(0)
    members = np.arange(3000) < 1000
    scores = generator.normal(0.8 * members, 1)
    assert auc(scores[members], scores[~members]) > 0.7
    first, second = match_pairs(scores, members)
    assert len(first) > 900
    assert auc(scores[first], scores[second]) == pytest.approx(0.5, abs=0.02)


def test_sides_that_do_not_overlap_have_no_pairs() -> None:
    members = np.arange(20) < 10
    first, second = match_pairs(np.where(members, 5.0, -5.0), members)
    assert len(first) == len(second) == 0


def test_pairs_do_not_depend_on_the_order_of_the_images() -> None:
    generator = np.random.default_rng(0)
    members = generator.random(200) < 0.4
    scores, order = generator.normal(size=200) + members, generator.permutation(200)
    first, second = match_pairs(scores, members)
    again = [order[places] for places in match_pairs(scores[order], members[order])]
    assert sorted(zip(first, second, strict=True)) == sorted(zip(*again, strict=True))


def test_fifty_thousand_images_are_matched_one_to_one() -> None:
    generator = np.random.default_rng(0)
    members = np.arange(50_000) < 10_000
    first, second = match_pairs(generator.normal(size=50_000), members)
    assert len(first) == len(set(second.tolist())) == 10_000
