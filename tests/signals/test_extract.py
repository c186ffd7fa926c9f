"""The engine that computes signals, and what holds for every signal."""

import gc
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from mimia.config.recipes import Recipe
from mimia.config.settings import SignalSettings
from mimia.data.file_metadata import FACTS
from mimia.data.imageset import ImageSet
from mimia.models.base import MaskedImageModel, ModelSpec
from mimia.models.checkpoints import native
from mimia.models.mae import MAE, SIZES
from mimia.models.masking import random_masks
from mimia.models.vit import PatchEmbed
from mimia.runtime.arrays import Floats, Ids, Indices, Pixels
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store
from mimia.signals.base import QueryConfig
from mimia.signals.cache import write_batches
from mimia.signals.extract import extract_signals
from mimia.signals.queried import QueriedModel
from mimia.signals.registry import SIGNALS

COMPUTE = ComputeSettings(device="cpu", threads=1)
SPEC = ModelSpec(
    image_size=8,
    channels=1,
    patch_size=2,
    mask_ratio=0.75,
    target_space="patch-normalised",
    mean=(0.3,),
    std=(0.37,),
)
QUERY = QueryConfig(
    SignalSettings(draws=4, seed=1, batch_size=32), Recipe.model_validate({"preset": "mae-nano"}), COMPUTE, SPEC
)
ROWS = np.arange(5, 15)
OF_VECTORS = [name for name, signal in SIGNALS.items() if signal.access == "embeddings"]
WITHOUT_MODEL = {"image_features", "patch_predictability"}
FAMILIES = ["mae", "simmim", "swin", "beit"]
NOTHING_DRAWN = {"embeddings", "image_features"}
every_signal = pytest.mark.parametrize("name", SIGNALS)


def signals_of(family: str) -> list[str]:
    """Return the signals of a family: decoders of latents are fitted to encoders of MAE alone."""
    return [name for name in SIGNALS if family == "mae" or name != "latents"]


MakeQuery = Callable[..., tuple[QueriedModel, QueryConfig, ImageSet]]
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def save(name: str, seed: int = 0, spec: ModelSpec = SPEC, scale: float = 1.0) -> Path:
        model = MAE(spec, SIZES["nano"], torch.Generator().manual_seed(seed))
        with torch.no_grad():
            model.decoder_pred.weight.mul_(scale)
            model.norm.weight.mul_(scale)
        native.save(tmp_path / name, model)
        latent = MAE(
            spec.model_copy(update={"target_space": "latents"}), SIZES["nano"], torch.Generator().manual_seed(seed)
        )
        native.save(latents_beside(tmp_path / name), latent)
        return tmp_path / name

    return save


def latents_beside(checkpoint: Path) -> Path:
    """Return the directory of a model with the decoder of its latents."""
    return checkpoint.with_name(f"{checkpoint.name} with latents")


class Counted(np.ndarray[Any, np.dtype[np.uint8]]):
    """Images in memory that count how often they are read, and are interrupted at one of the times."""

    reads = 0
    interrupt_at: int | None = None

    def __getitem__(self, rows: Any) -> Any:
        self.reads += 1
        if self.reads == self.interrupt_at:
            raise KeyboardInterrupt
        return np.array(super().__getitem__(rows))


def counted(images: ImageSet, interrupt_at: int | None = None) -> tuple[ImageSet, Counted]:
    images = images.take(np.arange(50))
    pixels = images.pixels.view(Counted)
    pixels.interrupt_at = interrupt_at
    return replace(images, pixels=pixels), pixels


@contextmanager
def forward_passes() -> Iterator[list[int]]:
    """Record for each forward pass of a MAE how many MAEs are in memory."""
    alive: list[int] = []

    def hook(module: torch.nn.Module, _: object) -> None:
        if isinstance(module, PatchEmbed):
            alive.append(sum(type(each) is MAE for each in gc.get_objects()))

    handle = register_module_forward_pre_hook(hook)
    try:
        yield alive
    finally:
        handle.remove()


def score(
    name: str,
    source: Path | Callable[[Pixels], Floats],
    images: ImageSet,
    store: Store,
    rows: Indices = ROWS,
    query: QueryConfig = QUERY,
    **changes: int,
) -> Floats:
    query = replace(query, settings=query.settings.model_copy(update=changes))
    queried = QueriedModel(
        "target", source, query.compute, latents_beside(source) if isinstance(source, Path) else None
    )
    values: Floats = extract_signals([name], [queried], images, rows, query, store)[name][0]
    return values


def assert_equal(found: Floats, expected: Floats) -> None:
    """Compare numbers of different batches, whose sums are rounded differently."""
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5 * max(1, float(np.abs(expected).max())))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("family", "name"), [(family, name) for family in FAMILIES for name in signals_of(family)])
def test_every_family_has_every_signal_in_grey_and_in_colour(
    make_query: MakeQuery, store: Store, name: str, channels: int, family: str
) -> None:
    queried, query, images = make_query(family, channels)
    rows = ROWS[:3]
    found = extract_signals([name], [queried], images, rows, query, store)[name]
    assert found.dtype == np.float32
    assert found.shape[:2] == (1, 3)
    assert found.shape[2] == (SIGNALS[name]().length(query) or found.shape[2])
    for place, row in enumerate(rows):
        alone = SIGNALS[name]().compute(queried, images.pixels[[row]], images.ids[[row]], query)
        assert_equal(found[0, place], alone[0])
    assert len(np.unique(found[0], axis=0)) == 3
    if name not in {"embeddings", "loss_neighbourhood"}:  # the others are distances, rounded
        assert found.min() > -1e-5


def test_signals_are_those_of_each_model_under_the_same_masks(save: Save, digits: ImageSet, store: Store) -> None:
    checkpoints = [save("target", 0), save("shadow", 1)]
    queried_models = [QueriedModel(checkpoint.name, checkpoint, COMPUTE) for checkpoint in checkpoints]
    signals = extract_signals(["reconstruction", "embeddings"], queried_models, digits, ROWS, QUERY, store)
    assert {name: values.shape for name, values in signals.values.items()} == {
        "reconstruction": (2, 10, 4),
        "embeddings": (2, 10, 64),
    }
    assert signals.images.tolist() == digits.ids[ROWS].tolist()
    assert signals.models == tuple(map(native.model_id, checkpoints))
    masks = torch.from_numpy(random_masks(digits.ids[ROWS], 4, 16, 0.75, seed=1))
    pixels = torch.from_numpy(digits.pixels[ROWS])
    for checkpoint, distances, embeddings in zip(
        checkpoints, signals["reconstruction"], signals["embeddings"], strict=True
    ):
        model = native.load(checkpoint)
        with torch.inference_mode():
            np.testing.assert_allclose(distances, model.distances(pixels, masks).numpy(), rtol=1e-5)
            tokens = model.tokens(pixels, torch.zeros_like(masks[:, :1]))[:, 0]
            np.testing.assert_allclose(embeddings, tokens.mean(dim=1).numpy(), rtol=1e-4, atol=1e-5)


@every_signal
def test_query_id_is_that_of_the_query(save: Save, digits: ImageSet, store: Store, name: str) -> None:
    def query_id(rows: Indices, **changes: int) -> str:
        query = replace(QUERY, settings=QUERY.settings.model_copy(update=changes))
        return extract_signals([name], [queried], digits, rows, query, store).query_id

    checkpoint = save("target")
    queried = QueriedModel("target", checkpoint, COMPUTE, latents_beside(checkpoint))
    assert query_id(ROWS) == query_id(ROWS[:5])
    assert query_id(ROWS) == query_id(ROWS, batch_size=7)
    assert (query_id(ROWS) == query_id(ROWS, seed=2)) == (name in NOTHING_DRAWN)


@every_signal
def test_batch_size_does_not_matter(save: Save, digits: ImageSet, tmp_path: Path, name: str) -> None:
    checkpoint = save("target")
    expected = score(name, checkpoint, digits, Store(tmp_path / "first"))
    for batch_size in (1, 12):
        store = Store(tmp_path / str(batch_size))
        assert_equal(score(name, checkpoint, digits, store, batch_size=batch_size), expected)


@every_signal
def test_other_images_their_order_and_repetition_do_not_matter(
    save: Save, digits: ImageSet, store: Store, name: str
) -> None:
    checkpoint = save("target")
    expected = score(name, checkpoint, digits, store)
    order = np.array([7, 2, 2, 9, 0])
    assert_equal(score(name, checkpoint, digits, store, ROWS[order]), expected[order])


@every_signal
def test_signals_follow_from_the_seed_and_nothing_else(save: Save, digits: ImageSet, tmp_path: Path, name: str) -> None:
    checkpoint = save("target")
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = score(name, checkpoint, digits, Store(tmp_path / "first"))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert np.array_equal(score(name, checkpoint, digits, Store(tmp_path / "again")), first)
    other = score(name, checkpoint, digits, Store(tmp_path / "other"), seed=2)
    assert np.array_equal(other, first) == (name in NOTHING_DRAWN)


def test_more_draws_go_on_where_fewer_stopped(save: Save, digits: ImageSet, store: Store) -> None:
    checkpoint = save("target")
    fewer = score("reconstruction", checkpoint, digits, store)
    more = score("reconstruction", checkpoint, digits, store, draws=6)
    np.testing.assert_allclose(more[:, :4], fewer, rtol=1e-5)


@every_signal
def test_one_draw_is_enough(save: Save, digits: ImageSet, store: Store, name: str) -> None:
    assert np.isfinite(score(name, save("target"), digits, store, draws=1)).all()


@every_signal
def test_interrupted_scoring_goes_on_where_it_stopped(save: Save, digits: ImageSet, tmp_path: Path, name: str) -> None:
    checkpoint, rows = save("target"), np.arange(10)
    query = replace(QUERY, settings=QUERY.settings.model_copy(update={"batch_size": 4, "draws": 2}))
    batches = -(-10 // max(1, 4 // SIGNALS[name]().forward_passes(query)))
    undisturbed = score(name, checkpoint, digits, Store(tmp_path / "undisturbed"), rows, query)
    store = Store(tmp_path / "interrupted")
    images, _ = counted(digits, interrupt_at=3)
    with pytest.raises(KeyboardInterrupt):
        score(name, checkpoint, images, store, rows, query)
    images, pixels = counted(digits)
    resumed = score(name, checkpoint, images, store, rows, query)
    assert pixels.reads == batches - 2
    assert np.array_equal(resumed, undisturbed)


def test_images_that_are_measured_are_not_measured_again_if_only_the_end_was_interrupted(
    digits: ImageSet, tmp_path: Path
) -> None:
    """Moving an artifact into the store takes its time if that is far away."""

    def brightness(pixels: Pixels, _: Ids) -> Floats:
        values: Floats = pixels.mean(axis=(1, 2, 3), dtype=np.float64)[:, None]
        return values

    for expected in (4, 0):
        images, pixels = counted(digits)
        write_batches(brightness, images, np.arange(40), 10, "brightness", tmp_path)
        assert pixels.reads == expected


@every_signal
def test_same_query_is_never_computed_twice(save: Save, digits: ImageSet, store: Store, name: str) -> None:
    checkpoint = save("target")
    first = score(name, checkpoint, digits, store)
    images, pixels = counted(digits)
    with forward_passes() as passes:
        again = score(name, checkpoint, images, store)
    assert (pixels.reads, passes) == (0, [])
    assert np.array_equal(first, again)


class AskedError(Exception):
    """The key of an artifact that a store was asked for."""

    def __init__(self, key: Mapping[str, Any]) -> None:
        self.key = json.dumps(key, sort_keys=True)


class KeysAlone(Store):
    """A store that makes nothing, and tells what it was asked for."""

    def make(self, kind: str, settings: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        raise AskedError(settings)


Changes = Callable[[str], dict[str, Callable[[Store], Floats]]]


@pytest.fixture
def changes(save: Save, digits: ImageSet) -> Changes:
    """Make functions that score a few images, the first as they are and the others with one thing changed."""
    checkpoint, rows = save("target"), ROWS[:2]
    darker, space, ratio = (
        SPEC.model_copy(update=update)
        for update in ({"mean": (0.5,)}, {"target_space": "normalised"}, {"mask_ratio": 0.5})
    )
    crops, more_crops = (
        replace(QUERY, recipe=QUERY.recipe.model_copy(update={"augmentation": "crop", "crop_scale": scale}))
        for scale in [(0.2, 1.0), (0.6, 1.0)]
    )
    half = replace(QUERY, compute=COMPUTE.model_copy(update={"precision": "bf16"}))
    others = {
        "weights": save("weights", seed=1),
        "pixel statistics": save("pixel statistics", spec=darker),
        "space": save("space", spec=space),
        "ratio": save("ratio", spec=ratio),
    }
    of_target = replace(QUERY, spec=darker)
    masked = replace(QUERY, spec=ratio)

    def make(name: str) -> dict[str, Callable[[Store], Floats]]:
        return {
            "nothing": lambda place: score(name, checkpoint, digits, place, rows),
            "seed": lambda place: score(name, checkpoint, digits, place, rows, seed=2),
            "draws": lambda place: score(name, checkpoint, digits, place, rows, draws=8),
            "images": lambda place: score(name, checkpoint, digits, place, rows + 1),
            "weights": lambda place: score(name, others["weights"], digits, place, rows),
            "pixel statistics": lambda place: score(name, others["pixel statistics"], digits, place, rows),
            "statistics of the target": lambda place: score(name, checkpoint, digits, place, rows, query=of_target),
            "target space": lambda place: score(name, others["space"], digits, place, rows),
            "mask ratio": lambda place: score(name, others["ratio"], digits, place, rows, query=masked),
            "crops": lambda place: score(name, checkpoint, digits, place, rows, query=crops),
            "area of crops": lambda place: score(name, checkpoint, digits, place, rows, query=more_crops),
            "precision": lambda place: score(name, checkpoint, digits, place, rows, query=half),
        }

    return make


@every_signal
def test_another_query_never_gets_an_old_result(changes: Changes, tmp_path: Path, name: str) -> None:
    """What has a key of its own is computed: only what shares one is compared."""
    asked: dict[str, list[str]] = {}
    computed = changes(name)
    for change, compute in computed.items():
        with pytest.raises(AskedError) as caught:
            compute(KeysAlone(tmp_path / "nothing"))
        asked.setdefault(caught.value.key, []).append(change)
    alike = next(together for together in asked.values() if "nothing" in together)
    assert {"images"} | (set() if name in WITHOUT_MODEL else {"weights"}) <= set(computed) - set(alike)
    for together in asked.values():
        answers = [computed[change](Store(tmp_path / change)) for change in together if len(together) > 1]
        assert all(np.array_equal(answer, answers[0]) for answer in answers), together


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("reconstruction", {"statistics of the target", "crops", "area of crops"}),
        ("loss_neighbourhood", {"statistics of the target"}),
    ],
)
def test_numbers_differ_where_the_query_does(
    changes: Changes, store: Store, tmp_path: Path, name: str, expected: set[str]
) -> None:
    answers = {change: computed(store) for change, computed in changes(name).items()}
    for change, computed in changes(name).items():
        assert np.array_equal(computed(Store(tmp_path / change)), answers[change]), change
    unchanged = {change for change, answer in answers.items() if np.array_equal(answer, answers["nothing"])}
    assert unchanged == expected | {"nothing"}


def test_predictability_of_patches_depends_on_the_masks_and_the_statistics_alone(
    changes: Changes, store: Store
) -> None:
    answers = {change: computed(store) for change, computed in changes("patch_predictability").items()}
    changed = {change for change, answer in answers.items() if not np.array_equal(answer, answers["nothing"])}
    assert changed == {"images", "seed", "statistics of the target"}


@every_signal
def test_half_precision_is_close_to_full(save: Save, digits: ImageSet, store: Store, name: str) -> None:
    checkpoint = save("target")
    half = replace(QUERY, compute=COMPUTE.model_copy(update={"precision": "bf16"}))
    full = score(name, checkpoint, digits, store, ROWS[:4])
    difference = np.abs(score(name, checkpoint, digits, store, ROWS[:4], query=half) - full).max()
    exact = name in {*WITHOUT_MODEL, "gradients"}  # a norm is no mean, over which rounding errors cancel
    assert difference == 0 if exact else 0 < difference < 0.05 * np.abs(full).max()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_in_half_precision(make_query: MakeQuery, store: Store, family: str) -> None:
    queried, query, images = make_query(family)
    half = replace(query, compute=query.compute.model_copy(update={"precision": "bf16"}))
    names = ["reconstruction", "gradients", "embeddings"]
    signals = extract_signals(names, [queried], images, ROWS[:3], half, store)
    assert all(np.isfinite(values).all() for values in signals.values.values())


@every_signal
def test_only_the_rows_that_are_scored_are_read(save: Save, store: Store, tmp_path: Path, name: str) -> None:
    many = 2**34 // 64  # 16 GiB of images, in a file of which almost all is a hole
    with (tmp_path / "pixels.u8").open("wb") as file:
        file.truncate(many * 64)
    pixels = np.memmap(tmp_path / "pixels.u8", np.uint8, "r+", shape=(many, 1, 8, 8))
    pixels[-1] = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    names: Ids = np.broadcast_to(np.array("image"), (many,))
    facts: Floats = np.broadcast_to(np.zeros(len(FACTS)), (many, len(FACTS)))
    pixels.flush()
    pixels = np.memmap(tmp_path / "pixels.u8", np.uint8, "r", shape=(many, 1, 8, 8))
    found = score(name, save("target"), ImageSet(pixels, names, names, facts), store, np.array([0, many - 1]))
    assert np.isfinite(found).all()  # an image of one colour too
    assert not np.array_equal(found[0], found[1])


def test_one_model_at_a_time_is_in_memory(save: Save, digits: ImageSet, store: Store) -> None:
    queried_models = [QueriedModel(f"shadow {seed}", save(f"shadow {seed}", seed), COMPUTE) for seed in range(3)]
    gc.collect()
    before = sum(type(each) is MAE for each in gc.get_objects())
    with forward_passes() as alive:
        extract_signals(["reconstruction", "embeddings"], queried_models, digits, ROWS, QUERY, store)
    assert set(alive) == {before + 1}
    assert all(
        isinstance(queried.model, MaskedImageModel) for queried in queried_models
    )  # they come back when they are queried


def test_all_models_get_the_masks_of_the_query_whatever_they_were_trained_with(
    save: Save, digits: ImageSet, store: Store
) -> None:
    checkpoints = [save("target"), save("shadow", seed=1, spec=SPEC.model_copy(update={"mask_ratio": 0.5}))]
    queried_models = [QueriedModel(each.name, each, COMPUTE, latents_beside(each)) for each in checkpoints]
    signals = extract_signals(["reconstruction", "latents"], queried_models, digits, ROWS, QUERY, store)
    masks = torch.from_numpy(random_masks(digits.ids[ROWS], 4, 16, 0.75, seed=1))
    pixels = torch.from_numpy(digits.pixels[ROWS])
    for name in ("reconstruction", "latents"):
        for checkpoint, found in zip(checkpoints, signals[name], strict=True):
            model = native.load(checkpoint if name == "reconstruction" else latents_beside(checkpoint))
            with torch.inference_mode():
                np.testing.assert_allclose(found, model.distances(pixels, masks).numpy(), rtol=1e-4)


@pytest.mark.parametrize("name", ["reconstruction", "embeddings"])
def test_models_that_are_masked_differently_are_refused(save: Save, digits: ImageSet, store: Store, name: str) -> None:
    shadow = save("shadow", spec=SPEC.model_copy(update={"patch_size": 4}))
    queried_models = [QueriedModel(source.name, source, COMPUTE) for source in (save("target"), shadow)]
    with pytest.raises(MimiaError, match="masked differently"):
        extract_signals([name], queried_models, digits, ROWS, QUERY, store)


@pytest.mark.parametrize(
    "change", [{"image_size": 16, "patch_size": 4}, {"channels": 3, "mean": (0.5,) * 3, "std": (0.3,) * 3}]
)
def test_model_of_other_images_is_refused(
    save: Save, digits: ImageSet, store: Store, change: dict[str, object]
) -> None:
    spec = SPEC.model_copy(update=change)
    with pytest.raises(MimiaError, match=r"The target takes images of the shape .* these have \(1, 8, 8\)"):
        score("reconstruction", save("target", spec=spec), digits, store, query=replace(QUERY, spec=spec))


@pytest.mark.parametrize("name", ["reconstruction", "loss_neighbourhood", "gradients", "partcrop", "embeddings"])
def test_numbers_that_are_not_finite_are_refused(save: Save, digits: ImageSet, store: Store, name: str) -> None:
    checkpoint = save("target", scale=float("1e38"))
    for _ in range(2):  # the second time they come from the store
        with pytest.raises(MimiaError, match=rf"The target \(.*target\) gives {name} that are not finite"):
            score(name, checkpoint, digits, store)


def flat(pixels: Pixels) -> Floats:
    return pixels.reshape(len(pixels), -1).astype(np.float64) + 1


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_vectors_that_are_not_finite_are_refused(digits: ImageSet, store: Store, value: float) -> None:
    with pytest.raises(MimiaError, match=r"The target \(a function to vectors\) gives embeddings that are not finite"):
        score("embeddings", lambda pixels: np.where(pixels[:, 0, 0, :3] > 0, 1.0, value), digits, store)


@pytest.mark.parametrize("name", OF_VECTORS)
def test_function_to_vectors_is_named_by_its_answers(digits: ImageSet, store: Store, name: str) -> None:
    calls = [0]

    def first(pixels: Pixels) -> Floats:
        calls[0] += 1
        return flat(pixels)

    answer = score(name, first, digits, store)
    calls[0] = 0
    again = score(name, lambda pixels: first(pixels), digits, store)
    assert calls[0] == 1  # the few images that name it
    assert np.array_equal(again, answer)
    other = score(name, lambda pixels: flat(pixels) ** 2, digits, store)
    assert np.array_equal(other, answer) == (name in WITHOUT_MODEL)


@pytest.mark.parametrize("length", [3, 64, 100])
def test_function_may_give_longer_or_shorter_vectors_than_the_shadows(
    save: Save, digits: ImageSet, store: Store, length: int
) -> None:
    def embed(pixels: Pixels) -> Floats:
        return np.tile(flat(pixels), 2)[:, :length]

    shadow = save("shadow")
    queried_models = [QueriedModel("target", embed, COMPUTE), QueriedModel("shadow", shadow, COMPUTE)]
    signals = extract_signals(OF_VECTORS, queried_models, digits, ROWS, QUERY, store)
    target, found = signals["embeddings"]
    np.testing.assert_array_equal(target[:, :length], embed(digits.pixels[ROWS]).astype(np.float32))
    np.testing.assert_array_equal(found[:, :64], score("embeddings", shadow, digits, store))
    assert not target[:, length:].any()
    assert not found[:, 64:].any()
