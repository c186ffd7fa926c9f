"""The contract of an attack: all of it for one name of each class, the essentials for every further name."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, mannwhitneyu, norm

from mimia.attacks import BASE, RMIA, BaVarIA, Calibrated, Ensemble, LiRA
from mimia.attacks.base import Attack, Requirements, Scores
from mimia.attacks.registry import ATTACKS, make_attack
from mimia.runtime.arrays import Bools, Floats, Ids, Indices
from mimia.runtime.errors import MimiaError
from mimia.signals.arrays import AttackInput, ShadowSignals, Signals
from mimia.signals.registry import SIGNALS

SIZES = {
    "reconstruction": 8,
    "loss_neighbourhood": 14,
    "latents": 8,
    "gradients": 1,
    "partcrop": 32,
    "view_similarity": 8,
    "view_similarity_by_ratio": 6,
    "crop_similarity": 45,
}
WIDTH = 64  # of an embedding
FEATURES = 17  # of the statistics
CLUSTERS = 3  # of the embeddings

PERFECT = 5.0  # in logarithms of a distance: more than any noise
STRONG = 1.0
WEAK = 0.3
BLANK = 1e-3  # distance of a blank image, where others have 1

REPEATS = 200
NOMINAL = 0.05
RANGE = 0.999  # of what is still put down to chance
TARGETS = 10  # that are evaluated by what was learned on the same shadows

SLOW = {"quantile", "encodermi-v", "encodermi-s", "partcrop", "mixture"}
USE_REFERENCES = (BASE, RMIA, BaVarIA, Calibrated, Ensemble, LiRA)
FIRST_NAMES = [*{type(make_attack(name)): name for name in reversed(list(ATTACKS))}.values()]
EACH_CLASS = pytest.mark.parametrize("name", FIRST_NAMES)
FURTHER_NAMES = [name for name in ATTACKS if name not in FIRST_NAMES]
SEEN = pytest.mark.parametrize("seen", [True, False], ids=["that every reference saw", "that no reference saw"])


@dataclass(frozen=True)
class Sizes:
    """How many images are simulated.

    Attributes:
        half: Of the pool, which each shadow is trained on; the holdout is as large.
        side: Members that are evaluated; there are as many non-members.
        population: Known non-members.
    """

    half: int = 60
    side: int = 100
    population: int = 200


@dataclass(frozen=True)
class Simulation:
    """Simulated signals of shadows on their pool, and of target and references on the evaluated images."""

    pool: ShadowSignals
    pool_population: ShadowSignals | None
    inputs: AttackInput
    members: Bools


class World:
    """Signals of models on images, each of which has a difficulty.

    A distance is the image's difficulty and the noise of its masks, which all models share, and the noise of the model,
    less what members leak; members' embeddings lie as much nearer to the centre of their cluster. Image
    features and predictability depend on the difficulty and not on membership.
    """

    def __init__(self, membership: Bools, leak: Floats, noise: float, seed: int) -> None:
        self.seed = seed
        self.noise = noise
        self.less = (leak[:, None] * membership)[:, :, None]  # (models, images, 1)
        self.models, self.images = membership.shape
        self.difficulty = np.random.default_rng(seed).normal(0, 0.2, (1, self.images, 1))

    def signal(self, name: str) -> NDArray[np.float32]:
        """Return one signal, (models, images, numbers)."""
        generator = np.random.default_rng([self.seed, list(SIGNALS).index(name)])
        if name == "image_features":
            noise = generator.normal(size=(1, self.images, FEATURES - 1))
            values = np.concatenate([self.difficulty + generator.normal(0, 0.02, (1, self.images, 1)), noise], axis=2)
        elif name == "patch_predictability":
            values = np.exp(self.difficulty + generator.normal(0, 0.05, (1, self.images, 1)))
        elif name == "embeddings":
            centres = 5 * generator.normal(size=(CLUSTERS, WIDTH))
            own = generator.normal(size=(1, self.images, WIDTH)) * np.exp(-self.less)
            values = centres[generator.integers(0, CLUSTERS, self.images)] + own
            values = values + self.noise * generator.normal(size=(self.models, self.images, WIDTH))
        else:
            masks = generator.normal(0, 0.1, (1, self.images, SIZES[name]))
            models = self.noise * generator.normal(size=(self.models, self.images, 1))
            logs = self.difficulty + masks + models - self.less
            values = logs if name == "loss_neighbourhood" else np.exp(logs)
        if name == "partcrop":
            values = np.sort(values.reshape(*values.shape[:2], 2, -1), axis=-1).reshape(values.shape)
        values = np.broadcast_to(values, (self.models, *values.shape[1:])).astype(np.float32)
        values.setflags(write=False)  # they are shared between tests
        return values


def halves(generator: np.random.Generator, images: Indices, shadows: int, out: Bools) -> None:
    """Train each two shadows on complementary halves of the images, in the rows after the target's."""
    for shadow in range(0, shadows, 2):
        first, second = np.array_split(generator.permutation(images), 2)
        out[1 + shadow, first] = True
        if shadow + 1 < shadows:
            out[2 + shadow, second] = True


@cache
def simulate(
    requirements: Requirements,
    leak: float,
    seed: int = 0,
    shadows: int = 0,
    target_leak: float | None = None,
    noise: float = 0.05,
    sizes: Sizes = Sizes(),
) -> Simulation:
    """Simulate what an attack needs, and no more.

    Args:
        requirements: Signals, whether shadows are trained on halves of the evaluated images, and a population.
        leak: How much lower members' distances are, in logarithms.
        seed: Of everything.
        shadows: How many; one more than it needs, if left out.
        target_leak: Of the target, where it leaks another amount.
        noise: Of each model and image.
        sizes: How many images.
    """
    generator = np.random.default_rng([seed, 1])
    shadows = shadows or requirements.shadows + 1
    parts = (2 * sizes.half, sizes.half, 2 * sizes.side, sizes.population)  # pool, holdout, evaluated, population
    pool, holdout, evaluated, population = np.split(np.arange(sum(parts)), np.cumsum(parts)[:-1])
    membership = np.zeros((1 + shadows, sum(parts)), dtype=bool)
    halves(generator, pool, shadows, membership)
    if requirements.online:
        halves(generator, evaluated, shadows, membership)
    membership[0, generator.permutation(evaluated)[: sizes.side]] = True
    leaks = np.full(1 + shadows, leak)
    leaks[0] = leak if target_leak is None else target_leak
    world = World(membership, leaks, noise, seed)
    ids = np.array([f"image {number}" for number in generator.permutation(sum(parts))])
    names = tuple(f"model {number}" for number in range(1 + shadows))
    everything = Signals({name: world.signal(name) for name in requirements.signals}, names, ids, "masks")

    def part(rows: Indices) -> tuple[Signals, ShadowSignals]:
        chosen = np.isin(np.arange(sum(parts)), rows)
        signals = everything.of_images(chosen)
        return signals.of_model(0), ShadowSignals(signals.without_model(0), membership[1:, chosen])

    target_population, population_shadows = part(population)
    return Simulation(
        pool=part(np.concatenate([pool, holdout]))[1],
        pool_population=population_shadows if requirements.population else None,
        inputs=AttackInput(
            *part(evaluated), AttackInput(target_population, population_shadows) if requirements.population else None
        ),
        members=membership[0, evaluated],
    )


def quick(name: str) -> Attack:
    """Make an attack that learns for a shorter time than by default, where one trains a network or trees."""
    attack = make_attack(name)
    for parameter, value in {"epochs": 3, "trees": 12}.items():
        if hasattr(attack, parameter):
            setattr(attack, parameter, value)
    return attack


@cache
def fitted(name: str, leak: float, seed: int = 0) -> Attack:
    """Fit an attack on simulated shadows; for tests that do not fit it again."""
    sim = simulate(make_attack(name).requirements, leak, seed)
    return quick(name).fit(sim.pool, population=sim.pool_population)


def scores_of(name: str, sim: Simulation) -> Scores:
    return quick(name).fit(sim.pool, population=sim.pool_population).score(sim.inputs)


def auc(scores: Floats, members: Bools) -> float:
    inside, outside = scores[members][:, None], scores[~members]
    return float((inside > outside).mean() + (inside == outside).mean() / 2)


def auc_deviation(side: int) -> float:
    """Standard deviation of the Mann-Whitney statistic where nothing leaks."""
    return math.sqrt((2 * side + 1) / (12 * side**2))


def reordered(signals: Signals, models: Indices, images: Indices) -> Signals:
    values = {name: values[models][:, images] for name, values in signals.values.items()}
    return Signals(values, tuple(signals.models[model] for model in models), signals.images[images], signals.query_id)


def shuffled(shadows: ShadowSignals, models: Indices, images: Indices) -> ShadowSignals:
    return ShadowSignals(reordered(shadows.signals, models, images), shadows.membership[models][:, images])


def shuffled_inputs(inputs: AttackInput, models: Indices, generator: np.random.Generator) -> AttackInput:
    """Shuffle images, shadows, and the known non-members among themselves."""
    images = generator.permutation(len(inputs.target.images))
    population = inputs.population
    return AttackInput(
        reordered(inputs.target, np.array([0]), images),
        shuffled(inputs.references, models, images),
        None if population is None else shuffled_inputs(population, models, generator),
    )


def changed(shadows: ShadowSignals, change: Callable[[str, NDArray[np.float32]], NDArray[np.float32]]) -> ShadowSignals:
    values = {name: change(name, values) for name, values in shadows.signals.values.items()}
    return replace(shadows, signals=replace(shadows.signals, values=values))


def changed_simulation(
    sim: Simulation, change: Callable[[str, NDArray[np.float32]], NDArray[np.float32]]
) -> Simulation:
    """Change the numbers of all models for all images alike."""

    def of_signals(signals: Signals) -> Signals:
        return replace(signals, values={name: change(name, values) for name, values in signals.values.items()})

    def of_inputs(inputs: AttackInput) -> AttackInput:
        population = None if inputs.population is None else of_inputs(inputs.population)
        return AttackInput(of_signals(inputs.target), changed(inputs.references, change), population)

    pool_population = None if sim.pool_population is None else changed(sim.pool_population, change)
    return replace(sim, pool=changed(sim.pool, change), pool_population=pool_population, inputs=of_inputs(sim.inputs))


@EACH_CLASS
def test_perfect_leak_is_found_perfectly(name: str) -> None:
    # Models differ in nothing else, so that a variance over two references cannot be small by chance.
    sim = simulate(make_attack(name).requirements, PERFECT, noise=0)
    assert auc(scores_of(name, sim).values, sim.members) == 1


@pytest.mark.parametrize("name", ATTACKS)
def test_planted_leak_is_found_with_the_right_sign_and_scores_carry_their_ids(name: str) -> None:
    sim = simulate(make_attack(name).requirements, STRONG)
    scores = fitted(name, STRONG).score(sim.inputs)
    assert auc(scores.values, sim.members) > 0.95
    called = scores.values >= scores.threshold
    assert called[sim.members].mean() > 0.9
    assert called[~sim.members].mean() < 0.1
    assert scores.images.tolist() == sim.inputs.target.images.tolist()
    assert scores.attack == name


@pytest.mark.parametrize("name", ATTACKS)
def test_where_nothing_leaks_nothing_is_found(name: str) -> None:
    sim = simulate(make_attack(name).requirements, leak=0)
    found = auc(scores_of(name, sim).values, sim.members)
    assert abs(found - 0.5) < norm.isf((1 - RANGE) / 2) * auc_deviation(Sizes().side)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
        for name in [*FIRST_NAMES, "encodermi-s", "lira-online", "rmia-online", "bavaria-online"]
    ],
)
def test_false_positives_come_at_the_nominal_rate(name: str) -> None:
    sizes, attack = Sizes(half=20, side=40, population=40), quick(name)
    aucs, alarms = [], 0
    for repeat in range(REPEATS):
        # The target never leaks, and the shadows of every other pool do.
        shadows_leak = STRONG * (repeat // TARGETS % 2)
        sim = simulate.__wrapped__(attack.requirements, shadows_leak, seed=repeat, target_leak=0, sizes=sizes)
        if repeat % TARGETS == 0:
            attack.fit(sim.pool, population=sim.pool_population)
        scores = attack.score(sim.inputs).values
        inside, outside = scores[sim.members], scores[~sim.members]
        aucs.append(auc(scores, sim.members))
        alarms += bool(mannwhitneyu(inside, outside, method="asymptotic").pvalue < NOMINAL)
    fewest, most = binom.interval(RANGE, REPEATS, NOMINAL)
    assert fewest <= alarms <= most
    limit = norm.isf((1 - RANGE) / 2) * auc_deviation(sizes.side) / math.sqrt(REPEATS)
    assert abs(np.mean(aucs) - 0.5) < limit


@EACH_CLASS
def test_order_of_images_and_of_shadows_does_not_matter(name: str) -> None:
    sim = simulate(make_attack(name).requirements, STRONG)
    expected = fitted(name, STRONG).score(sim.inputs)
    generator = np.random.default_rng(1)
    models = generator.permutation(len(sim.pool))
    pool = shuffled(sim.pool, models, generator.permutation(len(sim.pool.signals.images)))
    population = sim.pool_population
    if population is not None:
        order = generator.permutation(len(population.signals.images))
        population = shuffled(population, generator.permutation(len(population)), order)
    found = quick(name).fit(pool, population=population).score(shuffled_inputs(sim.inputs, models, generator))
    order = np.array([found.images.tolist().index(image) for image in expected.images])
    np.testing.assert_allclose(found.values[order], expected.values, rtol=1e-6, atol=1e-6)
    assert found.threshold == pytest.approx(expected.threshold, rel=1e-6, abs=1e-6)


@EACH_CLASS
def test_scores_do_not_depend_on_the_other_images(name: str) -> None:
    sim = simulate(make_attack(name).requirements, STRONG)
    attack = fitted(name, STRONG)
    everything = attack.score(sim.inputs).values
    for count in (1, 50):
        some = np.arange(len(everything)) < count
        alone = attack.score(sim.inputs.of_images(some)).values
        np.testing.assert_allclose(alone, everything[some], rtol=1e-5, atol=1e-6)


@EACH_CLASS
def test_fitting_again_changes_nothing(name: str) -> None:
    requirements = make_attack(name).requirements
    sim, other = simulate(requirements, STRONG), simulate(requirements, WEAK, seed=1)
    first = fitted(name, STRONG).score(sim.inputs)
    attack = quick(name).fit(other.pool, population=other.pool_population)
    attack.score(other.inputs)
    again = attack.fit(sim.pool, population=sim.pool_population).score(sim.inputs)
    assert np.array_equal(first.values, again.values)
    assert first.threshold == again.threshold


@pytest.mark.parametrize("name", [*FIRST_NAMES, "lira-online", "rmia-online", "bavaria-online"])
@SEEN
def test_image_is_refused_exactly_if_the_attack_needs_references_that_it_lacks(name: str, seen: bool) -> None:
    sim = simulate(make_attack(name).requirements, STRONG)
    attack = fitted(name, STRONG)
    membership = sim.inputs.references.membership.copy()
    membership[:, 7] = seen
    together = replace(sim.inputs, references=replace(sim.inputs.references, membership=membership))
    refused = isinstance(attack, USE_REFERENCES) if seen else attack.requirements.online
    for inputs in (together, together.of_images(np.arange(len(sim.members)) == 7)):
        if refused:
            with pytest.raises(
                MimiaError, match=f"{name}' cannot score 1 images that too many shadows were trained on"
            ):
                attack.score(inputs)
        else:
            assert np.isfinite(attack.score(inputs).values).all()


@EACH_CLASS
def test_numbers_of_any_size_give_finite_scores(name: str) -> None:
    sim = simulate(make_attack(name).requirements, STRONG)
    for factor in (1e-6, 1e4):

        def scaled(name: str, values: NDArray[np.float32], factor: float = factor) -> NDArray[np.float32]:
            logs = name == "loss_neighbourhood"
            return (values + math.log(factor) if logs else values * factor).astype(np.float32)

        large = changed_simulation(sim, scaled)
        scores = scores_of(name, large)
        assert np.isfinite(scores.values).all()
        assert auc(scores.values, large.members) > 0.8


@EACH_CLASS
def test_where_all_numbers_are_the_same_all_images_are(name: str) -> None:
    sim = simulate(make_attack(name).requirements, STRONG)
    scores = scores_of(name, changed_simulation(sim, lambda _, values: np.full_like(values, 0.3)))
    assert np.isfinite(scores.values).all()
    np.testing.assert_allclose(scores.values, scores.values[0], rtol=1e-6, atol=1e-6)


@EACH_CLASS
def test_blank_images_among_others_do_no_harm(name: str) -> None:
    sim = simulate(make_attack(name).requirements, STRONG)

    def with_blanks(name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        values = values.copy()
        # Crops of a blank image are embedded alike; a reconstruction always has some error.
        faint = {"loss_neighbourhood": math.log(BLANK), "reconstruction": BLANK, "gradients": BLANK}
        values[:, ::50] = faint.get(name, 0)
        return values

    scores = scores_of(name, changed_simulation(sim, with_blanks))
    others = np.arange(len(sim.members)) % 50 != 0
    assert np.isfinite(scores.values).all()
    assert auc(scores.values[others], sim.members[others]) > 0.93


@pytest.mark.parametrize("name", ATTACKS)
def test_too_few_shadows_are_refused(name: str) -> None:
    attack = make_attack(name)
    sim = simulate(attack.requirements, STRONG)
    shadows, population = sim.pool, sim.pool_population
    while len(shadows) >= attack.requirements.shadows:
        shadows, population = shadows.without(0), None if population is None else population.without(0)
    message = rf"attack '{name}' needs {attack.requirements.shadows} shadow models and has {len(shadows)}"
    with pytest.raises(MimiaError, match=message):
        attack.fit(shadows, population=population)


@pytest.mark.parametrize("name", [*FIRST_NAMES, "lira-pooled", "lira-online", "lira-online-pooled"])
def test_fewest_shadows_that_it_needs_suffice(name: str) -> None:
    requirements = make_attack(name).requirements
    sim = simulate(requirements, PERFECT, shadows=requirements.shadows, noise=0.001)
    assert auc(scores_of(name, sim).values, sim.members) > 0.95


@EACH_CLASS
def test_pool_without_members_or_without_others_is_refused(name: str) -> None:
    sim = simulate(make_attack(name).requirements, STRONG)
    for membership in (np.zeros_like(sim.pool.membership), np.ones_like(sim.pool.membership)):
        with pytest.raises(MimiaError, match="finds no members or no non-members in the reference pool"):
            quick(name).fit(replace(sim.pool, membership=membership), population=sim.pool_population)


@EACH_CLASS
def test_pool_without_holdout_suffices_for_attacks_on_two_shadows_without_references_alone(name: str) -> None:
    requirements = make_attack(name).requirements
    sim = simulate(requirements, STRONG, shadows=requirements.shadows)
    sim = replace(sim, pool=sim.pool.of_images(sim.pool.membership.sum(axis=0) > 0))
    if isinstance(make_attack(name), USE_REFERENCES) or requirements.shadows == 1:
        with pytest.raises(MimiaError, match="finds no members or no non-members in the reference pool"):
            scores_of(name, sim)
    else:
        assert auc(scores_of(name, sim).values, sim.members) > 0.9


@EACH_CLASS
@pytest.mark.parametrize("saw", [True, False], ids=["saw everything", "saw nothing"])
def test_shadow_that_saw_everything_or_nothing_does_no_harm(name: str, saw: bool) -> None:
    sim = simulate(make_attack(name).requirements, STRONG)
    membership = sim.pool.membership.copy()
    membership[0] = saw
    scores = scores_of(name, replace(sim, pool=replace(sim.pool, membership=membership)))
    assert np.isfinite(scores.values).all()
    assert auc(scores.values, sim.members) > 0.9


@EACH_CLASS
def test_missing_population_is_refused_exactly_if_the_attack_needs_one(name: str) -> None:
    attack = quick(name)
    sim = simulate(attack.requirements, STRONG)
    if attack.requirements.population:
        with pytest.raises(MimiaError, match=rf"attack '{name}' learns from .*: set split\.n_population"):
            attack.fit(sim.pool)
        with pytest.raises(MimiaError, match=r"learns from known non-members: set split\.n_population"):
            fitted(name, STRONG).score(replace(sim.inputs, population=None))
    else:
        assert sim.pool_population is None  # so that all other tests show that it does without


@pytest.mark.parametrize("name", [name for name in FIRST_NAMES if make_attack(name).requirements.population])
def test_population_of_three_images_suffices_or_is_refused(name: str) -> None:
    sim = simulate(make_attack(name).requirements, STRONG, sizes=Sizes(population=3))
    if name == "quantile":  # it cross-validates
        with pytest.raises(MimiaError, match=r"raise split\.n_population"):
            scores_of(name, sim)
    else:
        assert np.isfinite(scores_of(name, sim).values).all()


def test_membership_of_the_target_is_out_of_reach() -> None:
    for name in FIRST_NAMES:
        attack = make_attack(name)
        assert type(attack).score is Attack.score
        assert type(attack).fit is Attack.fit
        assert list(inspect.signature(attack._score).parameters) == ["inputs"]
    assert {field.name for field in fields(AttackInput)} == {"target", "references", "population"}
    assert {field.name for field in fields(Signals)} == {"values", "models", "images", "query_id"}


def with_values(signals: Signals, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Signals:
    return replace(signals, values={name: change(values) for name, values in signals.values.items()})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda signals: replace(signals, images=signals.images[::-1]), "same images and queries"),
        (lambda signals: replace(signals, query_id="others"), "same images and queries"),
        (lambda signals: with_values(signals, lambda values: values[:, :, :4]), "same number of draws"),
        (lambda signals: with_values(signals, lambda values: np.full_like(values, np.nan)), "finite"),
        (lambda signals: with_values(signals, lambda values: np.full_like(values, np.inf)), "finite"),
    ],
    ids=["other images", "other queries", "fewer draws", "not a number", "infinite"],
)
def test_signals_that_do_not_belong_together_are_refused(damage: Callable[[Signals], Signals], message: str) -> None:
    inputs = simulate(make_attack("calibrated").requirements, STRONG).inputs
    with pytest.raises(ValueError, match=message):
        replace(inputs, target=damage(inputs.target))
    with pytest.raises(ValueError, match=message):
        replace(inputs, references=replace(inputs.references, signals=damage(inputs.references.signals)))


def test_one_target_is_scored_at_a_time() -> None:
    inputs = simulate(make_attack("calibrated").requirements, STRONG).inputs
    with pytest.raises(ValueError, match="one target"):
        replace(inputs, target=inputs.references.signals)


def test_membership_and_values_must_be_of_the_models_and_images() -> None:
    references = simulate(make_attack("calibrated").requirements, STRONG).inputs.references
    ids: Ids = references.signals.images
    with pytest.raises(ValueError, match="models"):
        replace(references, membership=references.membership[:, 1:])
    with pytest.raises(ValueError, match="models"):
        replace(references.signals, images=ids[1:])
