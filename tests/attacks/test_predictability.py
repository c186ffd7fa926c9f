from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimia.attacks.predictability import Predictability
from mimia.signals.arrays import AttackInput


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_score_is_the_error_of_the_regression_less_the_distance(
    drawn: Callable[..., st.SearchStrategy[AttackInput]], data: st.DataObject
) -> None:
    inputs = data.draw(drawn({"reconstruction": 4, "patch_predictability": 1}))
    for image, score in enumerate(Predictability()._score(inputs)):
        distance = sum(inputs.target["reconstruction"][0, image].tolist()) / 4
        assert score == pytest.approx(inputs.target["patch_predictability"][0, image].item() - distance, rel=1e-9)
