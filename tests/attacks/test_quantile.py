from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import roc_auc_score

from mimia.arrays import Floats
from mimia.attacks.quantile import QuantileRegression
from mimia.attacks.threshold import Threshold
from mimia.errors import MimiaError
from mimia.signals.base import Evidence

Make = Callable[..., Evidence]

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
    return {"distances": distances.astype(np.float32), "statistics": features.astype(np.float32)}


def given(make: Make, judged: dict[str, NDArray[np.float32]], known: dict[str, NDArray[np.float32]]) -> Evidence:
    return make(judged, np.zeros((1, judged["distances"].shape[1]), dtype=bool), known)


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


def test_score_is_how_many_deviations_the_log_distance_lies_below_the_expected_one(evidence: Make) -> None:
    judged, known = images(30, 0), images(103, 1)
    features, logs = known["statistics"][0], np.log(known["distances"][0].astype(np.float64).mean(axis=1))
    errors = np.zeros(103)
    for fold in np.array_split(np.arange(103), FOLDS):
        others = np.setdiff1d(np.arange(103), fold)
        errors[fold] = np.abs(regression(features[others], logs[others]).predict(features[fold]) - logs[fold])
    expected, spread = regression(features, logs), regression(features, np.log(errors + SMALLEST))
    mu, sigma = expected.predict(judged["statistics"][0]), np.exp(spread.predict(judged["statistics"][0]))
    own = np.log(judged["distances"][0].astype(np.float64).mean(axis=1))
    scores = QuantileRegression(trees=TREES)._score(given(evidence, judged, known))
    np.testing.assert_allclose(scores, (mu - own) / sigma, rtol=1e-5, atol=1e-6)


def test_difficulty_that_the_statistics_tell_is_taken_out(evidence: Make) -> None:
    judged = given(evidence, images(600, 0, leak=3), images(600, 1))
    members = np.arange(600) < 300
    assert roc_auc_score(members, Threshold()._score(judged)) < 0.7
    assert roc_auc_score(members, QuantileRegression()._score(judged)) > 0.9


def test_scores_of_nonmembers_are_as_wide_where_there_is_more_noise(evidence: Make) -> None:
    judged = images(1000, 0)
    scores = QuantileRegression()._score(given(evidence, judged, images(1000, 1)))
    noisy = judged["statistics"][0, :, 1] > 0
    # The noise itself is ten times as wide.
    assert 0.5 < np.median(np.abs(scores[noisy])) / np.median(np.abs(scores[~noisy])) < 2


def test_references_are_not_asked(evidence: Make) -> None:
    judged, known = images(20, 0), images(60, 1)
    before = QuantileRegression(TREES)._score(given(evidence, judged, known))
    judged["distances"][1], known["distances"][1] = 7, 9
    assert np.array_equal(QuantileRegression(TREES)._score(given(evidence, judged, known)), before)


def test_known_nonmembers_are_as_many_as_the_folds_at_least(evidence: Make) -> None:
    attack = QuantileRegression(TREES)
    attack.name, attack.threshold = "quantile", 0.0
    assert np.isfinite(attack.score(given(evidence, images(4, 0), images(FOLDS, 1))).values).all()
    with pytest.raises(MimiaError, match=f"needs {FOLDS} known non-members and has {FOLDS - 1}: raise split.n_known"):
        attack.score(given(evidence, images(4, 0), images(FOLDS - 1, 1)))
