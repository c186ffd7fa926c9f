"""What every attack must do: whoever adds one to the registry has it tested here."""

import inspect
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, mannwhitneyu, norm

from mimia.arrays import Bools, Floats, Ids, Indices
from mimia.attacks.base import Attack, Needs, Scores
from mimia.attacks.registry import ATTACKS, make_attack
from mimia.errors import MimiaError
from mimia.signals.base import Evidence, Shadows, Signals
from mimia.signals.registry import KINDS

SIZES = {
    "distances": 8,
    "surroundings": 14,
    "latents": 8,
    "gradients": 1,
    "parts": 256,
    "similarities": 8,
    "ratios": 6,
    "views": 45,
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
TARGETS = 10  # that are judged by what was learned on the same shadows

SLOW = {"quantile", "encodermi-v", "encodermi-s", "partcrop", "mixture"}
EACH_ATTACK = pytest.mark.parametrize("name", ATTACKS)


@dataclass(frozen=True)
class Sizes:
    """How many images are simulated.

    Attributes:
        half: Of the pool, which each shadow is trained on; the holdout is as large.
        side: Members that are judged; there are as many non-members.
        known: Known non-members.
    """

    half: int = 60
    side: int = 100
    known: int = 200


@dataclass(frozen=True)
class Bench:
    """Simulated signals: what shadows say of their pool, and what is known of the judged images."""

    pool: Shadows
    pool_known: Shadows | None
    evidence: Evidence
    members: Bools


class World:
    """What models would say of images, each of which has a difficulty.

    A distance is the image's difficulty and the noise of its masks, which all models share, and the noise of the model,
    less what members leak; members' embeddings lie as much nearer to the centre of their cluster. Statistics and
    predictability tell the difficulty and no membership.
    """

    def __init__(self, membership: Bools, leak: Floats, noise: float, seed: int) -> None:
        self.seed = seed
        self.noise = noise
        self.less = (leak[:, None] * membership)[:, :, None]  # (models, images, 1)
        self.models, self.images = membership.shape
        self.difficulty = np.random.default_rng(seed).normal(0, 0.2, (1, self.images, 1))

    def say(self, kind: str) -> NDArray[np.float32]:
        """Give one kind of signals, (models, images, numbers)."""
        generator = np.random.default_rng([self.seed, list(KINDS).index(kind)])
        if kind == "statistics":
            noise = generator.normal(size=(1, self.images, FEATURES - 1))
            values = np.concatenate([self.difficulty + generator.normal(0, 0.02, (1, self.images, 1)), noise], axis=2)
        elif kind == "predictability":
            values = np.exp(self.difficulty + generator.normal(0, 0.05, (1, self.images, 1)))
        elif kind == "embeddings":
            centres = 5 * generator.normal(size=(CLUSTERS, WIDTH))
            own = generator.normal(size=(1, self.images, WIDTH)) * np.exp(-self.less)
            values = centres[generator.integers(0, CLUSTERS, self.images)] + own
            values = values + self.noise * generator.normal(size=(self.models, self.images, WIDTH))
        else:
            masks = generator.normal(0, 0.1, (1, self.images, SIZES[kind]))
            models = self.noise * generator.normal(size=(self.models, self.images, 1))
            logs = self.difficulty + masks + models - self.less
            values = logs if kind == "surroundings" else np.exp(logs)
        if kind == "parts":
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
    needs: Needs,
    leak: float,
    seed: int = 0,
    shadows: int = 0,
    target_leak: float | None = None,
    noise: float = 0.05,
    sizes: Sizes = Sizes(),
) -> Bench:
    """Simulate what an attack needs, and no more.

    Args:
        needs: Kinds of signals, whether shadows are trained on halves of the judged images, and known non-members.
        leak: How much lower members' distances are, in logarithms.
        seed: Of everything.
        shadows: How many; two more than it needs, if left out.
        target_leak: Of the target, where it leaks another amount.
        noise: Of each model and image.
        sizes: How many images.
    """
    generator = np.random.default_rng([seed, 1])
    shadows = shadows or needs.shadows + 2
    parts = (2 * sizes.half, sizes.half, 2 * sizes.side, sizes.known)  # pool, holdout, judged, known
    pool, holdout, judged, known = np.split(np.arange(sum(parts)), np.cumsum(parts)[:-1])
    membership = np.zeros((1 + shadows, sum(parts)), dtype=bool)
    halves(generator, pool, shadows, membership)
    if needs.online:
        halves(generator, judged, shadows, membership)
    membership[0, generator.permutation(judged)[: sizes.side]] = True
    leaks = np.full(1 + shadows, leak)
    leaks[0] = leak if target_leak is None else target_leak
    world = World(membership, leaks, noise, seed)
    ids = np.array([f"image {number}" for number in generator.permutation(sum(parts))])
    names = tuple(f"model {number}" for number in range(1 + shadows))
    everything = Signals({kind: world.say(kind) for kind in needs.signals}, names, ids, "masks")

    def part(rows: Indices) -> tuple[Signals, Shadows]:
        chosen = np.isin(np.arange(sum(parts)), rows)
        signals = everything.of_images(chosen)
        return signals.of_model(0), Shadows(signals.without_model(0), membership[1:, chosen])

    target_known, known_shadows = part(known)
    return Bench(
        pool=part(np.concatenate([pool, holdout]))[1],
        pool_known=known_shadows if needs.known else None,
        evidence=Evidence(*part(judged), Evidence(target_known, known_shadows) if needs.known else None),
        members=membership[0, judged],
    )


def quick(name: str) -> Attack:
    """Make an attack that learns for a shorter time than by default, where one trains a network or trees."""
    attack = make_attack(name)
    for parameter, value in {"epochs": 4, "trees": 20}.items():
        if hasattr(attack, parameter):
            setattr(attack, parameter, value)
    return attack


@cache
def fitted(name: str, leak: float, seed: int = 0) -> Attack:
    """Fit an attack on simulated shadows; for tests that do not fit it again."""
    bench = simulate(make_attack(name).needs, leak, seed)
    return quick(name).fit(bench.pool, bench.pool_known)


def judge(name: str, bench: Bench) -> Scores:
    return quick(name).fit(bench.pool, bench.pool_known).score(bench.evidence)


def area(scores: Floats, members: Bools) -> float:
    inside, outside = scores[members][:, None], scores[~members]
    return float((inside > outside).mean() + (inside == outside).mean() / 2)


def area_deviation(side: int) -> float:
    """Standard deviation of the Mann-Whitney statistic where nothing leaks."""
    return math.sqrt((2 * side + 1) / (12 * side**2))


def reordered(signals: Signals, models: Indices, images: Indices) -> Signals:
    values = {kind: values[models][:, images] for kind, values in signals.values.items()}
    return Signals(values, tuple(signals.models[model] for model in models), signals.images[images], signals.masks)


def shuffled(shadows: Shadows, models: Indices, images: Indices) -> Shadows:
    return Shadows(reordered(shadows.signals, models, images), shadows.membership[models][:, images])


def shuffled_evidence(evidence: Evidence, models: Indices, generator: np.random.Generator) -> Evidence:
    """Shuffle images, shadows, and the known non-members among themselves."""
    images = generator.permutation(len(evidence.target.images))
    known = evidence.known
    return Evidence(
        reordered(evidence.target, np.array([0]), images),
        shuffled(evidence.references, models, images),
        None if known is None else shuffled_evidence(known, models, generator),
    )


def changed(shadows: Shadows, change: Callable[[str, NDArray[np.float32]], NDArray[np.float32]]) -> Shadows:
    values = {kind: change(kind, values) for kind, values in shadows.signals.values.items()}
    return replace(shadows, signals=replace(shadows.signals, values=values))


def changed_bench(bench: Bench, change: Callable[[str, NDArray[np.float32]], NDArray[np.float32]]) -> Bench:
    """Change the numbers of all models for all images alike."""

    def of_signals(signals: Signals) -> Signals:
        return replace(signals, values={kind: change(kind, values) for kind, values in signals.values.items()})

    def of_evidence(evidence: Evidence) -> Evidence:
        known = None if evidence.known is None else of_evidence(evidence.known)
        return Evidence(of_signals(evidence.target), changed(evidence.references, change), known)

    pool_known = None if bench.pool_known is None else changed(bench.pool_known, change)
    return replace(bench, pool=changed(bench.pool, change), pool_known=pool_known, evidence=of_evidence(bench.evidence))


@EACH_ATTACK
def test_perfect_leak_is_found_perfectly(name: str) -> None:
    # Models differ in nothing else, so that a variance over two references cannot be small by chance.
    bench = simulate(make_attack(name).needs, PERFECT, noise=0)
    assert area(judge(name, bench).values, bench.members) == 1


@EACH_ATTACK
def test_planted_leak_is_found_with_the_right_sign(name: str) -> None:
    bench = simulate(make_attack(name).needs, STRONG)
    scores = fitted(name, STRONG).score(bench.evidence)
    assert area(scores.values, bench.members) > 0.95
    called = scores.values >= scores.threshold
    assert called[bench.members].mean() > 0.9
    assert called[~bench.members].mean() < 0.1


@EACH_ATTACK
@pytest.mark.parametrize("seed", range(3))
def test_where_nothing_leaks_nothing_is_found(name: str, seed: int) -> None:
    bench = simulate(make_attack(name).needs, leak=0, seed=seed)
    found = area(judge(name, bench).values, bench.members)
    assert abs(found - 0.5) < norm.isf((1 - RANGE) / 2) * area_deviation(Sizes().side)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in ATTACKS]
)
def test_false_alarms_come_at_the_nominal_rate(name: str) -> None:
    sizes, attack = Sizes(half=20, side=40, known=40), quick(name)
    areas, alarms = [], 0
    for repeat in range(REPEATS):
        # The target never leaks, and the shadows of every other pool do.
        shadows_leak = STRONG * (repeat // TARGETS % 2)
        bench = simulate.__wrapped__(attack.needs, shadows_leak, seed=repeat, target_leak=0, sizes=sizes)
        if repeat % TARGETS == 0:
            attack.fit(bench.pool, bench.pool_known)
        scores = attack.score(bench.evidence).values
        inside, outside = scores[bench.members], scores[~bench.members]
        areas.append(area(scores, bench.members))
        alarms += bool(mannwhitneyu(inside, outside, method="asymptotic").pvalue < NOMINAL)
    fewest, most = binom.interval(RANGE, REPEATS, NOMINAL)
    assert fewest <= alarms <= most
    limit = norm.isf((1 - RANGE) / 2) * area_deviation(sizes.side) / math.sqrt(REPEATS)
    assert abs(np.mean(areas) - 0.5) < limit


@EACH_ATTACK
def test_scores_are_finite_and_carry_the_ids_of_their_images(name: str) -> None:
    bench = simulate(make_attack(name).needs, STRONG)
    scores = fitted(name, STRONG).score(bench.evidence)
    assert scores.values.shape == bench.members.shape
    assert np.isfinite(scores.values).all()
    assert math.isfinite(scores.threshold)
    assert scores.images.tolist() == bench.evidence.target.images.tolist()
    assert scores.attack == name


@EACH_ATTACK
def test_order_of_images_and_of_shadows_does_not_matter(name: str) -> None:
    bench = simulate(make_attack(name).needs, STRONG)
    expected = fitted(name, STRONG).score(bench.evidence)
    generator = np.random.default_rng(1)
    models = generator.permutation(len(bench.pool))
    pool = shuffled(bench.pool, models, generator.permutation(len(bench.pool.signals.images)))
    pool_known = bench.pool_known
    if pool_known is not None:
        order = generator.permutation(len(pool_known.signals.images))
        pool_known = shuffled(pool_known, generator.permutation(len(pool_known)), order)
    found = quick(name).fit(pool, pool_known).score(shuffled_evidence(bench.evidence, models, generator))
    order = np.array([found.images.tolist().index(image) for image in expected.images])
    np.testing.assert_allclose(found.values[order], expected.values, rtol=1e-6, atol=1e-6)
    assert found.threshold == pytest.approx(expected.threshold, rel=1e-6, abs=1e-6)


@EACH_ATTACK
@pytest.mark.parametrize("company", [1, 50])
def test_an_image_is_scored_alike_in_any_company(name: str, company: int) -> None:
    bench = simulate(make_attack(name).needs, STRONG)
    attack = fitted(name, STRONG)
    everything = attack.score(bench.evidence).values
    some = np.arange(len(everything)) < company
    alone = attack.score(bench.evidence.of_images(some)).values
    np.testing.assert_allclose(alone, everything[some], rtol=1e-5, atol=1e-6)


@EACH_ATTACK
def test_fitting_again_changes_nothing(name: str) -> None:
    needs = make_attack(name).needs
    bench, other = simulate(needs, STRONG), simulate(needs, WEAK, seed=1)
    first = fitted(name, STRONG).score(bench.evidence)
    attack = quick(name).fit(other.pool, other.pool_known)
    attack.score(other.evidence)
    again = attack.fit(bench.pool, bench.pool_known).score(bench.evidence)
    assert np.array_equal(first.values, again.values)
    assert first.threshold == again.threshold


@EACH_ATTACK
@pytest.mark.parametrize("seen", [True, False], ids=["that every reference saw", "that no reference saw"])
def test_image_is_judged_or_refused_but_never_skipped(name: str, seen: bool) -> None:
    bench = simulate(make_attack(name).needs, STRONG)
    membership = bench.evidence.references.membership.copy()
    membership[:, 7] = seen
    evidence = replace(bench.evidence, references=replace(bench.evidence.references, membership=membership))
    with suppress(MimiaError):
        scores = fitted(name, STRONG).score(evidence)
        assert np.isfinite(scores.values).all()


@EACH_ATTACK
@pytest.mark.parametrize("seen", [True, False], ids=["that every reference saw", "that no reference saw"])
def test_image_is_refused_or_judged_in_any_company(name: str, seen: bool) -> None:
    bench = simulate(make_attack(name).needs, STRONG)
    alone = bench.evidence.of_images(np.arange(len(bench.members)) == 7)
    membership = bench.evidence.references.membership.copy()
    membership[:, 7] = seen
    together = replace(bench.evidence, references=replace(bench.evidence.references, membership=membership))
    references = replace(alone.references, membership=np.full_like(alone.references.membership, seen))
    attack = fitted(name, STRONG)

    def is_refused(evidence: Evidence) -> bool:
        try:
            attack.score(evidence)
        except MimiaError:
            return True
        return False

    assert is_refused(replace(alone, references=references)) == is_refused(together)


@EACH_ATTACK
def test_numbers_of_any_size_give_finite_scores(name: str) -> None:
    bench = simulate(make_attack(name).needs, STRONG)
    for factor in (1e-6, 1e4):

        def scaled(kind: str, values: NDArray[np.float32], factor: float = factor) -> NDArray[np.float32]:
            logs = kind == "surroundings"
            return (values + math.log(factor) if logs else values * factor).astype(np.float32)

        large = changed_bench(bench, scaled)
        scores = judge(name, large)
        assert np.isfinite(scores.values).all()
        assert area(scores.values, large.members) > 0.8


@EACH_ATTACK
def test_where_all_numbers_are_the_same_all_images_are(name: str) -> None:
    bench = simulate(make_attack(name).needs, STRONG)
    scores = judge(name, changed_bench(bench, lambda _, values: np.full_like(values, 0.3)))
    assert np.isfinite(scores.values).all()
    np.testing.assert_allclose(scores.values, scores.values[0], rtol=1e-6, atol=1e-6)


@EACH_ATTACK
def test_blank_images_among_others_do_no_harm(name: str) -> None:
    bench = simulate(make_attack(name).needs, STRONG)

    def with_blanks(kind: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        values = values.copy()
        # Views of a blank image are embedded alike; a reconstruction always has some error.
        faint = {"surroundings": math.log(BLANK), "distances": BLANK, "gradients": BLANK}
        values[:, ::50] = faint.get(kind, 0)
        return values

    scores = judge(name, changed_bench(bench, with_blanks))
    others = np.arange(len(bench.members)) % 50 != 0
    assert np.isfinite(scores.values).all()
    assert area(scores.values[others], bench.members[others]) > 0.93


@EACH_ATTACK
def test_too_few_shadows_are_refused(name: str) -> None:
    attack = make_attack(name)
    bench = simulate(attack.needs, STRONG)
    shadows, known = bench.pool, bench.pool_known
    while len(shadows) >= attack.needs.shadows:
        shadows, known = shadows.without(0), None if known is None else known.without(0)
    message = rf"attack '{name}' needs {attack.needs.shadows} shadow models and has {len(shadows)}"
    with pytest.raises(MimiaError, match=message):
        attack.fit(shadows, known)


@EACH_ATTACK
def test_fewest_shadows_that_it_needs_do(name: str) -> None:
    needs = make_attack(name).needs
    bench = simulate(needs, PERFECT, shadows=needs.shadows, noise=0.001)
    assert area(judge(name, bench).values, bench.members) > 0.95


@EACH_ATTACK
def test_pool_without_members_or_without_others_teaches_nothing(name: str) -> None:
    bench = simulate(make_attack(name).needs, STRONG)
    for membership in (np.zeros_like(bench.pool.membership), np.ones_like(bench.pool.membership)):
        with pytest.raises(MimiaError, match="finds no images in the reference pool to learn from"):
            quick(name).fit(replace(bench.pool, membership=membership), bench.pool_known)


@EACH_ATTACK
def test_pool_without_holdout_teaches_or_is_refused(name: str) -> None:
    needs = make_attack(name).needs
    bench = simulate(needs, STRONG, shadows=needs.shadows)
    seen = bench.pool.membership.sum(axis=0) > 0
    with suppress(MimiaError):
        judge(name, replace(bench, pool=bench.pool.of_images(seen)))


@EACH_ATTACK
@pytest.mark.parametrize("saw", [True, False], ids=["saw everything", "saw nothing"])
def test_shadow_that_saw_everything_or_nothing_does_no_harm(name: str, saw: bool) -> None:
    bench = simulate(make_attack(name).needs, STRONG)
    membership = bench.pool.membership.copy()
    membership[0] = saw
    scores = judge(name, replace(bench, pool=replace(bench.pool, membership=membership)))
    assert np.isfinite(scores.values).all()
    assert area(scores.values, bench.members) > 0.9


@EACH_ATTACK
def test_attack_that_learns_from_known_nonmembers_says_so_if_there_are_none(name: str) -> None:
    attack = quick(name)
    bench = simulate(attack.needs, STRONG)
    if attack.needs.known:
        with pytest.raises(MimiaError, match=rf"attack '{name}' learns from images .*: set split\.n_known"):
            attack.fit(bench.pool)
    else:
        assert bench.pool_known is None  # so that all other tests show that it does without


@pytest.mark.parametrize("name", [name for name in ATTACKS if make_attack(name).needs.known])
def test_attack_that_asks_for_known_nonmembers_scores_none_without_them(name: str) -> None:
    bench = simulate(make_attack(name).needs, leak=1)
    attack = fitted(name, leak=1)
    with pytest.raises(MimiaError, match=r"learns from images that are known to be no members: set split\.n_known"):
        attack.score(replace(bench.evidence, known=None))


@pytest.mark.parametrize("name", [name for name in ATTACKS if make_attack(name).needs.known])
def test_attack_judges_by_few_known_nonmembers_or_asks_for_more(name: str) -> None:
    bench = simulate(make_attack(name).needs, STRONG, sizes=Sizes(known=3))
    refused = ""
    try:
        scores = judge(name, bench)
    except MimiaError as error:
        refused = str(error)
    else:
        assert np.isfinite(scores.values).all()
    assert not refused or "raise split.n_known" in refused


@EACH_ATTACK
def test_it_needs_kinds_of_signals_that_there_are(name: str) -> None:
    assert set(make_attack(name).needs.signals) <= set(KINDS)


@EACH_ATTACK
def test_membership_of_the_target_is_out_of_reach(name: str) -> None:
    attack = make_attack(name)
    assert type(attack).score is Attack.score
    assert type(attack).fit is Attack.fit
    assert list(inspect.signature(attack.score).parameters) == ["evidence"]
    assert list(inspect.signature(attack._score).parameters) == ["evidence"]
    assert {field.name for field in fields(Evidence)} == {"target", "references", "known"}
    assert {field.name for field in fields(Signals)} == {"values", "models", "images", "masks"}


@EACH_ATTACK
def test_attack_is_found_by_its_name_and_shows_its_hyper_parameters(name: str) -> None:
    attack = make_attack(name)
    assert attack.name == name
    assert attack.paper
    parameters = inspect.signature(type(attack)).parameters
    shown = ", ".join(f"{key}={getattr(attack, key)!r}" for key in parameters)
    assert repr(attack) == f"{type(attack).__name__}({shown})"


def test_names_stand_for_different_attacks() -> None:
    assert len({repr(make_attack(name)) for name in ATTACKS}) == len(ATTACKS)


def test_hyper_parameters_are_shown() -> None:
    class Power(Attack):
        name = "power"
        paper = "none"
        needs = Needs(signals=("distances",), shadows=1)

        def __init__(self, exponent: float, kind: str = "mean") -> None:
            self.exponent = exponent
            self.kind = kind

        def _score(self, evidence: Evidence) -> Floats:
            scores: Floats = evidence.target["distances"][0].mean(axis=-1) ** self.exponent
            return scores

    assert repr(Power(0.5)) == "Power(exponent=0.5, kind='mean')"


def test_unknown_attack_is_refused() -> None:
    with pytest.raises(MimiaError, match="no attack 'guess': `mimia attacks` lists"):
        make_attack("guess")


def with_values(signals: Signals, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Signals:
    return replace(signals, values={kind: change(values) for kind, values in signals.values.items()})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda signals: replace(signals, images=signals.images[::-1]), "same images and masks"),
        (lambda signals: replace(signals, masks="others"), "same images and masks"),
        (lambda signals: with_values(signals, lambda values: values[:, :, :4]), "same number of draws"),
        (lambda signals: with_values(signals, lambda values: np.full_like(values, np.nan)), "finite"),
        (lambda signals: with_values(signals, lambda values: np.full_like(values, np.inf)), "finite"),
    ],
    ids=["other images", "other masks", "fewer draws", "not a number", "infinite"],
)
def test_signals_that_do_not_belong_together_are_refused(damage: Callable[[Signals], Signals], message: str) -> None:
    evidence = simulate(make_attack("calibrated").needs, STRONG).evidence
    with pytest.raises(ValueError, match=message):
        replace(evidence, target=damage(evidence.target))
    with pytest.raises(ValueError, match=message):
        replace(evidence, references=replace(evidence.references, signals=damage(evidence.references.signals)))


def test_one_target_is_judged_at_a_time() -> None:
    evidence = simulate(make_attack("calibrated").needs, STRONG).evidence
    with pytest.raises(ValueError, match="one target"):
        replace(evidence, target=evidence.references.signals)


def test_membership_and_values_must_be_of_the_models_and_images() -> None:
    references = simulate(make_attack("calibrated").needs, STRONG).evidence.references
    ids: Ids = references.signals.images
    with pytest.raises(ValueError, match="models"):
        replace(references, membership=references.membership[:, 1:])
    with pytest.raises(ValueError, match="models"):
        replace(references.signals, images=ids[1:])
