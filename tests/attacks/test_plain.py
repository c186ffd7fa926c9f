"""Plain arrays give the scores that the same numbers give as signals."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mimia.attacks import BASE, RMIA, Calibrated, Ensemble, LiRA, Predictability, Threshold
from mimia.attacks.base import Attack, Scores
from mimia.attacks.registry import ATTACKS, make_attack
from mimia.runtime.errors import MimiaError
from mimia.signals.arrays import AttackInput, ShadowSignals, Signals, leave_one_out

Pool = Callable[..., tuple[ShadowSignals, ShadowSignals]]

SIZES = {"loss_neighbourhood": 4, "crop_similarity": 10, "view_similarity_by_ratio": 6}
FEW = {"epochs": 2, "trees": 5}


def quick(name: str) -> Attack:
    parameters = vars(make_attack(name))
    return make_attack(name, {option: value for option, value in FEW.items() if option in parameters})


def arrays(signals: Signals) -> dict[str, Any]:
    return dict(signals.values)


def of_target(signals: Signals) -> dict[str, Any]:
    return {name: values[0] for name, values in signals.values.items()}


def simulated(pool: Pool, attack: Attack) -> tuple[ShadowSignals, ShadowSignals]:
    """Simulate eight models on 40 images, of which each saw half, and on a population."""
    shadows, population = pool({name: SIZES.get(name, 3) for name in attack.requirements.signals}, shadows=8)
    return shadows.of_images(np.arange(60) < 40), population


@pytest.mark.parametrize("name", ATTACKS)
def test_scores_are_those_of_the_same_numbers_as_signals(name: str, pool: Pool) -> None:
    attack = quick(name)
    shadows, population = simulated(pool, attack)
    used = population if attack.requirements.population else None
    inputs = leave_one_out(shadows, 0, used)
    expected = attack.fit(shadows.without(0), population=None if used is None else used.without(0)).score(inputs)
    assert isinstance(expected, Scores)
    others = shadows.without(0)
    plain = quick(name).fit(
        arrays(others.signals),
        others.membership,
        population=None if used is None else arrays(used.without(0).signals),
    )
    found = plain.score(
        of_target(inputs.target), population=None if used is None else of_target(used.signals.of_model(0))
    )
    np.testing.assert_array_equal(found, expected.values)
    assert plain.threshold_ == expected.threshold


def test_one_signal_needs_no_name_and_one_draw_no_axis(pool: Pool) -> None:
    shadows, _ = simulated(pool, Calibrated())
    values, membership = shadows.signals["reconstruction"], shadows.membership
    named = Calibrated().fit({"reconstruction": values[1:]}, membership[1:]).score({"reconstruction": values[0]})
    assert np.array_equal(Calibrated().fit(values[1:], membership[1:]).score(values[0]), named)
    means = values.mean(axis=2)
    flat = Calibrated().fit(means[1:], membership[1:]).score(means[0])
    assert np.array_equal(flat, Calibrated().fit(means[1:, :, None], membership[1:]).score(means[0, :, None]))
    np.testing.assert_allclose(flat, named, rtol=1e-4, atol=1e-6)


def test_lira_on_plain_losses_is_its_formula() -> None:
    generator = np.random.default_rng(0)
    losses, membership = generator.exponential(size=(6, 20)), np.arange(20) % 2 == np.arange(6)[:, None] % 2
    target = generator.exponential(size=20)
    phi = -np.log(losses)
    outside = [phi[~membership[:, image], image] for image in range(20)]
    expected = [(-np.log(target[i]) - out.mean()) / out.std(ddof=1) for i, out in enumerate(outside)]
    np.testing.assert_allclose(LiRA(pooled=False).fit(losses, membership).score(target), expected, rtol=1e-6)


def test_other_images_are_scored_with_their_references(pool: Pool) -> None:
    shadows, population = simulated(pool, RMIA())
    attack = RMIA().fit(arrays(shadows.signals), shadows.membership, population=arrays(population.signals))
    few = shadows.of_images(np.arange(40) < 7)
    target, on_population = few.signals["reconstruction"][3], population.signals["reconstruction"][3]
    found = attack.score(
        target, references=few.signals["reconstruction"], membership=few.membership, population=on_population
    )
    as_signals = (
        RMIA()
        .fit(shadows, population=population)
        .score(AttackInput(few.signals.of_model(3), few, AttackInput(population.signals.of_model(3), population)))
    )
    np.testing.assert_array_equal(found, as_signals.values)
    unseen = attack.score(target, references=few.signals["reconstruction"], population=on_population)
    assert not np.array_equal(unseen, found)  # by default no reference was trained on the images


LOSSES, MEMBERSHIP = np.arange(1.0, 13).reshape(3, 4), np.arange(12).reshape(3, 4) % 3 == 0
ODDS: Any = "odds"
NONE: Any = None
FITTED = Calibrated().fit(LOSSES, MEMBERSHIP)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: BASE().fit(LOSSES), "Plain arrays need the membership"),
        (lambda: BASE().fit(LOSSES, MEMBERSHIP[:, :3]), r"must be booleans of the shape \(3, 4\)"),
        (lambda: BASE().fit(LOSSES, MEMBERSHIP.astype(int) + 1), "must be booleans"),
        (lambda: BASE().fit(LOSSES, MEMBERSHIP.astype(float)), "must be booleans"),
        (lambda: BASE().fit(LOSSES[0], MEMBERSHIP), r"\(shadows, images\) or \(shadows, images, draws\)"),
        (lambda: BASE().fit(LOSSES * np.nan, MEMBERSHIP), "must be finite"),
        (lambda: BASE().fit(LOSSES[:1], MEMBERSHIP[:1]), "needs 2 shadow models and has 1"),
        (lambda: RMIA().fit(LOSSES, MEMBERSHIP), "attack 'RMIA' learns from known non-members"),
        (lambda: RMIA().fit(LOSSES, MEMBERSHIP, population=LOSSES[:2]), "losses of the same shadows"),
        (lambda: Ensemble().fit(LOSSES, MEMBERSHIP), "arrays for reconstruction, loss_neighbourhood"),
        (lambda: Predictability().fit({"reconstruction": LOSSES}, MEMBERSHIP), "no arrays for patch_predictability"),
        (lambda: FITTED.score(LOSSES[0, :3]), "losses of 3 images and the shadows of 4: .* pass the shadows' losses"),
        (lambda: FITTED.score(LOSSES.T), "has 3 numbers for each image and the shadows 1"),
        (lambda: Threshold().score(LOSSES[0]), "call fit first"),
        (lambda: Calibrated(scale=ODDS).fit(LOSSES, MEMBERSHIP), "'scale' of the attack 'Calibrated' cannot be 'odds'"),
        (
            lambda: RMIA(gamma=-1).fit(LOSSES, MEMBERSHIP),
            "'gamma' of the attack 'RMIA' cannot be -1: .* greater than 0",
        ),
        (lambda: LiRA(pooled=NONE).fit(LOSSES, MEMBERSHIP), "'pooled' of the attack 'LiRA' cannot be None"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(act: Callable[[], object], message: str) -> None:
    with pytest.raises(MimiaError, match=message):
        act()


def test_membership_may_be_zeros_and_ones() -> None:
    found = Calibrated().fit(LOSSES, MEMBERSHIP.astype(int)).score(LOSSES[0])
    np.testing.assert_array_equal(found, FITTED.score(LOSSES[0]))


def test_forms_are_not_mixed(pool: Pool) -> None:
    shadows, population = simulated(pool, RMIA())
    with pytest.raises(MimiaError, match="have the membership in them"):
        RMIA().fit(shadows, shadows.membership, population=population)
    with pytest.raises(MimiaError, match="pass both in the same form"):
        RMIA().fit(arrays(shadows.signals), shadows.membership, population=population)
    attack = Threshold().fit(shadows)
    with pytest.raises(MimiaError, match="call fit first"):
        attack.score(shadows.signals["reconstruction"][0])
