import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from mimia.attacks.ensemble import Ensemble
from mimia.runtime.errors import MimiaError
from mimia.signals.arrays import AttackInput, ShadowSignals, leave_one_out

Pool = Callable[..., tuple[ShadowSignals, ShadowSignals]]

FLOOR = float(np.finfo(np.float32).tiny)
SIZES = {
    "reconstruction": 3,
    "loss_neighbourhood": 4,
    "gradients": 1,
    "view_similarity": 3,
    "view_similarity_by_ratio": 6,
    "crop_similarity": 5,
}
AS_THEY_ARE = {"loss_neighbourhood"}
EACH_NUMBER = {"view_similarity_by_ratio"}


def numbers(name: str, values: list[float]) -> list[float]:
    """Logarithms: of each number, or of mean and standard deviation where all are draws of the same question."""
    if name in AS_THEY_ARE:
        return values
    if name not in EACH_NUMBER:
        mean = sum(values) / len(values)
        values = [mean, math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))]
    return [math.log(max(value, FLOOR)) for value in values]


def slow_features(inputs: AttackInput, image: int, names: tuple[str, ...]) -> list[float]:
    """Numbers of the target with their signs turned, and how far they lie below those of the references."""
    own = [number for name in names for number in numbers(name, inputs.target[name][0, image].astype(float).tolist())]
    gains = []
    for reference in range(len(inputs.references)):
        if not inputs.references.membership[reference, image]:
            signals = inputs.references.signals
            others = [
                number
                for name in names
                for number in numbers(name, signals[name][reference, image].astype(float).tolist())
            ]
            gains.append([other - mine for other, mine in zip(others, own, strict=True)])
    mean = [sum(column) / len(column) for column in zip(*gains, strict=True)] if gains else [math.nan] * len(own)
    return [-number for number in own] + mean


@pytest.mark.parametrize(
    "names",
    [
        ("reconstruction", "loss_neighbourhood"),
        ("gradients",),
        ("view_similarity", "view_similarity_by_ratio", "crop_similarity"),
    ],
)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_features_are_the_targets_numbers_and_how_far_they_lie_below_the_references(
    names: tuple[str, ...], drawn: Callable[..., st.SearchStrategy[AttackInput]], data: st.DataObject
) -> None:
    inputs = data.draw(drawn({name: SIZES[name] for name in names}))
    expected = [slow_features(inputs, image, names) for image in range(len(inputs.target.images))]
    # The deviation of equal numbers is zero in one computation and rounding in the other.
    np.testing.assert_allclose(
        np.exp(Ensemble(signals=names)._features(inputs)), np.exp(expected), rtol=1e-6, atol=1e-12
    )


@pytest.mark.parametrize(
    "names",
    [("reconstruction", "loss_neighbourhood"), ("view_similarity", "view_similarity_by_ratio", "crop_similarity")],
)
def test_score_is_that_of_a_logistic_regression_on_shadows(names: tuple[str, ...], pool: Pool) -> None:
    sizes = {name: SIZES[name] for name in names}
    shadows, population = pool(sizes, shadows=3)
    learning = shadows.of_images(np.any(shadows.membership, axis=0)).joined(population, names)
    evaluated = leave_one_out(pool(sizes, shadows=4, seed=1)[0], 0)
    rows, labels = [], []
    for shadow in range(len(shadows)):
        games = leave_one_out(learning, shadow)
        for image in range(len(games.target.images)):
            features = slow_features(games, image, names)
            if not any(map(math.isnan, features)):
                rows.append(features)
                labels.append(bool(learning.membership[shadow, image]))
    matrix, members = np.array(rows), np.array(labels)
    assert 0 < len(rows) < 3 * (40 + 25)  # some were seen by all others
    mean, spread = matrix.mean(axis=0), matrix.std(axis=0)
    # Both sides weigh the same.
    weights = np.where(members, 0.5 / members.mean(), 0.5 / (1 - members.mean()))
    regression = LogisticRegression(C=1, max_iter=10_000, tol=1e-8).fit((matrix - mean) / spread, members, weights)
    asked = np.array([slow_features(evaluated, image, names) for image in range(len(evaluated.target.images))])
    expected = np.full(len(asked), np.nan)
    usable = ~np.isnan(asked).any(axis=1)
    expected[usable] = (asked[usable] - mean) / spread @ regression.coef_[0] + regression.intercept_[0]
    np.testing.assert_allclose(
        Ensemble(signals=names).fit(shadows, population=population)._score(evaluated), expected, atol=1e-2
    )


def test_pool_in_which_no_usable_image_is_a_nonmember_is_refused(pool: Pool) -> None:
    shadows, population = pool({"reconstruction": 3}, shadows=2)
    attack = Ensemble(signals=("reconstruction",))
    attack.name = "ensemble"
    nobody = np.zeros(len(population.signals.images), dtype=bool)
    with pytest.raises(MimiaError, match="finds no members or no non-members in the reference pool"):
        attack.fit(shadows.of_images(shadows.membership.sum(axis=0) > 0), population=population.of_images(nobody))


def test_both_sides_weigh_the_same_where_few_images_are_members(pool: Pool) -> None:
    shadows, population = pool({"reconstruction": 3}, leak=0)
    few = np.zeros_like(shadows.membership)
    few[:, :4] = np.eye(4, dtype=bool)
    scores = (
        Ensemble(signals=("reconstruction",))
        .fit(ShadowSignals(shadows.signals, few), population=population)
        ._score(leave_one_out(shadows, 0))
    )
    by_size = math.log(3 + 25)  # the shadows saw four images, each of them one
    assert abs(float(np.nanmedian(scores))) < by_size / 2
