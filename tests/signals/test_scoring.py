"""The engine that asks all models all questions, and what holds for every kind of signals."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from mimia.arrays import Floats, Ids, Indices, Pixels
from mimia.config import ComputeSettings, SignalSettings
from mimia.encoders.base import ModelSpec, Reconstructor
from mimia.encoders.checkpoints import native
from mimia.encoders.mae import SIZES, Mae
from mimia.encoders.vit import PatchEmbed
from mimia.errors import MimiaError
from mimia.images.facts import FACTS
from mimia.images.imageset import ImageSet
from mimia.masking import random_masks
from mimia.recipes import Recipe
from mimia.signals.batches import write_batches
from mimia.signals.kinds import Asking, Subject
from mimia.signals.registry import KINDS
from mimia.signals.scoring import score_images
from mimia.store import Store

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
ASKING = Asking(
    SignalSettings(draws=4, seed=1, batch_size=32), Recipe.model_validate({"preset": "mae-nano"}), COMPUTE, SPEC
)
ROWS = np.arange(5, 15)
OF_VECTORS = [name for name, kind in KINDS.items() if kind.access == "embeddings"]
WITHOUT_MODEL = {"statistics", "predictability"}
FAMILIES = ["mae", "simmim", "swin", "beit"]
NOTHING_DRAWN = {"embeddings", "statistics"}
every_kind = pytest.mark.parametrize("kind", KINDS)


def kinds_of(family: str) -> list[str]:
    """Name the kinds that can be asked of a family: decoders are fitted to encoders of MAE alone."""
    return [kind for kind in KINDS if family == "mae" or kind != "latents"]


Ask = Callable[..., tuple[Subject, Asking, ImageSet]]
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def save(name: str, seed: int = 0, spec: ModelSpec = SPEC, scale: float = 1.0) -> Path:
        model = Mae(spec, SIZES["nano"], torch.Generator().manual_seed(seed))
        with torch.no_grad():
            model.decoder_pred.weight.mul_(scale)
            model.norm.weight.mul_(scale)
        native.save(tmp_path / name, model)
        latent = Mae(
            spec.model_copy(update={"target_space": "latents"}), SIZES["nano"], torch.Generator().manual_seed(seed)
        )
        native.save(latents_beside(tmp_path / name), latent)
        return tmp_path / name

    return save


def latents_beside(checkpoint: Path) -> Path:
    """Say where a model is kept with the decoder of its latents."""
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
    """Count how often a MAE is asked, and how many are in memory then."""
    alive: list[int] = []

    def hook(module: torch.nn.Module, _: object) -> None:
        if isinstance(module, PatchEmbed):
            alive.append(sum(type(each) is Mae for each in gc.get_objects()))

    handle = register_module_forward_pre_hook(hook)
    try:
        yield alive
    finally:
        handle.remove()


def score(
    kind: str,
    source: Path | Callable[[Pixels], Floats],
    images: ImageSet,
    store: Store,
    rows: Indices = ROWS,
    asking: Asking = ASKING,
    **changes: int,
) -> Floats:
    asking = replace(asking, settings=asking.settings.model_copy(update=changes))
    subject = Subject("target", source, asking.compute, latents_beside(source) if isinstance(source, Path) else None)
    values: Floats = score_images([kind], [subject], images, rows, asking, store)[kind][0]
    return values


def assert_equal(found: Floats, expected: Floats) -> None:
    """Compare numbers of different batches, whose sums are rounded differently."""
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5 * max(1, float(np.abs(expected).max())))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("family", "kind"), [(family, kind) for family in FAMILIES for kind in kinds_of(family)])
def test_every_family_answers_every_question_in_grey_and_in_colour(
    ask: Ask, store: Store, kind: str, channels: int, family: str
) -> None:
    subject, asking, images = ask(family, channels)
    rows = ROWS[:3]
    found = score_images([kind], [subject], images, rows, asking, store)[kind]
    assert found.dtype == np.float32
    assert found.shape[:2] == (1, 3)
    for place, row in enumerate(rows):
        alone = KINDS[kind].measure(subject, images.pixels[[row]], images.ids[[row]], asking)
        assert_equal(found[0, place], alone[0])
    assert len(np.unique(found[0], axis=0)) == 3
    if kind not in {"embeddings", "surroundings"}:  # the others are distances, rounded
        assert found.min() > -1e-5


def test_signals_are_those_of_each_model_under_the_same_masks(save: Save, digits: ImageSet, store: Store) -> None:
    checkpoints = [save("target", 0), save("shadow", 1)]
    subjects = [Subject(checkpoint.name, checkpoint, COMPUTE) for checkpoint in checkpoints]
    signals = score_images(["distances", "embeddings"], subjects, digits, ROWS, ASKING, store)
    assert {kind: values.shape for kind, values in signals.values.items()} == {
        "distances": (2, 10, 4),
        "embeddings": (2, 10, 64),
    }
    assert signals.images.tolist() == digits.ids[ROWS].tolist()
    assert signals.models == tuple(map(native.model_id, checkpoints))
    masks = torch.from_numpy(random_masks(digits.ids[ROWS], 4, 16, 0.75, seed=1))
    pixels = torch.from_numpy(digits.pixels[ROWS])
    for checkpoint, distances, embeddings in zip(checkpoints, signals["distances"], signals["embeddings"], strict=True):
        model = native.load(checkpoint)
        with torch.inference_mode():
            np.testing.assert_allclose(distances, model.distances(pixels, masks).numpy(), rtol=1e-5)
            tokens = model.tokens(pixels, torch.zeros_like(masks[:, :1]))[:, 0]
            np.testing.assert_allclose(embeddings, tokens.mean(dim=1).numpy(), rtol=1e-4, atol=1e-5)


@every_kind
def test_signals_can_be_compared_exactly_if_the_questions_were_the_same(
    save: Save, digits: ImageSet, store: Store, kind: str
) -> None:
    def questions(rows: Indices, **changes: int) -> str:
        asking = replace(ASKING, settings=ASKING.settings.model_copy(update=changes))
        return score_images([kind], [subject], digits, rows, asking, store).masks

    checkpoint = save("target")
    subject = Subject("target", checkpoint, COMPUTE, latents_beside(checkpoint))
    assert questions(ROWS) == questions(ROWS[:5])
    assert questions(ROWS) == questions(ROWS, batch_size=7)
    assert (questions(ROWS) == questions(ROWS, seed=2)) == (kind in NOTHING_DRAWN)


@every_kind
def test_batch_size_does_not_matter(save: Save, digits: ImageSet, tmp_path: Path, kind: str) -> None:
    checkpoint = save("target")
    expected = score(kind, checkpoint, digits, Store(tmp_path / "first"))
    for batch_size in (1, 12, 512):
        store = Store(tmp_path / str(batch_size))
        assert_equal(score(kind, checkpoint, digits, store, batch_size=batch_size), expected)


@every_kind
def test_other_images_their_order_and_repetition_do_not_matter(
    save: Save, digits: ImageSet, store: Store, kind: str
) -> None:
    checkpoint = save("target")
    expected = score(kind, checkpoint, digits, store)
    order = np.array([7, 2, 2, 9, 0])
    assert_equal(score(kind, checkpoint, digits, store, ROWS[order]), expected[order])


@every_kind
def test_signals_follow_from_the_seed_and_nothing_else(save: Save, digits: ImageSet, tmp_path: Path, kind: str) -> None:
    checkpoint = save("target")
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = score(kind, checkpoint, digits, Store(tmp_path / "first"))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert np.array_equal(score(kind, checkpoint, digits, Store(tmp_path / "again")), first)
    other = score(kind, checkpoint, digits, Store(tmp_path / "other"), seed=2)
    assert np.array_equal(other, first) == (kind in NOTHING_DRAWN)


def test_more_draws_go_on_where_fewer_stopped(save: Save, digits: ImageSet, store: Store) -> None:
    checkpoint = save("target")
    fewer = score("distances", checkpoint, digits, store)
    more = score("distances", checkpoint, digits, store, draws=6)
    np.testing.assert_allclose(more[:, :4], fewer, rtol=1e-5)


@every_kind
def test_one_draw_is_enough(save: Save, digits: ImageSet, store: Store, kind: str) -> None:
    assert np.isfinite(score(kind, save("target"), digits, store, draws=1)).all()


@every_kind
def test_interrupted_scoring_goes_on_where_it_stopped(save: Save, digits: ImageSet, tmp_path: Path, kind: str) -> None:
    checkpoint, rows = save("target"), np.arange(20)
    asking = replace(ASKING, settings=ASKING.settings.model_copy(update={"batch_size": 4}))
    batches = -(-20 // max(1, 4 // KINDS[kind].passes(asking)))
    undisturbed = score(kind, checkpoint, digits, Store(tmp_path / "undisturbed"), rows, asking)
    store = Store(tmp_path / "interrupted")
    images, _ = counted(digits, interrupt_at=3)
    with pytest.raises(KeyboardInterrupt):
        score(kind, checkpoint, images, store, rows, asking)
    images, pixels = counted(digits)
    resumed = score(kind, checkpoint, images, store, rows, asking)
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


@every_kind
def test_same_question_is_never_asked_twice(save: Save, digits: ImageSet, store: Store, kind: str) -> None:
    checkpoint = save("target")
    first = score(kind, checkpoint, digits, store)
    images, pixels = counted(digits)
    with forward_passes() as passes:
        again = score(kind, checkpoint, images, store)
    assert (pixels.reads, passes) == (0, [])
    assert np.array_equal(first, again)


@every_kind
def test_another_question_never_gets_an_old_answer(
    save: Save, digits: ImageSet, store: Store, tmp_path: Path, kind: str
) -> None:
    checkpoint = save("target")
    first = score(kind, checkpoint, digits, store)
    darker = SPEC.model_copy(update={"mean": (0.5,)})
    space = SPEC.model_copy(update={"target_space": "normalised"})
    ratio = SPEC.model_copy(update={"mask_ratio": 0.5})
    crops, more_crops = (
        replace(ASKING, recipe=ASKING.recipe.model_copy(update={"augmentation": "crop", "crop_area": area}))
        for area in [(0.2, 1.0), (0.6, 1.0)]
    )
    questions: dict[str, Callable[[Store], Floats]] = {
        "seed": lambda place: score(kind, checkpoint, digits, place, seed=2),
        "draws": lambda place: score(kind, checkpoint, digits, place, draws=8),
        "images": lambda place: score(kind, checkpoint, digits, place, rows=ROWS + 1),
        "weights": lambda place: score(kind, save("weights", seed=1), digits, place),
        "statistics": lambda place: score(kind, save("statistics", spec=darker), digits, place),
        "statistics of the target": lambda place: score(
            kind, checkpoint, digits, place, asking=replace(ASKING, spec=darker)
        ),
        "target space": lambda place: score(kind, save("space", spec=space), digits, place),
        "mask ratio": lambda place: score(
            kind, save("ratio", spec=ratio), digits, place, asking=replace(ASKING, spec=ratio)
        ),
        "crops": lambda place: score(kind, checkpoint, digits, place, asking=crops),
        "area of crops": lambda place: score(kind, checkpoint, digits, place, asking=more_crops),
        "precision": lambda place: score(
            kind,
            checkpoint,
            digits,
            place,
            asking=replace(ASKING, compute=COMPUTE.model_copy(update={"precision": "bf16"})),
        ),
    }
    changed = set()
    for name, question in questions.items():
        answer = question(store)
        assert np.array_equal(answer, question(Store(tmp_path / name))), name
        if not np.array_equal(answer, first):
            changed.add(name)
    assert changed >= ({"images"} if kind in WITHOUT_MODEL else {"images", "weights"})
    if kind == "distances":
        assert changed == set(questions) - {"statistics of the target", "crops", "area of crops"}
    if kind == "surroundings":
        assert changed == set(questions) - {"statistics of the target"}
    if kind == "predictability":
        assert changed == {"images", "seed", "statistics of the target"}


@every_kind
def test_half_precision_is_close_to_full(save: Save, digits: ImageSet, store: Store, kind: str) -> None:
    checkpoint = save("target")
    half = replace(ASKING, compute=COMPUTE.model_copy(update={"precision": "bf16"}))
    full = score(kind, checkpoint, digits, store)
    difference = np.abs(score(kind, checkpoint, digits, store, asking=half) - full).max()
    exact = kind in {*WITHOUT_MODEL, "gradients"}  # a norm is no mean, over which rounding errors cancel
    assert difference == 0 if exact else 0 < difference < 0.05 * np.abs(full).max()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_in_half_precision(ask: Ask, store: Store, family: str) -> None:
    subject, asking, images = ask(family)
    half = replace(asking, compute=asking.compute.model_copy(update={"precision": "bf16"}))
    signals = score_images(kinds_of(family), [subject], images, ROWS, half, store)
    assert all(np.isfinite(values).all() for values in signals.values.values())


@every_kind
def test_only_the_rows_that_are_scored_are_read(save: Save, store: Store, tmp_path: Path, kind: str) -> None:
    many = 2**34 // 64  # 16 GiB of images, in a file of which almost all is a hole
    with (tmp_path / "pixels.u8").open("wb") as file:
        file.truncate(many * 64)
    pixels = np.memmap(tmp_path / "pixels.u8", np.uint8, "r+", shape=(many, 1, 8, 8))
    pixels[-1] = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    names: Ids = np.broadcast_to(np.array("image"), (many,))
    facts: Floats = np.broadcast_to(np.zeros(len(FACTS)), (many, len(FACTS)))
    pixels.flush()
    pixels = np.memmap(tmp_path / "pixels.u8", np.uint8, "r", shape=(many, 1, 8, 8))
    found = score(kind, save("target"), ImageSet(pixels, names, names, facts), store, np.array([0, many - 1]))
    assert np.isfinite(found).all()  # an image of one colour too
    assert not np.array_equal(found[0], found[1])


def test_one_model_at_a_time_is_in_memory(save: Save, digits: ImageSet, store: Store) -> None:
    subjects = [Subject(f"shadow {seed}", save(f"shadow {seed}", seed), COMPUTE) for seed in range(3)]
    gc.collect()
    before = sum(type(each) is Mae for each in gc.get_objects())
    with forward_passes() as alive:
        score_images(["distances", "embeddings"], subjects, digits, ROWS, ASKING, store)
    assert set(alive) == {before + 1}
    assert all(isinstance(subject.model, Reconstructor) for subject in subjects)  # they come back when they are asked


def test_all_models_are_asked_with_the_masks_of_the_question_whatever_they_were_trained_with(
    save: Save, digits: ImageSet, store: Store
) -> None:
    checkpoints = [save("target"), save("shadow", seed=1, spec=SPEC.model_copy(update={"mask_ratio": 0.5}))]
    subjects = [Subject(each.name, each, COMPUTE, latents_beside(each)) for each in checkpoints]
    signals = score_images(["distances", "latents"], subjects, digits, ROWS, ASKING, store)
    masks = torch.from_numpy(random_masks(digits.ids[ROWS], 4, 16, 0.75, seed=1))
    pixels = torch.from_numpy(digits.pixels[ROWS])
    for kind in ("distances", "latents"):
        for checkpoint, found in zip(checkpoints, signals[kind], strict=True):
            model = native.load(checkpoint if kind == "distances" else latents_beside(checkpoint))
            with torch.inference_mode():
                np.testing.assert_allclose(found, model.distances(pixels, masks).numpy(), rtol=1e-4)


@pytest.mark.parametrize("kind", ["distances", "embeddings"])
def test_models_that_are_masked_differently_are_refused(save: Save, digits: ImageSet, store: Store, kind: str) -> None:
    shadow = save("shadow", spec=SPEC.model_copy(update={"patch_size": 4}))
    subjects = [Subject(source.name, source, COMPUTE) for source in (save("target"), shadow)]
    with pytest.raises(MimiaError, match="masked differently"):
        score_images([kind], subjects, digits, ROWS, ASKING, store)


@pytest.mark.parametrize(
    "change", [{"image_size": 16, "patch_size": 4}, {"channels": 3, "mean": (0.5,) * 3, "std": (0.3,) * 3}]
)
def test_model_of_other_images_is_refused(
    save: Save, digits: ImageSet, store: Store, change: dict[str, object]
) -> None:
    spec = SPEC.model_copy(update=change)
    with pytest.raises(MimiaError, match=r"The target takes images of the shape .* these have \(1, 8, 8\)"):
        score("distances", save("target", spec=spec), digits, store, asking=replace(ASKING, spec=spec))


@pytest.mark.parametrize("kind", ["distances", "surroundings", "gradients", "parts", "embeddings"])
def test_numbers_that_are_not_finite_are_refused(save: Save, digits: ImageSet, store: Store, kind: str) -> None:
    checkpoint = save("target", scale=float("1e38"))
    for _ in range(2):  # the second time they come from the store
        with pytest.raises(MimiaError, match=rf"The target \(.*target\) gives {kind} that are not finite"):
            score(kind, checkpoint, digits, store)


def flat(pixels: Pixels) -> Floats:
    return pixels.reshape(len(pixels), -1).astype(np.float64) + 1


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_vectors_that_are_not_finite_are_refused(digits: ImageSet, store: Store, value: float) -> None:
    with pytest.raises(MimiaError, match=r"The target \(a function to vectors\) gives embeddings that are not finite"):
        score("embeddings", lambda pixels: np.full((len(pixels), 3), value), digits, store)


@pytest.mark.parametrize("kind", OF_VECTORS)
def test_function_to_vectors_is_named_by_its_answers(digits: ImageSet, store: Store, kind: str) -> None:
    calls = [0]

    def first(pixels: Pixels) -> Floats:
        calls[0] += 1
        return flat(pixels)

    answer = score(kind, first, digits, store)
    calls[0] = 0
    again = score(kind, lambda pixels: first(pixels), digits, store)
    assert calls[0] == 1  # the few images that name it
    assert np.array_equal(again, answer)
    other = score(kind, lambda pixels: flat(pixels) ** 2, digits, store)
    assert np.array_equal(other, answer) == (kind in WITHOUT_MODEL)


@pytest.mark.parametrize("length", [3, 64, 100])
def test_function_may_give_longer_or_shorter_vectors_than_the_shadows(
    save: Save, digits: ImageSet, store: Store, length: int
) -> None:
    def embed(pixels: Pixels) -> Floats:
        return np.tile(flat(pixels), 2)[:, :length]

    shadow = save("shadow")
    subjects = [Subject("target", embed, COMPUTE), Subject("shadow", shadow, COMPUTE)]
    signals = score_images(OF_VECTORS, subjects, digits, ROWS, ASKING, store)
    target, found = signals["embeddings"]
    np.testing.assert_array_equal(target[:, :length], embed(digits.pixels[ROWS]).astype(np.float32))
    np.testing.assert_array_equal(found[:, :64], score("embeddings", shadow, digits, store))
    assert not target[:, length:].any()
    assert not found[:, 64:].any()
