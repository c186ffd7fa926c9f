import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimia.attacks.bayes import BASE
from mimia.signals.arrays import AttackInput

DRAWS = 3


def slow_score(inputs: AttackInput, image: int) -> float:
    """−L − log mean over the references k that did not see the image of exp(−L_k)."""
    own = sum(inputs.target["reconstruction"][0, image].tolist()) / DRAWS
    likelihoods = []
    for reference, seen in zip(inputs.references.signals["reconstruction"], inputs.references.membership, strict=True):
        if not seen[image]:
            likelihoods.append(math.exp(-sum(reference[image].tolist()) / DRAWS))
    return -own - math.log(sum(likelihoods) / len(likelihoods)) if likelihoods else math.nan


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_score_is_that_of_the_formula(
    drawn: Callable[..., st.SearchStrategy[AttackInput]], data: st.DataObject
) -> None:
    inputs = data.draw(drawn({"reconstruction": DRAWS}))
    scores = BASE()._score(inputs)
    np.testing.assert_allclose(scores, [slow_score(inputs, image) for image in range(len(scores))], atol=1e-12)


def test_likelihoods_that_are_too_small_for_a_float_give_the_same_score(inputs: Callable[..., AttackInput]) -> None:
    distances = np.array([1.0, 3.0, 2.5], np.float32)[:, None, None]
    near, far = (
        BASE()._score(inputs({"reconstruction": distances + shift}, np.zeros((2, 1), dtype=bool)))
        for shift in (0, 2048)
    )
    assert far == pytest.approx(near, rel=1e-9)


def test_with_one_reference_it_is_the_difference_of_distances(inputs: Callable[..., AttackInput]) -> None:
    values = np.random.default_rng(0).exponential(size=(2, 8, 4)).astype(np.float32)
    scores = BASE()._score(inputs({"reconstruction": values}, np.zeros((1, 8), dtype=bool)))
    np.testing.assert_allclose(scores, values[1].mean(axis=1) - values[0].mean(axis=1), rtol=1e-5, atol=1e-6)
