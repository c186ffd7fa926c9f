from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import roc_auc_score

from mimia.attacks.quantile import QuantileRegression
from mimia.attacks.threshold import Threshold
from mimia.runtime.arrays import Floats
from mimia.runtime.errors import MimiaError
from mimia.signals.arrays import AttackInput

Make = Callable[..., AttackInput]

FOLDS = 5
TREES = 15
SMALLEST = 1e-12  # is added to each error before its logarithm


def images(count: int, seed: int, leak: float = 0.0) -> dict[str, NDArray[np.float32]]:
    """Simulate a target and a reference; the first feature tells the difficulty, the second how much noise there is.

    The first half are members of the target.
    """
    generator = np.random.default_rng(seed)
    difficulty, noisy = generator.normal(0, 1, count), generator.random(count) < 0.5
    logs = difficulty + np.where(noisy, 0.5, 0.05) * generator.normal(size=(2, count))
    logs[0, : count // 2] -= leak * np.where(noisy, 0.5, 0.05)[: count // 2]
    features = np.broadcast_to(np.stack([difficulty, noisy, generator.normal(size=count)], axis=1), (2, count, 3))
    distances = np.exp(logs)[:, :, None].repeat(2, axis=2)
    return {"reconstruction": distances.astype(np.float32), "image_features": features.astype(np.float32)}


def given(
    make: Make, evaluated: dict[str, NDArray[np.float32]], population: dict[str, NDArray[np.float32]]
) -> AttackInput:
    return make(evaluated, np.zeros((1, evaluated["reconstruction"].shape[1]), dtype=bool), population)


def regression(features: Floats, values: Floats) -> HistGradientBoostingRegressor:
    trees = HistGradientBoostingRegressor(
        loss="absolute_error",
        max_iter=TREES,
        max_leaf_nodes=8,
        learning_rate=0.05,
        early_stopping=False,
        random_state=0,
    )
    return trees.fit(features, values)


def test_score_is_how_many_deviations_the_log_distance_lies_below_the_expected_one(inputs: Make) -> None:
    evaluated, population = images(30, 0), images(103, 1)
    features, logs = (
        population["image_features"][0],
        np.log(population["reconstruction"][0].astype(np.float64).mean(axis=1)),
    )
    errors = np.zeros(103)
    for fold in np.array_split(np.arange(103), FOLDS):
        others = np.setdiff1d(np.arange(103), fold)
        errors[fold] = np.abs(regression(features[others], logs[others]).predict(features[fold]) - logs[fold])
    expected, spread = regression(features, logs), regression(features, np.log(errors + SMALLEST))
    mu, sigma = expected.predict(evaluated["image_features"][0]), np.exp(spread.predict(evaluated["image_features"][0]))
    own = np.log(evaluated["reconstruction"][0].astype(np.float64).mean(axis=1))
    scores = QuantileRegression(trees=TREES)._score(given(inputs, evaluated, population))
    np.testing.assert_allclose(scores, (mu - own) / sigma, rtol=1e-5, atol=1e-6)


def test_difficulty_that_the_statistics_tell_is_taken_out(inputs: Make) -> None:
    evaluated = given(inputs, images(600, 0, leak=3), images(600, 1))
    members = np.arange(600) < 300
    assert roc_auc_score(members, Threshold()._score(evaluated)) < 0.7
    assert roc_auc_score(members, QuantileRegression()._score(evaluated)) > 0.9


def test_scores_of_nonmembers_are_as_wide_where_there_is_more_noise(inputs: Make) -> None:
    evaluated = images(1000, 0)
    scores = QuantileRegression()._score(given(inputs, evaluated, images(1000, 1)))
    noisy = evaluated["image_features"][0, :, 1] > 0
    # The noise itself is ten times as wide.
    assert 0.5 < np.median(np.abs(scores[noisy])) / np.median(np.abs(scores[~noisy])) < 2


def test_references_are_not_used(inputs: Make) -> None:
    evaluated, population = images(20, 0), images(60, 1)
    before = QuantileRegression(trees=TREES)._score(given(inputs, evaluated, population))
    evaluated["reconstruction"][1], population["reconstruction"][1] = 7, 9
    assert np.array_equal(QuantileRegression(trees=TREES)._score(given(inputs, evaluated, population)), before)


def test_population_is_as_many_as_the_folds_at_least(inputs: Make) -> None:
    attack = QuantileRegression(trees=TREES)
    attack.name, attack.threshold_, attack.shadow_auc_ = "quantile", 0.0, 0.5
    assert np.isfinite(attack.score(given(inputs, images(4, 0), images(FOLDS, 1))).values).all()
    with pytest.raises(
        MimiaError, match=f"needs {FOLDS} known non-members and has {FOLDS - 1}: raise split.n_population"
    ):
        attack.score(given(inputs, images(4, 0), images(FOLDS - 1, 1)))
