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

from mimia.arrays import Bools, Pixels
from mimia.config import ComputeSettings, SignalSettings
from mimia.encoders.base import ModelSpec, Reconstructor, TargetSpace
from mimia.encoders.checkpoints import native
from mimia.encoders.mae import SIZES, Mae
from mimia.images.augment import augment
from mimia.images.imageset import ImageSet
from mimia.recipes import Recipe
from mimia.seeds import torch_generator
from mimia.signals.kinds import Asking, Subject
from mimia.signals.reconstructions import Distances, Surroundings, shifted

Ask = Callable[..., tuple[Subject, Asking, ImageSet]]
every_family = pytest.mark.parametrize("family", ["mae", "simmim", "swin", "beit"])
both_colours = pytest.mark.parametrize("channels", [1, 3])
FLOOR = 1e-4


def masked_errors(model: Reconstructor, image: Tensor, mask: Bools) -> list[float]:
    """Errors of the masked patches of one image, (C, H, W), under one mask, (L,)."""
    masks = torch.from_numpy(mask)[None, None]
    with torch.inference_mode():
        errors = model.patch_errors(model.reconstruct(image[None], masks), image[None])[0, 0]
    return [float(errors[patch]) for patch in np.flatnonzero(mask)]


def slow_surroundings(model: Reconstructor, pixels: Pixels, name: str, asking: Asking) -> list[float]:
    """Two logarithms for each question, mask by mask and patch by patch."""
    spec, seed, draws = model.spec, asking.settings.seed, asking.settings.draws
    ids, image = np.array([name]), torch.from_numpy(pixels)

    def of_ratio(ratio: float) -> ModelSpec:
        return spec.model_copy(update={"mask_ratio": ratio})

    fewer = draws // 4
    questions = [([image] * draws, spec.complementary_masks(ids, draws, seed + 1)[0])]
    questions += [([image] * fewer, of_ratio(ratio).scoring_masks(ids, fewer, seed)[0]) for ratio in (0.5, 0.9)]
    mirrored = torch.from_numpy(np.ascontiguousarray(pixels[:, :, ::-1]))
    questions.append(([mirrored] * (draws // 2), spec.scoring_masks(ids, draws // 2, seed)[0]))
    for down, across in ((0, 2), (2, 0), (-1, -2)):
        moved = torch.from_numpy(slow_shift(pixels, down, across))
        questions.append(([moved] * fewer, spec.scoring_masks(ids, fewer, seed)[0]))
    if asking.recipe.augmentation == "crop":
        generator = torch_generator("cpu", seed, "crops", name)
        copies = image.expand(draws, -1, -1, -1)
        crops = augment(copies, "crop", generator, asking.recipe.crop_area)
        questions.append(([*crops], spec.scoring_masks(ids, draws, seed)[0]))
    numbers = []
    for shown, masks in questions:
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
def test_distance_is_the_mean_error_of_the_masked_patches(ask: Ask, family: str, channels: int) -> None:
    subject, asking, images = ask(family, channels)
    rows = np.arange(3)
    found = Distances().measure(subject, images.pixels[rows], images.ids[rows], asking)
    masks = subject.model.spec.scoring_masks(images.ids[rows], 4, seed=1)
    assert found.shape == (3, 4)
    for row, draw in np.ndindex(3, 4):
        errors = masked_errors(subject.model, torch.from_numpy(images.pixels[[row]])[0], masks[row, draw])
        assert found[row, draw] == pytest.approx(sum(errors) / len(errors), rel=1e-4)
    pixels = torch.from_numpy(images.pixels[rows])
    with torch.inference_mode():
        expected = subject.model.distances(pixels, torch.from_numpy(masks))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)


@every_family
@both_colours
@pytest.mark.parametrize("augmentation", ["none", "crop"])
def test_surroundings_are_mean_errors_and_mean_logarithms_of_each_question(
    ask: Ask, family: str, channels: int, augmentation: str
) -> None:
    subject, asking, images = ask(family, channels)
    recipe = asking.recipe.model_copy(update={"augmentation": augmentation, "crop_area": (0.4, 0.8)})
    asking = replace(asking, recipe=recipe)
    rows = np.arange(3)
    found = Surroundings().measure(subject, images.pixels[rows], images.ids[rows], asking)
    assert found.shape == (3, 14 if augmentation == "none" else 16)
    for row in rows:
        expected = slow_surroundings(subject.model, images.pixels[[row]][0], str(images.ids[row]), asking)
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
    native.save(tmp_path, Mae(spec, SIZES["nano"], torch.Generator().manual_seed(0)))
    recipe = Recipe.model_validate({"preset": "mae-tiny"})  # with crops
    compute = ComputeSettings(device="cpu", threads=1)
    pixels = np.stack([np.full((1, 8, 8), colour, dtype=np.uint8) for colour in (0, 77, 255)])
    for draws in (1, 3, 8):
        asking = Asking(SignalSettings(draws=draws), recipe, compute, spec)
        subject = Subject("target", tmp_path, compute)
        distances, surroundings = (
            kind.measure(subject, pixels, np.array(["a", "b", "c"]), asking) for kind in (Distances(), Surroundings())
        )
        assert distances.shape == (3, draws)
        assert surroundings.shape == (3, 14)  # two numbers of seven questions
        assert np.isfinite(distances).all()
        assert np.isfinite(surroundings).all()


def test_blockwise_masks_may_mask_different_numbers_of_patches(ask: Ask) -> None:
    subject, asking, images = ask("beit", patch_size=1)
    rows = np.arange(20)
    masks = subject.model.spec.scoring_masks(images.ids[rows], 4, asking.settings.seed)
    assert len(set(masks.sum(axis=-1).flat)) > 1
    found = Distances().measure(subject, images.pixels[rows], images.ids[rows], asking)
    for row, draw in np.ndindex(20, 4):
        errors = masked_errors(subject.model, torch.from_numpy(images.pixels[[row]])[0], masks[row, draw])
        assert found[row, draw] == pytest.approx(sum(errors) / len(errors), rel=1e-4)
    around = Surroundings().measure(subject, images.pixels[rows], images.ids[rows], asking)
    for row in range(4):
        expected = slow_surroundings(subject.model, images.pixels[[row]][0], str(images.ids[row]), asking)
        np.testing.assert_allclose(around[row], expected, rtol=1e-4, atol=1e-5)
