from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture

from mimia.attacks.mixture import Mixture
from mimia.runtime.arrays import Floats
from mimia.signals.arrays import AttackInput, ShadowSignals, Signals, leave_one_out

Make = Callable[..., AttackInput]

WIDTH = 6
RIDGE = 1e-3  # is added to each variance of the standardised embeddings


def clusters(images: int, seed: int) -> NDArray[np.float32]:
    """Draw embeddings of two models around three centres, (2, images, width)."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(0, 4, (3, WIDTH))
    noise = generator.normal(size=(2, images, WIDTH)) * np.arange(1, 1 + WIDTH)
    return (centres[generator.integers(0, 3, images)] + noise).astype(np.float32)


def input_and_population(make: Make) -> tuple[AttackInput, Floats, Floats]:
    """Make an input, and return the target's embeddings of both sorts in units of the population."""
    evaluated, population = clusters(20, 1), clusters(200, 2)
    inputs = make({"embeddings": evaluated}, np.zeros((1, 20), dtype=bool), {"embeddings": population})
    own = population[0].astype(np.float64)
    scale = own.std(axis=0)
    return inputs, (evaluated[0] - own.mean(axis=0)) / scale, (own - own.mean(axis=0)) / scale


def test_with_one_component_it_is_the_log_density_of_independent_normals(inputs: Make) -> None:
    given, evaluated, _ = input_and_population(inputs)
    expected = norm.logpdf(evaluated, 0, np.sqrt(1 + RIDGE)).sum(axis=1)
    np.testing.assert_allclose(Mixture(components=1)._score(given), expected, rtol=1e-6)


def test_score_is_the_log_likelihood_under_the_fitted_normals(inputs: Make) -> None:
    given, evaluated, population = input_and_population(inputs)
    mixture = GaussianMixture(3, covariance_type="diag", reg_covar=RIDGE, random_state=0).fit(population)
    parts = [
        np.log(weight) + multivariate_normal(mean, np.diag(variances)).logpdf(evaluated)
        for weight, mean, variances in zip(mixture.weights_, mixture.means_, mixture.covariances_, strict=True)
    ]
    np.testing.assert_allclose(Mixture(components=3)._score(given), logsumexp(parts, axis=0), rtol=1e-6)


def shadows_and_population(factor: float, width: int, seed: int = 0) -> tuple[ShadowSignals, ShadowSignals]:
    """Simulate shadows whose members lie nearer to the centre by a factor, on 120 images and 120 of a population."""
    generator = np.random.default_rng(seed)
    membership = np.zeros((3, 240), dtype=bool)
    for shadow in range(3):
        membership[shadow, generator.permutation(120)[:60]] = True
    values = generator.normal(size=(3, 240, width)) * np.where(membership, factor, 1)[:, :, None]
    ids = np.array([f"{number:03}" for number in range(240)])
    everything = ShadowSignals(
        Signals({"embeddings": values.astype(np.float32)}, ("a", "b", "c"), ids, "masks"), membership
    )
    return everything.of_images(np.arange(240) < 120), everything.of_images(np.arange(240) >= 120)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_members_are_found_on_whichever_side_they_lie(factor: float) -> None:
    shadows, population = shadows_and_population(factor, WIDTH)
    attack = Mixture(components=2).fit(shadows, population=population)
    assert attack._sign == (1 if factor < 1 else -1)
    assert roc_auc_score(shadows.membership[0], attack._score(leave_one_out(shadows, 0, population))) > 0.75


@pytest.mark.parametrize("seed", range(3))
def test_images_that_the_mixture_was_fitted_to_do_not_decide_on_which_side_members_lie(seed: int) -> None:
    shadows, population = shadows_and_population(0.93, width=64, seed=seed)
    attack = Mixture().fit(shadows, population=population)
    scores, members = attack._score(leave_one_out(shadows, 0, population)), shadows.membership[0]
    assert roc_auc_score(members, scores) > 0.6
    # The mixture knows its own images far better, and none of them is a member.
    own = attack._score(
        AttackInput(population.signals.of_model(0), population.without(0), leave_one_out(population, 0))
    )
    others = scores[~members].mean()
    assert own.mean() - others > 1.5 * (scores[members].mean() - others)


def test_population_embeddings_that_are_all_the_same_or_few_are_no_obstacle(inputs: Make) -> None:
    evaluated = clusters(5, 0)
    for population in (np.ones((2, 30, WIDTH), np.float32), clusters(3, 1), clusters(3, 1).repeat(20, axis=1)):
        given = inputs({"embeddings": evaluated}, np.zeros((1, 5), dtype=bool), {"embeddings": population})
        assert np.isfinite(Mixture()._score(given)).all()


def test_units_of_the_embedding_do_not_matter(inputs: Make) -> None:
    evaluated, population = clusters(10, 1), clusters(100, 2)
    outside = np.zeros((1, 10), dtype=bool)
    expected = Mixture(components=3)._score(inputs({"embeddings": evaluated}, outside, {"embeddings": population}))
    scale = np.float32(2.0) ** np.arange(-3, 3, dtype=np.float32)  # exact
    scaled = inputs({"embeddings": evaluated * scale}, outside, {"embeddings": population * scale})
    np.testing.assert_allclose(Mixture(components=3)._score(scaled), expected, rtol=1e-6)
