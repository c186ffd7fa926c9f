import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mimia.config.recipes import Recipe
from mimia.config.settings import SignalSettings
from mimia.data.augmentation import augment
from mimia.data.imageset import ImageSet
from mimia.models.base import MaskedImageModel, ModelSpec, TargetSpace
from mimia.models.checkpoints import native
from mimia.models.mae import MAE, SIZES
from mimia.runtime.arrays import Bools, Pixels
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.seeds import torch_generator
from mimia.signals.base import QueryConfig
from mimia.signals.loss_neighbourhood import LossNeighbourhood, shifted
from mimia.signals.queried import QueriedModel
from mimia.signals.reconstruction import Reconstruction

MakeQuery = Callable[..., tuple[QueriedModel, QueryConfig, ImageSet]]
every_family = pytest.mark.parametrize("family", ["mae", "simmim", "swin", "beit"])
both_colours = pytest.mark.parametrize("channels", [1, 3])
FLOOR = 1e-4


def masked_errors(model: MaskedImageModel, image: Tensor, mask: Bools) -> list[float]:
    """Errors of the masked patches of one image, (C, H, W), under one mask, (L,)."""
    masks = torch.from_numpy(mask)[None, None]
    with torch.inference_mode():
        errors = model.patch_errors(model.reconstruct(image[None], masks), image[None])[0, 0]
    return [float(errors[patch]) for patch in np.flatnonzero(mask)]


def slow_neighbourhood(model: MaskedImageModel, pixels: Pixels, name: str, query: QueryConfig) -> list[float]:
    """Two logarithms for each query, mask by mask and patch by patch."""
    spec, seed, draws = model.spec, query.settings.seed, query.settings.draws
    ids, image = np.array([name]), torch.from_numpy(pixels)

    def of_ratio(ratio: float) -> ModelSpec:
        return spec.model_copy(update={"mask_ratio": ratio})

    fewer = draws // 4
    queries = [([image] * draws, spec.complementary_masks(ids, draws, seed + 1)[0])]
    queries += [([image] * fewer, of_ratio(ratio).scoring_masks(ids, fewer, seed)[0]) for ratio in (0.5, 0.9)]
    mirrored = torch.from_numpy(np.ascontiguousarray(pixels[:, :, ::-1]))
    queries.append(([mirrored] * (draws // 2), spec.scoring_masks(ids, draws // 2, seed)[0]))
    for down, across in ((0, 2), (2, 0), (-1, -2)):
        moved = torch.from_numpy(slow_shift(pixels, down, across))
        queries.append(([moved] * fewer, spec.scoring_masks(ids, fewer, seed)[0]))
    if query.recipe.augmentation == "crop":
        generator = torch_generator("cpu", seed, "crops", name)
        copies = image.expand(draws, -1, -1, -1)
        crops = augment(copies, "crop", generator, query.recipe.crop_scale)
        queries.append(([*crops], spec.scoring_masks(ids, draws, seed)[0]))
    numbers = []
    for shown, masks in queries:
        errors = [error for each, mask in zip(shown, masks, strict=True) for error in masked_errors(model, each, mask)]
        numbers.append(math.log(sum(errors) / len(errors) + FLOOR))
        numbers.append(sum(math.log(error + FLOOR) for error in errors) / len(errors))
    return numbers


def slow_shift(pixels: Pixels, down: int, across: int) -> Pixels:
    """Move an image, (C, H, W), pixel by pixel; its border pixel is a mirror."""
    moved = np.empty_like(pixels)
    _, height, width = pixels.shape
    for y, x in np.ndindex(height, width):
        row, column = (
            abs(place) if place < side else 2 * (side - 1) - place
            for place, side in ((y - down, height), (x - across, width))
        )
        moved[:, y, x] = pixels[:, row, column]
    return moved


@every_family
@both_colours
def test_distance_is_the_mean_error_of_the_masked_patches(make_query: MakeQuery, family: str, channels: int) -> None:
    queried, query, images = make_query(family, channels)
    rows = np.arange(3)
    found = Reconstruction().compute(queried, images.pixels[rows], images.ids[rows], query)
    masks = queried.model.spec.scoring_masks(images.ids[rows], 4, seed=1)
    assert found.shape == (3, 4)
    for row, draw in np.ndindex(3, 4):
        errors = masked_errors(queried.model, torch.from_numpy(images.pixels[[row]])[0], masks[row, draw])
        assert found[row, draw] == pytest.approx(sum(errors) / len(errors), rel=1e-4)
    pixels = torch.from_numpy(images.pixels[rows])
    with torch.inference_mode():
        expected = queried.model.distances(pixels, torch.from_numpy(masks))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)


@every_family
@both_colours
@pytest.mark.parametrize("augmentation", ["none", "crop"])
def test_neighbourhood_is_mean_errors_and_mean_logarithms_of_each_query(
    make_query: MakeQuery, family: str, channels: int, augmentation: str
) -> None:
    queried, query, images = make_query(family, channels)
    recipe = query.recipe.model_copy(update={"augmentation": augmentation, "crop_scale": (0.4, 0.8)})
    query = replace(query, recipe=recipe)
    rows = np.arange(3)
    found = LossNeighbourhood().compute(queried, images.pixels[rows], images.ids[rows], query)
    assert found.shape == (3, 14 if augmentation == "none" else 16)
    for row in rows:
        expected = slow_neighbourhood(queried.model, images.pixels[[row]][0], str(images.ids[row]), query)
        np.testing.assert_allclose(found[row], expected, rtol=1e-3, atol=1e-4)


@given(st.integers(4, 9), st.integers(4, 9), st.integers(-3, 3), st.integers(-3, 3), st.sampled_from([1, 3]))
@settings(max_examples=50, deadline=None)
def test_shifted_images_are_mirrored_at_their_border(
    height: int, width: int, down: int, across: int, channels: int
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, channels, height, width), dtype=np.uint8)
    expected = np.stack([slow_shift(image, down, across) for image in pixels])
    np.testing.assert_array_equal(shifted(pixels, down, across), expected)


@pytest.mark.parametrize("ratio", [0.3, 0.75])
@pytest.mark.parametrize("space", ["normalised", "patch-normalised"])
def test_images_of_one_colour_and_tiny_grids_have_finite_numbers(
    tmp_path: Path, space: TargetSpace, ratio: float
) -> None:
    spec = ModelSpec(
        image_size=8, channels=1, patch_size=4, mask_ratio=ratio, target_space=space, mean=(0.3,), std=(0.4,)
    )  # of four patches nine tenths cannot be masked and leave one
    native.save(tmp_path, MAE(spec, SIZES["nano"], torch.Generator().manual_seed(0)))
    recipe = Recipe.model_validate({"preset": "mae-tiny"})  # with crops
    compute = ComputeSettings(device="cpu", threads=1)
    pixels = np.stack([np.full((1, 8, 8), colour, dtype=np.uint8) for colour in (0, 77, 255)])
    for draws in (1, 3, 8):
        query = QueryConfig(SignalSettings(draws=draws), recipe, compute, spec)
        queried = QueriedModel("target", tmp_path, compute)
        distances, neighbourhood = (
            signal.compute(queried, pixels, np.array(["a", "b", "c"]), query)
            for signal in (Reconstruction(), LossNeighbourhood())
        )
        assert distances.shape == (3, draws)
        assert neighbourhood.shape == (3, 14)  # two numbers of seven queries
        assert np.isfinite(distances).all()
        assert np.isfinite(neighbourhood).all()


def test_blockwise_masks_may_mask_different_numbers_of_patches(make_query: MakeQuery) -> None:
    queried, query, images = make_query("beit", patch_size=1)
    rows = np.arange(20)
    masks = queried.model.spec.scoring_masks(images.ids[rows], 4, query.settings.seed)
    assert len(set(masks.sum(axis=-1).flat)) > 1
    found = Reconstruction().compute(queried, images.pixels[rows], images.ids[rows], query)
    for row, draw in np.ndindex(20, 4):
        errors = masked_errors(queried.model, torch.from_numpy(images.pixels[[row]])[0], masks[row, draw])
        assert found[row, draw] == pytest.approx(sum(errors) / len(errors), rel=1e-4)
    around = LossNeighbourhood().compute(queried, images.pixels[rows], images.ids[rows], query)
    for row in range(4):
        expected = slow_neighbourhood(queried.model, images.pixels[[row]][0], str(images.ids[row]), query)
        np.testing.assert_allclose(around[row], expected, rtol=1e-4, atol=1e-5)
