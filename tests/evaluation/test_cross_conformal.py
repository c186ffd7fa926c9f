from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import binomtest

from mimia.attacks.base import Attack
from mimia.attacks.registry import ATTACKS
from mimia.evaluation.cross_conformal import CrossConformal, cross_conformal
from mimia.runtime.arrays import Bools, Indices
from mimia.signals.arrays import AttackInput, ShadowSignals, Signals

POOL, HOLDOUT, POPULATION, CANDIDATES = 60, 20, 20, 10
LEVELS = (0.02, 0.05, 0.1, 0.2, 0.5)


class World(NamedTuple):
    """Losses of a target and shadows that remember their training images; the candidates are members of none."""

    inputs: AttackInput
    pool: Bools
    holdout: Bools
    population: Bools
    candidates: Bools

    def of(self, chosen: Bools) -> AttackInput:
        return self.inputs.of_images(chosen)


def make_world(generator: np.random.Generator, shadows: int, n_members: int = 0) -> World:
    n = POOL + HOLDOUT + POPULATION + CANDIDATES
    membership = np.zeros((shadows + 1, n), dtype=bool)  # the target first
    membership[0, n - n_members :] = True
    for first in range(1, shadows + 1, 2):
        membership[first, generator.permutation(POOL)[: POOL // 2]] = True
        if first < shadows:
            membership[first + 1, :POOL] = ~membership[first, :POOL]
    log_losses = generator.normal(0, 0.5, n) + generator.normal(0, 0.15, (shadows + 1, n)) - 0.4 * membership
    losses = np.exp(log_losses[..., None] + generator.normal(0, 0.1, (1, n, 4))).astype(np.float32)
    ids = np.array([f"image {number:04d}" for number in range(n)])
    models = tuple(f"model {number}" for number in range(shadows + 1))
    signals = Signals({"reconstruction": losses}, models, ids, "query")
    references = ShadowSignals(signals.without_model(0), membership[1:])
    place = np.searchsorted([POOL, POOL + HOLDOUT, POOL + HOLDOUT + POPULATION], np.arange(n), side="right")
    return World(AttackInput(signals.of_model(0), references), *(place == part for part in range(4)))


def rank(world: World, attack: Attack) -> CrossConformal:
    """Rank candidates as an inference does."""
    population = world.of(world.population) if attack.requirements.population else None
    judging = world.pool | world.holdout
    attack.fit(world.of(judging).references, population=population.references if population else None)
    if population is None:
        judging = judging | world.population
    candidates, others = world.of(world.candidates), world.of(judging)
    return cross_conformal(attack, AttackInput(candidates.target, candidates.references, population), others)


def mean_difference(world: World, image: int, shadows: Indices) -> float:
    """Return the score of `calibrated` from its formula: the mean log-loss of the shadows minus the target's."""
    target = np.log(world.inputs.target["reconstruction"][0, image].mean(dtype=np.float64))
    references = np.log(
        world.inputs.references.signals["reconstruction"][shadows, image].mean(axis=1, dtype=np.float64)
    )
    return float(references.mean() - target)


@pytest.mark.parametrize("shadows", [2, 3, 4])
def test_p_values_are_those_of_the_definition(shadows: int) -> None:
    world = make_world(np.random.default_rng(0), shadows, n_members=3)
    found = rank(world, ATTACKS["calibrated"]())
    membership = world.inputs.references.membership
    judging = [int(image) for image in np.flatnonzero(~world.candidates) if not membership[:, image].all()]
    expected = []
    for candidate in np.flatnonzero(world.candidates):
        above = 0
        for image in judging:
            unseen = np.flatnonzero(~membership[:, image])
            above += mean_difference(world, image, unseen) >= mean_difference(world, int(candidate), unseen)
        expected.append((1 + above) / (len(judging) + 1))
    np.testing.assert_allclose(found.p_values, expected, atol=1.5 / len(judging))  # a tie by rounding may differ
    assert np.mean(np.isclose(found.p_values, expected)) > 0.8
    assert found.judging == len(judging)


def test_one_candidate_can_be_ranked_above_all_reference_images() -> None:
    world = make_world(np.random.default_rng(1), 2, n_members=1)
    target = world.inputs.target["reconstruction"]
    target[0, -1] /= 100
    found = rank(world, ATTACKS["calibrated"]())
    assert found.judging == POOL + HOLDOUT + POPULATION
    assert found.p_values[-1] == 1 / (found.judging + 1)


def null_p_values(name: str, shadows: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the p-values of candidates that are no members, (200 simulations, candidates)."""
    worlds = (make_world(np.random.default_rng([seed, shadows]), shadows) for seed in range(200))
    return np.stack([rank(world, ATTACKS[name]()).p_values for world in worlds]).astype(np.float64)


def assert_superuniform(p_values: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    """Compare with each level; one candidate a simulation, as those of one simulation share their judges."""
    for level in LEVELS:
        below = int((p_values[:, 0] <= level).sum())
        assert binomtest(below, len(p_values), level, "greater").pvalue > 0.001, level
        assert (p_values <= level).mean() < level + 0.02, level


@pytest.mark.parametrize("shadows", [2, 4])
def test_p_values_of_non_members_are_superuniform(shadows: int) -> None:
    assert_superuniform(null_p_values("calibrated", shadows))


@pytest.mark.slow
@pytest.mark.parametrize("shadows", [2, 4, 8])
@pytest.mark.parametrize("name", ["threshold", "calibrated", "base", "rmia", "lira-pooled", "bavaria"])
def test_p_values_of_non_members_are_superuniform_by_every_kind_of_attack(name: str, shadows: int) -> None:
    p_values = null_p_values(name, shadows)
    print(name, shadows, *(f"{level}: {(p_values <= level).mean():.4f}" for level in LEVELS))
    assert_superuniform(p_values)


@pytest.mark.slow
def test_false_discovery_rate_stays_below_its_bound() -> None:
    """With half of the candidates members, as Benjamini and Hochberg's list promises."""
    proportions = []
    for seed in range(400):
        world = make_world(np.random.default_rng([seed, 7]), 4, n_members=CANDIDATES // 2)
        listed = rank(world, ATTACKS["calibrated"]()).q_values <= 0.2
        proportions.append(listed[: CANDIDATES // 2].sum() / max(1, listed.sum()))
    print(f"false discovery rate {np.mean(proportions):.4f} at a bound of .2")
    assert np.mean(proportions) < 0.2 + 2 * np.std(proportions) / 20
