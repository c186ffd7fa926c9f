import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from mimia.attacks.ensemble import Ensemble
from mimia.errors import MimiaError
from mimia.signals.base import Evidence, Shadows, play

Pool = Callable[..., tuple[Shadows, Shadows]]

FLOOR = float(np.finfo(np.float32).tiny)
SIZES = {"distances": 3, "surroundings": 4, "gradients": 1, "similarities": 3, "ratios": 6, "views": 5}
AS_THEY_ARE = {"surroundings"}
EACH_NUMBER = {"ratios"}


def numbers(kind: str, values: list[float]) -> list[float]:
    """Logarithms: of each number, or of mean and standard deviation where all are draws of the same question."""
    if kind in AS_THEY_ARE:
        return values
    if kind not in EACH_NUMBER:
        mean = sum(values) / len(values)
        values = [mean, math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))]
    return [math.log(max(value, FLOOR)) for value in values]


def slow_features(evidence: Evidence, image: int, kinds: tuple[str, ...]) -> list[float]:
    """Numbers of the target with their signs turned, and how far they lie below those of the references."""
    own = [number for kind in kinds for number in numbers(kind, evidence.target[kind][0, image].astype(float).tolist())]
    gains = []
    for reference in range(len(evidence.references)):
        if not evidence.references.membership[reference, image]:
            signals = evidence.references.signals
            others = [
                number
                for kind in kinds
                for number in numbers(kind, signals[kind][reference, image].astype(float).tolist())
            ]
            gains.append([other - mine for other, mine in zip(others, own, strict=True)])
    mean = [sum(column) / len(column) for column in zip(*gains, strict=True)] if gains else [math.nan] * len(own)
    return [-number for number in own] + mean


@pytest.mark.parametrize("kinds", [("distances", "surroundings"), ("gradients",), ("similarities", "ratios", "views")])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_features_are_the_targets_numbers_and_how_far_they_lie_below_the_references(
    kinds: tuple[str, ...], drawn: Callable[..., st.SearchStrategy[Evidence]], data: st.DataObject
) -> None:
    evidence = data.draw(drawn({kind: SIZES[kind] for kind in kinds}))
    expected = [slow_features(evidence, image, kinds) for image in range(len(evidence.target.images))]
    # The deviation of equal numbers is zero in one computation and rounding in the other.
    np.testing.assert_allclose(np.exp(Ensemble(kinds)._features(evidence)), np.exp(expected), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("kinds", [("distances", "surroundings"), ("similarities", "ratios", "views")])
def test_score_is_that_of_a_logistic_regression_on_shadows(kinds: tuple[str, ...], pool: Pool) -> None:
    sizes = {kind: SIZES[kind] for kind in kinds}
    shadows, known = pool(sizes, shadows=3)
    learning = shadows.of_images(np.any(shadows.membership, axis=0)).joined(known, kinds)
    judged = play(pool(sizes, shadows=4, seed=1)[0], 0)
    rows, labels = [], []
    for shadow in range(len(shadows)):
        played = play(learning, shadow)
        for image in range(len(played.target.images)):
            features = slow_features(played, image, kinds)
            if not any(map(math.isnan, features)):
                rows.append(features)
                labels.append(bool(learning.membership[shadow, image]))
    matrix, members = np.array(rows), np.array(labels)
    assert 0 < len(rows) < 3 * (40 + 25)  # some were seen by all others
    mean, spread = matrix.mean(axis=0), matrix.std(axis=0)
    # Both sides weigh the same.
    weights = np.where(members, 0.5 / members.mean(), 0.5 / (1 - members.mean()))
    regression = LogisticRegression(C=1, max_iter=10_000, tol=1e-8).fit((matrix - mean) / spread, members, weights)
    asked = np.array([slow_features(judged, image, kinds) for image in range(len(judged.target.images))])
    expected = np.full(len(asked), np.nan)
    usable = ~np.isnan(asked).any(axis=1)
    expected[usable] = (asked[usable] - mean) / spread @ regression.coef_[0] + regression.intercept_[0]
    np.testing.assert_allclose(Ensemble(kinds).fit(shadows, known)._score(judged), expected, atol=1e-2)


def test_pool_in_which_no_usable_image_is_a_nonmember_is_refused(pool: Pool) -> None:
    shadows, known = pool({"distances": 3}, shadows=2)
    attack = Ensemble(("distances",))
    attack.name = "ensemble"
    nobody = np.zeros(len(known.signals.images), dtype=bool)
    with pytest.raises(MimiaError, match="finds no images in the reference pool to learn from"):
        attack.fit(shadows.of_images(shadows.membership.sum(axis=0) > 0), known.of_images(nobody))


def test_both_sides_weigh_the_same_where_few_images_are_members(pool: Pool) -> None:
    shadows, known = pool({"distances": 3}, leak=0)
    few = np.zeros_like(shadows.membership)
    few[:, :4] = np.eye(4, dtype=bool)
    scores = Ensemble(("distances",)).fit(Shadows(shadows.signals, few), known)._score(play(shadows, 0))
    by_size = math.log(3 + 25)  # the shadows saw four images, each of them one
    assert abs(float(np.nanmedian(scores))) < by_size / 2
