import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mimia.evaluation.downstream import classify, explained_proportion
from mimia.runtime.arrays import Bools, Floats, Ids


def nearest_vote(features: Floats, labels: Ids, learning: Bools, count: int) -> list[str]:
    """Vote of the nearest by the cosine, each with one over its distance, written out."""
    found = []
    known, classes = features[learning], labels[learning]
    for vector in features[~learning]:
        cosines = known @ vector / np.linalg.norm(known, axis=1) / np.linalg.norm(vector)
        votes: dict[str, float] = {}
        for place in np.argsort(1 - cosines, kind="stable")[:count]:
            votes[classes[place]] = votes.get(classes[place], 0.0) + 1 / (1 - cosines[place])
        found.append(max(votes, key=lambda name: votes[name]))
    return found


def planted(spread: float, count: int = 400) -> tuple[Floats, Ids, Bools]:
    """Three classes around three directions; half of the images are learned from."""
    generator = np.random.default_rng(0)
    classes = generator.integers(0, 3, count)
    features = np.eye(3, 8)[classes] + spread * generator.normal(size=(count, 8))
    return features, np.array(["cat", "dog", "ship"])[classes], np.arange(count) < count // 2


def test_nearest_neighbours_are_those_of_the_slow_definition() -> None:
    features, labels, learning = planted(0.6)
    expected = np.mean(np.array(nearest_vote(features, labels, learning, 20)) == labels[~learning])
    assert classify(features, labels, learning, 0).nearest_neighbours.value == pytest.approx(expected)
    assert 0.5 < expected < 0.95


def test_classes_that_lie_apart_are_read_without_a_mistake() -> None:
    found = classify(*planted(0.01), 0)
    assert (found.linear_probe.value, found.nearest_neighbours.value) == (1, 1)


def test_features_that_tell_nothing_are_read_by_chance() -> None:
    features, labels, learning = planted(0.5, 1200)
    found = classify(np.random.default_rng(1).normal(size=features.shape), labels, learning, 0)
    for estimate in (found.linear_probe, found.nearest_neighbours):
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low < 1 / 3 + 0.03
        assert estimate.high > 1 / 3


def test_scale_of_a_feature_does_not_matter_to_the_linear_probe() -> None:
    features, labels, learning = planted(0.6)
    scaled = features * np.geomspace(1e-3, 1e3, 8)
    assert classify(scaled, labels, learning, 0).linear_probe == classify(features, labels, learning, 0).linear_probe


def test_more_numbers_than_images_are_read_as_by_a_regression_on_all_of_them() -> None:
    features, labels, learning = planted(0.6)
    generator = np.random.default_rng(2)
    wide = features @ generator.normal(size=(8, 1000)) + 3 * generator.normal(size=(len(features), 1000))
    regression = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-8, max_iter=10_000))
    folds = KFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(regression, {"logisticregression__C": [1e-3, 1e-2, 1e-1, 1.0]}, cv=folds)
    expected = search.fit(wide[learning], labels[learning]).score(wide[~learning], labels[~learning])
    assert 0.4 < expected < 0.95
    assert classify(wide, labels, learning, 0).linear_probe.value == pytest.approx(expected, abs=0.02)


def test_labels_of_the_tested_images_decide_over_no_answer() -> None:
    features, labels, learning = planted(0.6)
    right = classify(features, labels, learning, 0)
    others = np.where(learning, labels, "none of these")
    assert right.linear_probe.value
    assert classify(features, others, learning, 0).linear_probe.value == 0


def test_explained_proportion_is_that_of_the_formula_and_its_interval_that_of_a_large_sample() -> None:
    generator = np.random.default_rng(0)
    errors, baseline = generator.gamma(2, 0.2, 1000), generator.gamma(2, 0.5, 1000)
    found = explained_proportion(errors, baseline, 0)
    ratio = errors.sum() / baseline.sum()
    # Delta method for a ratio of means.
    spread = np.std(errors - ratio * baseline) / baseline.mean() / np.sqrt(len(errors))
    assert found.value == pytest.approx(1 - ratio)
    assert found.low == pytest.approx(1 - ratio - 1.96 * spread, abs=0.15 * spread)
    assert found.high == pytest.approx(1 - ratio + 1.96 * spread, abs=0.15 * spread)
