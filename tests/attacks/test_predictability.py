from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimia.attacks.predictability import Predictability
from mimia.signals.base import Evidence


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_score_is_the_error_of_the_regression_less_the_distance(
    drawn: Callable[..., st.SearchStrategy[Evidence]], data: st.DataObject
) -> None:
    evidence = data.draw(drawn({"distances": 4, "predictability": 1}))
    for image, score in enumerate(Predictability()._score(evidence)):
        distance = sum(evidence.target["distances"][0, image].tolist()) / 4
        assert score == pytest.approx(evidence.target["predictability"][0, image].item() - distance, rel=1e-9)
