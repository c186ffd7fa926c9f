from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from mimia.arrays import Floats, Ids, Indices
from mimia.config import ComputeSettings, SignalSettings
from mimia.encoders.base import ModelSpec
from mimia.encoders.checkpoints import native
from mimia.encoders.mae import SIZES, Mae
from mimia.encoders.vit import PatchEmbed
from mimia.errors import MimiaError
from mimia.images.imageset import ImageSet
from mimia.images.load import load_images
from mimia.masking import random_masks
from mimia.recipes import Recipe
from mimia.signals.distances import score_images
from mimia.store import Store

COMPUTE = ComputeSettings(device="cpu", threads=1)
SETTINGS = SignalSettings(draws=4, seed=1, batch_size=32)
SPEC = ModelSpec(
    image_size=8,
    channels=1,
    patch_size=2,
    mask_ratio=0.75,
    target_space="patch-normalised",
    mean=(0.3,),
    std=(0.37,),
)
ROWS = np.arange(5, 45)
BATCHES = len(ROWS) // (SETTINGS.batch_size // SETTINGS.draws)

Save = Callable[..., Path]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return load_images(["digits"], Store(tmp_path_factory.mktemp("digits"))).images


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def save(name: str, seed: int = 0, spec: ModelSpec = SPEC, scale: float = 1.0) -> Path:
        model = Mae(spec, SIZES["nano"], torch.Generator().manual_seed(seed))
        with torch.no_grad():
            model.decoder_pred.weight *= scale
        training = native.Training(
            recipe=Recipe.model_validate({"preset": "mae-nano"}),
            seed=seed,
            images=0,
            images_fingerprint="",
            losses=(),
            seconds=0,
            hardware={},
            versions={},
        )
        native.save(tmp_path / name, model, training)
        return tmp_path / name

    return save


@contextmanager
def counted_batches(interrupt_at: int | None = None) -> Iterator[list[int]]:
    """Count the batches that models see; raise an interrupt at one."""
    count = [0]

    def hook(module: torch.nn.Module, _: object) -> None:
        count[0] += isinstance(module, PatchEmbed)
        if isinstance(module, PatchEmbed) and count[0] == interrupt_at:
            raise KeyboardInterrupt

    handle = register_module_forward_pre_hook(hook)
    try:
        yield count
    finally:
        handle.remove()


def score(checkpoint: Path, images: ImageSet, store: Store, rows: Indices = ROWS, **changes: int) -> Floats:
    settings = SETTINGS.model_copy(update=changes)
    values: Floats = score_images([checkpoint], images, rows, settings, COMPUTE, store, ["target"]).values[0]
    return values


def test_signals_are_the_distances_of_each_model_under_the_same_masks(
    save: Save, digits: ImageSet, store: Store
) -> None:
    checkpoints = [save("target", 0), save("shadow", 1)]
    signals = score_images(checkpoints, digits, ROWS, SETTINGS, COMPUTE, store, ["target", "shadow"])
    assert signals.values.shape == (2, len(ROWS), 4)
    assert signals.values.dtype == np.float32
    assert signals.images.tolist() == digits.ids[ROWS].tolist()
    assert signals.models == tuple(map(native.model_id, checkpoints))
    masks = torch.from_numpy(random_masks(digits.ids[ROWS], 4, 16, 0.75, seed=1))
    for checkpoint, values in zip(checkpoints, signals.values, strict=True):
        with torch.inference_mode():
            expected = native.load(checkpoint).distances(torch.from_numpy(digits.pixels[ROWS]), masks).numpy()
        np.testing.assert_allclose(values, expected, rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 512])
def test_batch_size_does_not_matter(save: Save, digits: ImageSet, tmp_path: Path, batch_size: int) -> None:
    checkpoint = save("target")
    expected = score(checkpoint, digits, Store(tmp_path / "first"))
    found = score(checkpoint, digits, Store(tmp_path / "second"), batch_size=batch_size)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_other_images_and_their_order_do_not_matter(save: Save, digits: ImageSet, store: Store) -> None:
    checkpoint = save("target")
    expected = score(checkpoint, digits, store)
    order = np.random.default_rng(0).permutation(len(ROWS))[:25]
    np.testing.assert_allclose(score(checkpoint, digits, store, ROWS[order]), expected[order], rtol=1e-5)


def test_more_draws_go_on_where_fewer_stopped(save: Save, digits: ImageSet, store: Store) -> None:
    checkpoint = save("target")
    fewer, more = score(checkpoint, digits, store), score(checkpoint, digits, store, draws=6)
    np.testing.assert_allclose(more[:, :4], fewer, rtol=1e-5)


def test_interrupted_scoring_goes_on_where_it_stopped(save: Save, digits: ImageSet, tmp_path: Path) -> None:
    checkpoint = save("target")
    undisturbed = score(checkpoint, digits, Store(tmp_path / "undisturbed"))
    store = Store(tmp_path / "interrupted")
    with counted_batches(interrupt_at=4) as count, pytest.raises(KeyboardInterrupt):
        score(checkpoint, digits, store)
    with counted_batches() as count:
        resumed = score(checkpoint, digits, store)
    assert count == [BATCHES - 3]
    assert np.array_equal(resumed, undisturbed)


def test_same_question_is_never_asked_twice(save: Save, digits: ImageSet, store: Store) -> None:
    checkpoint = save("target")
    first = score(checkpoint, digits, store)
    with counted_batches() as count:
        again = score(checkpoint, digits, store)
    assert count == [0]
    assert np.array_equal(first, again)


def test_another_question_never_gets_an_old_answer(save: Save, digits: ImageSet, store: Store) -> None:
    checkpoint = save("target")
    score(checkpoint, digits, store)
    statistics = SPEC.model_copy(update={"mean": (0.5,)})
    space = SPEC.model_copy(update={"target_space": "normalised"})
    ratio = SPEC.model_copy(update={"mask_ratio": 0.5})
    questions: list[Callable[[], object]] = [
        lambda: score(checkpoint, digits, store, seed=2),
        lambda: score(checkpoint, digits, store, draws=5),
        lambda: score(checkpoint, digits, store, rows=ROWS + 1),
        lambda: score(save("other weights", seed=1), digits, store),
        lambda: score(save("same weights, other statistics", spec=statistics), digits, store),
        lambda: score(save("same weights, other target space", spec=space), digits, store),
        lambda: score(save("same weights, other mask ratio", spec=ratio), digits, store),
    ]
    for number, ask in enumerate(questions):
        with counted_batches() as count:
            ask()
        assert count[0] >= BATCHES, number


def test_only_the_rows_that_are_scored_are_read(save: Save, store: Store, tmp_path: Path) -> None:
    many = 2**34 // 64  # 16 GiB of images, in a file of which almost all is a hole
    with (tmp_path / "pixels.u8").open("wb") as file:
        file.truncate(many * 64)
    pixels = np.memmap(tmp_path / "pixels.u8", np.uint8, "r+", shape=(many, 1, 8, 8))
    pixels[-1] = np.arange(64, dtype=np.uint8).reshape(8, 8)
    names: Ids = np.broadcast_to(np.array("image"), (many,))
    found = score(save("target"), ImageSet(pixels, names, names), store, rows=np.array([0, many - 1]))
    assert np.isfinite(found).all()
    assert not np.isclose(found[0], found[1]).any()


def test_models_that_are_masked_differently_are_refused(save: Save, digits: ImageSet, store: Store) -> None:
    shadow = save("shadow", spec=SPEC.model_copy(update={"mask_ratio": 0.5}))
    with pytest.raises(MimiaError, match="masked differently"):
        score_images([save("target"), shadow], digits, ROWS, SETTINGS, COMPUTE, store, ["target", "shadow"])


@pytest.mark.parametrize(
    "change", [{"image_size": 16, "patch_size": 4}, {"channels": 3, "mean": (0.5,) * 3, "std": (0.3,) * 3}]
)
def test_model_of_other_images_is_refused(
    save: Save, digits: ImageSet, store: Store, change: dict[str, object]
) -> None:
    target = save("target", spec=SPEC.model_copy(update=change))
    with pytest.raises(MimiaError, match=r"The target takes images of the shape .* these have \(1, 8, 8\)"):
        score(target, digits, store)


def test_distances_that_are_not_finite_are_refused(save: Save, digits: ImageSet, store: Store) -> None:
    with pytest.raises(MimiaError, match=r"The target .* not finite"):
        score(save("target", scale=1e30), digits, store)
