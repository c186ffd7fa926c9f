import math

import numpy as np
import pytest
import torch

from mimia.attacks.networks import Classifier, perceptron
from mimia.runtime.arrays import Bools, Floats


def rows(count: int, proportion: float, distance: float, seed: int = 0, numbers: int = 1) -> tuple[Floats, Bools]:
    """Draw members around +distance and others around −distance, with the standard deviation 1."""
    generator = np.random.default_rng(seed)
    members = generator.random(count) < proportion
    centres = np.where(members, distance, -distance)[:, None]
    return (centres + generator.normal(size=(count, numbers))).astype(np.float32), members


def classifier(numbers: int = 1, epochs: int = 20, seed: int = 0) -> Classifier:
    return Classifier(perceptron(numbers, 16, 1), epochs, seed)


@pytest.mark.parametrize("proportion", [0.5, 0.1, 0.9])
def test_log_odds_are_those_of_two_normal_distributions_of_the_same_weight(proportion: float) -> None:
    features, members = rows(6000, proportion, distance=0.7)
    places = np.linspace(-1, 1, 9, dtype=np.float32)[:, None]
    found = classifier(epochs=15).fit(features, members).predict(places)
    np.testing.assert_allclose(found, 2 * 0.7 * places[:, 0], atol=0.4)


def test_where_nothing_tells_members_the_odds_are_even_though_they_are_few() -> None:
    features, members = rows(4000, 0.1, distance=0)
    odds = classifier(epochs=10).fit(features, members).predict(features)
    assert abs(odds.mean()) < 0.15 < math.log(9)


def test_units_of_the_features_do_not_matter() -> None:
    features, members = rows(300, 0.5, 0.5, numbers=4)
    expected = classifier(4).fit(features, members).predict(features)
    for factor in (1e-7, 1e6):
        scaled = features * np.float32(factor)
        found = classifier(4).fit(scaled, members).predict(scaled)
        np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-2)


def test_number_that_never_changed_in_training_says_nothing() -> None:
    features, members = rows(300, 0.5, 0.5, numbers=2)
    with_constant = np.concatenate([features, np.full((300, 1), 0.3, np.float32)], axis=1)
    fitted = classifier(3).fit(with_constant, members)
    expected = fitted.predict(with_constant)
    with_constant[:, 2] = 5
    np.testing.assert_allclose(fitted.predict(with_constant), expected, rtol=1e-5)


def test_only_the_seed_decides_over_the_network() -> None:
    features, members = rows(200, 0.5, 0.5)
    first = classifier(epochs=2).fit(features, members).predict(features)
    torch.manual_seed(1)
    again = classifier(epochs=2)
    again.fit(*rows(200, 0.5, 0.5, seed=3))
    assert np.array_equal(again.fit(features, members).predict(features), first)
    assert not np.array_equal(classifier(epochs=2, seed=1).fit(features, members).predict(features), first)


def test_numbers_of_a_set_are_scaled_alike() -> None:
    features, members = rows(200, 0.5, 0.5, numbers=3)
    features *= np.array([1, 10, 100], np.float32)
    fitted = Classifier(perceptron(3, 16, 1), 1, 0, exchangeable=True).fit(features, members)
    assert fitted.mean.shape == fitted.spread.shape == ()
    assert fitted.spread == pytest.approx(features.astype(np.float64).std())


def test_weight_decay_keeps_the_weights_small() -> None:
    features, members = rows(400, 0.5, 1.0)

    def size(weight_decay: float) -> float:
        module = Classifier(perceptron(1, 16, 1), 60, 0, weight_decay=weight_decay).fit(features, members).module
        return sum(float(weight.detach().square().sum()) for weight in module.parameters())

    assert size(1) < 0.8 * size(0)
