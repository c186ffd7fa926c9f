"""What every attack must do: whoever adds one to the registry has it tested here."""

import inspect
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import pytest

from mimia.arrays import Bools, Floats, Indices
from mimia.attacks.base import Attack, Needs
from mimia.attacks.registry import ATTACKS, make_attack
from mimia.errors import MimiaError
from mimia.signals.base import Shadows, Signals

JUDGED = 300  # members, and as many non-members
EACH_ATTACK = pytest.mark.parametrize("attack", [pytest.param(make_attack(name), id=name) for name in ATTACKS])


@dataclass(frozen=True)
class Bench:
    """Simulated signals: what shadows say of their pool, and what target and shadows say of the judged images."""

    pool: Shadows
    target: Signals
    references: Shadows
    members: Bools


def simulate(leak: float, seed: int = 0, shadows: int = 4) -> Bench:
    """Simulate distances: an image's difficulty, the noise of its masks and of the model, less what members leak."""
    generator = np.random.default_rng(seed)
    half = 200
    pool = 3 * half  # the last third is the holdout
    judged = 2 * JUDGED
    membership = np.zeros((1 + shadows, pool + judged), dtype=bool)
    for shadow in range(0, shadows, 2):
        order = generator.permutation(2 * half)
        for model, rows in ((1 + shadow, order[:half]), (2 + shadow, order[half:])):
            if model <= shadows:
                membership[model, rows] = True
    membership[0, pool + generator.permutation(judged)[:JUDGED]] = True
    difficulty = generator.normal(0, 0.2, (1, pool + judged, 1))
    masks = generator.normal(0, 0.1, (1, pool + judged, 8))
    models = generator.normal(0, 0.05, (1 + shadows, pool + judged, 1))
    values = np.exp(difficulty + masks + models - leak * membership[:, :, None]).astype(np.float32)
    values.setflags(write=False)
    ids = np.array([f"image {number}" for number in range(pool + judged)])
    names = tuple(f"model {number}" for number in range(1 + shadows))
    return Bench(
        pool=Shadows(Signals(values[1:, :pool], names[1:], ids[:pool], "masks"), membership[1:, :pool]),
        target=Signals(values[:1, pool:], names[:1], ids[pool:], "masks"),
        references=Shadows(Signals(values[1:, pool:], names[1:], ids[pool:], "masks"), membership[1:, pool:]),
        members=membership[0, pool:],
    )


def reordered(signals: Signals, order: Indices) -> Signals:
    return Signals(signals.values[:, order], signals.models, signals.images[order], signals.masks)


def area(scores: Floats, members: Bools) -> float:
    inside, outside = scores[members][:, None], scores[~members]
    return float((inside > outside).mean() + (inside == outside).mean() / 2)


@EACH_ATTACK
def test_planted_leak_is_found_with_the_right_sign(attack: Attack) -> None:
    bench = simulate(leak=1)
    scores = attack.fit(bench.pool).score(bench.target, bench.references)
    assert area(scores.values, bench.members) > 0.95
    called = scores.values >= scores.threshold
    assert called[bench.members].mean() > 0.9
    assert called[~bench.members].mean() < 0.1


@EACH_ATTACK
@pytest.mark.parametrize("seed", range(3))
def test_where_nothing_leaks_nothing_is_found(attack: Attack, seed: int) -> None:
    bench = simulate(leak=0, seed=seed)
    scores = attack.fit(bench.pool).score(bench.target, bench.references)
    deviation = math.sqrt((2 * JUDGED + 1) / (12 * JUDGED**2))  # of the Mann-Whitney statistic
    assert abs(area(scores.values, bench.members) - 0.5) < 4 * deviation


@EACH_ATTACK
def test_scores_are_finite_and_carry_the_ids_of_their_images(attack: Attack) -> None:
    bench = simulate(leak=0.3)
    scores = attack.fit(bench.pool).score(bench.target, bench.references)
    assert scores.values.shape == (2 * JUDGED,)
    assert np.isfinite(scores.values).all()
    assert math.isfinite(scores.threshold)
    assert scores.images.tolist() == bench.target.images.tolist()
    assert scores.attack == attack.name


@EACH_ATTACK
def test_order_of_images_and_of_shadows_does_not_matter(attack: Attack) -> None:
    bench = simulate(leak=0.3)
    expected = attack.fit(bench.pool).score(bench.target, bench.references)
    order = np.random.default_rng(1).permutation(2 * JUDGED)
    shadows = [2, 0, 3, 1]

    def shuffled(references: Shadows, images: Indices) -> Shadows:
        signals = references.signals
        names = tuple(signals.models[shadow] for shadow in shadows)
        values, membership = signals.values[shadows][:, images], references.membership[shadows][:, images]
        return Shadows(Signals(values, names, signals.images[images], signals.masks), membership)

    pool_order = np.random.default_rng(2).permutation(len(bench.pool.signals.images))
    attack.fit(shuffled(bench.pool, pool_order))
    found = attack.score(reordered(bench.target, order), shuffled(bench.references, order))
    np.testing.assert_allclose(found.values, expected.values[order], rtol=1e-6)
    assert found.threshold == pytest.approx(expected.threshold, rel=1e-6)


@EACH_ATTACK
def test_an_image_is_scored_alike_in_any_company(attack: Attack) -> None:
    bench = simulate(leak=0.3)
    attack.fit(bench.pool)
    everything = attack.score(bench.target, bench.references).values
    some = np.arange(2 * JUDGED) < 50
    alone = attack.score(bench.target.of_images(some), bench.references.of_images(some)).values
    np.testing.assert_allclose(alone, everything[some], rtol=1e-6)


@EACH_ATTACK
def test_fitting_again_changes_nothing(attack: Attack) -> None:
    bench = simulate(leak=0.3)
    first = attack.fit(bench.pool).score(bench.target, bench.references)
    attack.fit(simulate(leak=1, seed=1).pool)
    again = attack.fit(bench.pool).score(bench.target, bench.references)
    assert np.array_equal(first.values, again.values)
    assert first.threshold == again.threshold


@EACH_ATTACK
def test_image_that_every_reference_saw_is_judged_or_refused_but_never_skipped(attack: Attack) -> None:
    bench = simulate(leak=1)
    attack.fit(bench.pool)
    membership = bench.references.membership.copy()
    membership[:, 7] = True
    with suppress(MimiaError):
        scores = attack.score(bench.target, replace(bench.references, membership=membership))
        assert np.isfinite(scores.values).all()


@EACH_ATTACK
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda target: replace(target, images=target.images[::-1]), "same images and masks"),
        (lambda target: replace(target, masks="others"), "same images and masks"),
        (lambda target: replace(target, values=target.values[:, :, :4]), "same number of draws"),
        (lambda target: replace(target, values=np.full_like(target.values, np.nan)), "finite"),
        (lambda target: replace(target, values=np.full_like(target.values, np.inf)), "finite"),
        (lambda target: replace(target, values=target.values.repeat(2, axis=0), models=("a", "b")), "one target"),
    ],
)
def test_signals_that_do_not_belong_together_are_refused(
    attack: Attack, damage: Callable[[Signals], Signals], message: str
) -> None:
    bench = simulate(leak=1)
    attack.fit(bench.pool)
    with pytest.raises(ValueError, match=message):
        attack.score(damage(bench.target), bench.references)


@EACH_ATTACK
def test_reference_signals_that_are_not_finite_are_refused(attack: Attack) -> None:
    bench = simulate(leak=1)
    values = bench.references.signals.values.copy()
    values[0, 0, 0] = np.nan
    references = Shadows(replace(bench.references.signals, values=values), bench.references.membership)
    with pytest.raises(ValueError, match="finite"):
        attack.fit(bench.pool).score(bench.target, references)


@EACH_ATTACK
def test_too_few_shadows_are_refused(attack: Attack) -> None:
    shadows = simulate(leak=1).pool
    while len(shadows) >= attack.needs.shadows:
        shadows = shadows.without(0)
    message = rf"attack '{attack.name}' needs {attack.needs.shadows} shadow models and has {len(shadows)}"
    with pytest.raises(MimiaError, match=message):
        attack.fit(shadows)


@EACH_ATTACK
def test_fewest_shadows_that_it_needs_do(attack: Attack) -> None:
    bench = simulate(leak=1, shadows=attack.needs.shadows)
    scores = attack.fit(bench.pool).score(bench.target, bench.references)
    assert area(scores.values, bench.members) > 0.95


@EACH_ATTACK
def test_pool_without_members_teaches_nothing(attack: Attack) -> None:
    pool = simulate(leak=1).pool
    with pytest.raises(MimiaError, match="finds no images in the reference pool to learn from"):
        attack.fit(replace(pool, membership=np.zeros_like(pool.membership)))


@EACH_ATTACK
def test_membership_of_the_target_is_out_of_reach(attack: Attack) -> None:
    assert type(attack).score is Attack.score
    assert type(attack).fit is Attack.fit
    assert list(inspect.signature(attack.score).parameters) == ["target", "references"]
    assert list(inspect.signature(attack._score).parameters) == ["target", "references"]
    assert "membership" not in Signals.__dataclass_fields__


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_found_by_its_name_and_shows_its_hyper_parameters(name: str) -> None:
    attack = make_attack(name)
    assert attack.name == name
    parameters = inspect.signature(type(attack)).parameters
    shown = ", ".join(f"{key}={getattr(attack, key)!r}" for key in parameters)
    assert repr(attack) == f"{type(attack).__name__}({shown})"


def test_hyper_parameters_are_shown() -> None:
    class Power(Attack):
        name = "power"
        needs = Needs(access="decoder", shadows=1)

        def __init__(self, exponent: float, kind: str = "mean") -> None:
            self.exponent = exponent
            self.kind = kind

        def _score(self, target: Signals, references: Shadows) -> Floats:
            scores: Floats = target.values[0].mean(axis=-1) ** (self.exponent * len(references))
            return scores

    assert repr(Power(0.5)) == "Power(exponent=0.5, kind='mean')"


def test_unknown_attack_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(MimiaError, match=f"no attack 'guess': choose from {', '.join(ATTACKS)}"):
        make_attack("guess")
