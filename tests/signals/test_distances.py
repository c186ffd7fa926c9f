"""Distances other than the loss of training: each by its formula, over the patches that are chosen."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mimia.config.settings import Distance, Patches, SignalSettings, read_settings
from mimia.data.imageset import ImageSet
from mimia.jobs.audit import audit
from mimia.models.base import MaskedImageModel, ModelSpec
from mimia.models.checkpoints import native
from mimia.models.mae import MAE, SIZES
from mimia.models.patches import patchify
from mimia.runtime.arrays import Bools, Floats
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store
from mimia.signals.base import QueryConfig
from mimia.signals.distances import DISTANCES, check_distance
from mimia.signals.extract import extract_signals
from mimia.signals.queried import QueriedModel
from mimia.signals.reconstruction import Reconstruction

MakeQuery = Callable[..., tuple[QueriedModel, QueryConfig, ImageSet]]
ROWS = np.arange(3)
EVERY_DISTANCE: tuple[Distance, ...] = ("mse", "mae", "patch-normalised", "ssim")
every_distance = pytest.mark.parametrize("distance", EVERY_DISTANCE)
every_choice = pytest.mark.parametrize("patches", get_args(Patches))


def blocks(picture: Floats, size: int) -> Iterator[Floats]:
    """Cut a picture, (C, H, W), into its patches, (C, size, size), row by row."""
    _, height, width = picture.shape
    for top in range(0, height, size):
        for left in range(0, width, size):
            yield picture[:, top : top + size, left : left + size]


def similarity_at(first: Floats, second: Floats, row: int, column: int) -> float:
    """SSIM of two pictures of one channel, (H, W), at a pixel, from its window (equation 13)."""
    steps = np.arange(-5, 6)
    rows, columns = (
        np.where(at < side, np.abs(at), 2 * (side - 1) - at)
        for at, side in zip((row + steps, column + steps), first.shape, strict=True)
    )
    weights = np.exp(-(steps[:, None] ** 2 + steps**2) / (2 * 1.5**2))
    a, b = first[np.ix_(rows, columns)], second[np.ix_(rows, columns)]
    weights = weights / weights.sum()
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    variance_a, variance_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
    covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
    upper = (2 * mean_a * mean_b + 0.01**2) * (2 * covariance + 0.03**2)
    lower = (mean_a**2 + mean_b**2 + 0.01**2) * (variance_a + variance_b + 0.03**2)
    return float(upper / lower)


def slow_distances(distance: Distance, spec: ModelSpec, predicted: Floats, true: Floats) -> list[float]:
    """Return the distance of each patch of two raw pictures in [0, 1], (C, H, W)."""
    if distance == "ssim":
        similarity = np.array(
            [
                [[similarity_at(a, b, row, column) for column in range(a.shape[1])] for row in range(a.shape[0])]
                for a, b in zip(predicted, true, strict=True)
            ]
        )
        return [1 - block.mean() for block in blocks(similarity, spec.patch_size)]
    mean, std = (np.array(values).reshape(-1, 1, 1) for values in (spec.mean, spec.std))
    pairs = zip(
        blocks((predicted - mean) / std, spec.patch_size), blocks((true - mean) / std, spec.patch_size), strict=True
    )
    if distance == "mae":
        return [np.abs(a - b).mean() for a, b in pairs]
    if distance == "mse":
        return [((a - b) ** 2).mean() for a, b in pairs]
    found = []
    for a, b in pairs:
        spread = math.sqrt(b.var(ddof=1) + 1e-6)
        found.append((((a - b.mean()) / spread - (b - b.mean()) / spread) ** 2).mean())
    return found


def normalised(spec: ModelSpec, pictures: Floats) -> torch.Tensor:
    """Return raw pictures, (B, C, H, W), as data-set-normalised patches, (B, L, p*p*C)."""
    return patchify(spec.normalise(torch.tensor(pictures, dtype=torch.float32)), spec.patch_size)


def spec_of(size: int, patch_size: int, channels: int) -> ModelSpec:
    return ModelSpec.model_validate(
        {
            "image_size": size,
            "channels": channels,
            "patch_size": patch_size,
            "mask_ratio": 0.5,
            "target_space": "normalised",
            "mean": (0.2, 0.5, 0.4)[:channels],
            "std": (0.3, 0.2, 0.25)[:channels],
        }
    )


@every_distance
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.sampled_from([(6, 2), (6, 3), (8, 2), (8, 4)]),
    channels=st.sampled_from([1, 3]),
    noise=st.sampled_from([0.01, 0.1, 1.0]),
)
@settings(max_examples=6, deadline=None)
def test_distances_are_their_formulas(
    distance: Distance, seed: int, sizes: tuple[int, int], channels: int, noise: float
) -> None:
    spec = spec_of(*sizes, channels)
    generator = np.random.default_rng(seed)
    shape = (2, *spec.shape)
    images = generator.integers(0, 256, shape, dtype=np.uint8)
    predicted = images[:, None] / 255 + noise * generator.normal(size=(2, 2, *shape[1:]))  # some beyond [0, 1]
    patches = normalised(spec, predicted.reshape(4, *shape[1:])).view(2, 2, spec.tokens, -1)
    found = DISTANCES[distance](spec, patches, torch.from_numpy(images))
    assert found.shape == (2, 2, spec.tokens)
    for image, draw in np.ndindex(2, 2):
        expected = slow_distances(distance, spec, predicted[image, draw], images[image] / 255)
        np.testing.assert_allclose(found[image, draw], expected, rtol=1e-3, atol=1e-5)


@every_distance
def test_perfect_prediction_has_no_distance_and_no_distance_is_negative(distance: Distance, digits: ImageSet) -> None:
    spec = spec_of(8, 2, 1)
    images = torch.tensor(digits.pixels[:200])  # with patches of one colour
    patches = normalised(spec, digits.pixels[:200] / 255).unsqueeze(1)
    found = DISTANCES[distance](spec, patches, images)
    assert float(found.min()) >= 0
    np.testing.assert_allclose(found, np.zeros(found.shape), atol=1e-5)
    nearly = patches + 1e-7 * torch.randn(patches.shape, generator=torch.Generator().manual_seed(0))
    assert float(DISTANCES[distance](spec, nearly, images).min()) >= 0  # whatever rounding does


def chosen_patches(mask: Bools, patches: Patches) -> list[int]:
    return [patch for patch, hidden in enumerate(mask) if patches == "all" or hidden == (patches == "masked")]


def other(query: QueryConfig, distance: Distance, patches: Patches) -> QueryConfig:
    changes = {"distance": distance, "patches": patches}
    return replace(query, settings=query.settings.model_copy(update=changes))


def predicted_pictures(model: MaskedImageModel, images: ImageSet, masks: Bools) -> Floats:
    """Return the predictions of all patches as raw pictures, (B, K, C, H, W)."""
    with torch.inference_mode():
        pictures: Floats = model.pictures(torch.from_numpy(images.pixels[ROWS]), torch.from_numpy(masks)).numpy()
    return pictures


@every_distance
@every_choice
@pytest.mark.parametrize("family", ["mae", "simmim", "swin"])
def test_distance_is_the_mean_over_the_chosen_patches_with_the_others_as_they_are(
    make_query: MakeQuery, family: str, distance: Distance, patches: Patches
) -> None:
    queried, query, images = make_query(family, patch_size=2)
    spec = queried.model.spec
    found = Reconstruction().compute(queried, images.pixels[ROWS], images.ids[ROWS], other(query, distance, patches))
    masks = spec.scoring_masks(images.ids[ROWS], 4, seed=1)
    pictures = predicted_pictures(queried.model, images, masks)
    assert found.shape == (3, 4)
    for row, draw in [(0, 0), (1, 3), (2, 1)]:
        true = images.pixels[row] / 255
        chosen = chosen_patches(masks[row, draw], patches)
        composed = true.copy()
        for place, (block, prediction) in enumerate(
            zip(blocks(composed, spec.patch_size), blocks(pictures[row, draw], spec.patch_size), strict=True)
        ):
            if place in chosen:
                block[:] = prediction
        expected = slow_distances(distance, spec, composed, true)
        assert found[row, draw] == pytest.approx(np.mean([expected[place] for place in chosen]), rel=1e-3)


@every_choice
@pytest.mark.parametrize("family", ["mae", "simmim", "swin", "beit"])
def test_loss_of_training_is_computed_for_other_patches_too(
    make_query: MakeQuery, family: str, patches: Patches
) -> None:
    queried, query, images = make_query(family)
    found = Reconstruction().compute(queried, images.pixels[ROWS], images.ids[ROWS], other(query, "training", patches))
    masks = queried.model.spec.scoring_masks(images.ids[ROWS], 4, seed=1)
    pixels = torch.from_numpy(images.pixels[ROWS])
    with torch.inference_mode():
        errors = queried.model.patch_errors(queried.model.reconstruct(pixels, torch.from_numpy(masks)), pixels)
    for row, draw in np.ndindex(3, 4):
        chosen = chosen_patches(masks[row, draw], patches)
        assert found[row, draw] == pytest.approx(float(errors[row, draw][chosen].mean()), rel=1e-4)


@pytest.mark.parametrize("family", ["mae", "simmim", "swin", "beit"])
def test_default_is_the_loss_of_training_to_the_last_bit(make_query: MakeQuery, family: str) -> None:
    queried, query, images = make_query(family)
    found = Reconstruction().compute(queried, images.pixels[ROWS], images.ids[ROWS], query)
    masks = torch.from_numpy(query.spec.scoring_masks(images.ids[ROWS], 4, seed=1))
    with torch.inference_mode():
        expected = queried.model.distances(torch.from_numpy(images.pixels[ROWS]), masks)
    np.testing.assert_array_equal(found, expected)
    assert Reconstruction().cache_key(query).keys() == {"seed", "grid", "masking", "mask_ratio", "cell", "draws"}


def test_every_distance_has_a_cache_key_of_its_own(make_query: MakeQuery) -> None:
    _, query, _ = make_query("mae")
    queries = [
        dict(Reconstruction().cache_key(other(query, distance, patches)))
        for distance in get_args(Distance)
        for patches in get_args(Patches)
    ]
    assert all(one != another for place, one in enumerate(queries) for another in queries[:place])


@pytest.mark.parametrize(("family", "distance"), [("mae", "mse"), ("simmim", "mae"), ("swin", "mae")])
def test_loss_of_a_family_is_one_of_the_distances(make_query: MakeQuery, family: str, distance: Distance) -> None:
    queried, query, images = make_query(family)
    found, expected = (
        Reconstruction().compute(queried, images.pixels[ROWS], images.ids[ROWS], other(query, each, "masked"))
        for each in (distance, "training")
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@every_distance
def test_predictions_normalised_by_patch_are_measured_as_the_pictures_that_they_are(
    tmp_path: Path, coloured: ImageSet, distance: Distance
) -> None:
    spec = spec_of(8, 4, 3).model_copy(update={"target_space": "patch-normalised"})
    native.save(tmp_path, MAE(spec, SIZES["nano"], torch.Generator().manual_seed(0)))
    compute = ComputeSettings(device="cpu", threads=1)
    queried = QueriedModel("target", tmp_path, compute)
    recipe = read_settings(None, {}).recipe
    query = QueryConfig(SignalSettings(draws=2, distance=distance, patches="all"), recipe, compute, spec)
    found = Reconstruction().compute(queried, coloured.pixels[ROWS], coloured.ids[ROWS], query)
    masks = spec.scoring_masks(coloured.ids[ROWS], 2, seed=0)
    pictures = predicted_pictures(queried.model, coloured, masks)
    for row, draw in np.ndindex(3, 2):
        expected = slow_distances(distance, spec, pictures[row, draw], coloured.pixels[row] / 255)
        assert found[row, draw] == pytest.approx(np.mean(expected), rel=1e-3)
    if distance == "patch-normalised":
        trained = Reconstruction().compute(
            queried, coloured.pixels[ROWS], coloured.ids[ROWS], other(query, "training", "all")
        )
        np.testing.assert_allclose(found, trained, rtol=1e-4)


@every_distance
def test_distances_depend_neither_on_batches_nor_on_the_order_of_images(
    make_query: MakeQuery, store: Store, tmp_path: Path, distance: Distance
) -> None:
    queried, query, images = make_query("mae")
    query = other(query, distance, "masked")
    rows = np.arange(20)
    shuffled = np.random.default_rng(0).permutation(20)
    small = replace(query, settings=query.settings.model_copy(update={"batch_size": 4}))
    together = extract_signals(["reconstruction"], [queried], images, rows, query, store)["reconstruction"][0]
    apart = extract_signals(["reconstruction"], [queried], images, rows[shuffled], small, Store(tmp_path / "other"))
    np.testing.assert_allclose(apart["reconstruction"][0], together[shuffled], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("trained_here", [True, False])
def test_model_of_tokens_has_no_distance_of_pixels(make_query: MakeQuery, tmp_path: Path, trained_here: bool) -> None:
    queried, _, _ = make_query("beit")
    sides = {"members": "digits", "nonmembers": "digits"}
    target = {} if trained_here else {"target": str(queried.source), "data": sides}
    values = {"store": str(tmp_path), "recipe": {"preset": "beit-nano"}, "signals": {"distance": "ssim"}, **target}
    with pytest.raises(MimiaError, match="ssim compares pixels, and this model predicts visual tokens: leave out"):
        audit(settings=read_settings(None, values))
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("distance", "sizes", "reason"),
    [
        ("patch-normalised", (8, 1), "a single number have no variance"),
        ("ssim", (4, 2), "more than 5 pixels along a side"),
    ],
)
def test_what_is_too_small_for_a_distance_is_refused_and_no_more(
    distance: Distance, sizes: tuple[int, int], reason: str
) -> None:
    size, patch_size = sizes
    with pytest.raises(MimiaError, match=reason):
        check_distance(spec_of(size, patch_size, 1), distance)
    check_distance(spec_of(6, 1, 3), distance)
    for other_distance in {*get_args(Distance)} - {distance}:
        check_distance(spec_of(size, patch_size, 1), other_distance)
