from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimia.attacks.threshold import Threshold
from mimia.runtime.arrays import Bools, Floats
from mimia.signals.arrays import AttackInput, ShadowSignals, Signals

Drawn = Callable[..., st.SearchStrategy[AttackInput]]


def make_shadows(values: Floats, membership: Bools) -> ShadowSignals:
    """Make shadows of distances, (models, images)."""
    models, images = values.shape
    names, ids = tuple(f"model {number}" for number in range(models)), np.array([f"{n:03}" for n in range(images)])
    return ShadowSignals(
        Signals({"reconstruction": values.astype(np.float32)[:, :, None]}, names, ids, "masks"), membership
    )


def make_shadow(distances: list[float], membership: Bools) -> ShadowSignals:
    return make_shadows(np.array([distances]), membership[None])


def balanced_accuracy(scores: Floats, members: Bools, threshold: float) -> float:
    called = scores >= threshold
    return float((called[members].mean() + (~called)[~members].mean()) / 2)


@given(data=st.data())
@settings(max_examples=50, deadline=None)
@pytest.mark.parametrize("name", ["reconstruction", "gradients", "crop_similarity"])
def test_score_is_the_mean_distance_with_its_sign_turned(name: str, drawn: Drawn, data: st.DataObject) -> None:
    inputs = data.draw(drawn({name: 3}))
    scores = Threshold(signal=name)._score(inputs)
    for image, score in enumerate(scores):
        assert score == pytest.approx(-sum(inputs.target[name][0, image].tolist()) / 3, rel=1e-12)


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=30))
@settings(max_examples=100, deadline=None)
def test_no_threshold_has_a_higher_balanced_accuracy_than_the_learned_one(images: list[tuple[int, bool]]) -> None:
    members = np.array([member for _, member in images])
    members[:2] = [True, False]
    distances = [float(distance) for distance, _ in images]
    learned = Threshold().fit(make_shadow(distances, members)).threshold_
    scores = -np.array(distances)
    best = max(balanced_accuracy(scores, members, cut) for cut in [*np.unique(scores), np.inf])
    assert balanced_accuracy(scores, members, learned) == pytest.approx(best)


def test_threshold_stands_halfway_between_the_scores_that_it_separates() -> None:
    members = np.array([True, True, False, False])
    assert Threshold().fit(make_shadow([0.1, 0.2, 0.4, 0.8], members)).threshold_ == pytest.approx(-0.3)


def test_where_members_score_lower_no_image_is_called_a_member() -> None:
    shadow = make_shadow([3.0, 4.0, 1.0, 2.0], np.array([True, True, False, False]))
    assert -1 < Threshold().fit(shadow).threshold_ < 0


def test_threshold_is_learned_on_all_shadows_together() -> None:
    values = np.array([[0.1, 0.9, 0.5], [0.7, 0.2, 0.6]])
    membership = np.array([[True, False, False], [False, True, False]])
    assert Threshold().fit(make_shadows(values, membership)).threshold_ == pytest.approx(-0.35)
