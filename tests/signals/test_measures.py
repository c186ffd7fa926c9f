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

from mimia.arrays import Bools, Floats
from mimia.audit import audit
from mimia.config import ComputeSettings, Distance, Patches, SignalSettings, read_settings
from mimia.encoders.base import ModelSpec, Reconstructor
from mimia.encoders.checkpoints import native
from mimia.encoders.mae import SIZES, Mae
from mimia.encoders.patches import patchify
from mimia.errors import MimiaError
from mimia.images.imageset import ImageSet
from mimia.signals.kinds import Asking, Subject
from mimia.signals.measures import MEASURES, refuse_unmeasurable
from mimia.signals.reconstructions import Distances
from mimia.signals.scoring import score_images
from mimia.store import Store

Ask = Callable[..., tuple[Subject, Asking, ImageSet]]
ROWS = np.arange(3)
EVERY_MEASURE: tuple[Distance, ...] = ("mse", "mae", "patch-normalised", "ssim")
every_measure = pytest.mark.parametrize("distance", EVERY_MEASURE)
every_choice = pytest.mark.parametrize("patches", get_args(Patches))


def blocks(picture: Floats, size: int) -> Iterator[Floats]:
    """Cut a picture, (C, H, W), into its patches, (C, size, size), row by row."""
    _, height, width = picture.shape
    for top in range(0, height, size):
        for left in range(0, width, size):
            yield picture[:, top : top + size, left : left + size]


def similarity_at(first: Floats, second: Floats, row: int, column: int) -> float:
    """SSIM of two pictures of one channel, (H, W), at a pixel, window point by window point (equation 13)."""
    points = []
    for down in range(-5, 6):
        for across in range(-5, 6):
            place = tuple(
                abs(at) if at < side else 2 * (side - 1) - at
                for at, side in zip((row + down, column + across), first.shape, strict=True)
            )
            points.append((math.exp(-(down**2 + across**2) / (2 * 1.5**2)), first[place], second[place]))
    weights, a, b = np.array(points).T
    weights /= weights.sum()
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    variance_a, variance_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
    covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
    upper = (2 * mean_a * mean_b + 0.01**2) * (2 * covariance + 0.03**2)
    lower = (mean_a**2 + mean_b**2 + 0.01**2) * (variance_a + variance_b + 0.03**2)
    return float(upper / lower)


def slow_distances(distance: Distance, spec: ModelSpec, predicted: Floats, true: Floats) -> list[float]:
    """Give the distance of each patch of two raw pictures in [0, 1], (C, H, W)."""
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
    """Give raw pictures, (B, C, H, W), as data-set-normalised patches, (B, L, p*p*C)."""
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


@every_measure
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.sampled_from([(6, 2), (6, 3), (8, 2), (8, 4), (12, 4)]),
    channels=st.sampled_from([1, 3]),
    noise=st.sampled_from([0.01, 0.1, 1.0]),
)
@settings(max_examples=10, deadline=None)
def test_measures_are_their_formulas(
    distance: Distance, seed: int, sizes: tuple[int, int], channels: int, noise: float
) -> None:
    spec = spec_of(*sizes, channels)
    generator = np.random.default_rng(seed)
    shape = (2, channels, spec.image_size, spec.image_size)
    images = generator.integers(0, 256, shape, dtype=np.uint8)
    predicted = images[:, None] / 255 + noise * generator.normal(size=(2, 2, *shape[1:]))  # some beyond [0, 1]
    patches = normalised(spec, predicted.reshape(4, *shape[1:])).view(2, 2, spec.tokens, -1)
    found = MEASURES[distance](spec, patches, torch.from_numpy(images))
    assert found.shape == (2, 2, spec.tokens)
    for image, draw in np.ndindex(2, 2):
        expected = slow_distances(distance, spec, predicted[image, draw], images[image] / 255)
        np.testing.assert_allclose(found[image, draw], expected, rtol=1e-3, atol=1e-5)


@every_measure
def test_perfect_prediction_has_no_distance_and_no_distance_is_negative(distance: Distance, digits: ImageSet) -> None:
    spec = spec_of(8, 2, 1)
    images = torch.tensor(digits.pixels[:200])  # with patches of one colour
    patches = normalised(spec, digits.pixels[:200] / 255).unsqueeze(1)
    found = MEASURES[distance](spec, patches, images)
    assert float(found.min()) >= 0
    np.testing.assert_allclose(found, np.zeros(found.shape), atol=1e-5)


def chosen_patches(mask: Bools, patches: Patches) -> list[int]:
    return [patch for patch, hidden in enumerate(mask) if patches == "all" or hidden == (patches == "masked")]


def other(asking: Asking, distance: Distance, patches: Patches) -> Asking:
    changes = {"distance": distance, "patches": patches}
    return replace(asking, settings=asking.settings.model_copy(update=changes))


def predicted_pictures(model: Reconstructor, images: ImageSet, masks: Bools) -> Floats:
    """Give the predictions of all patches as raw pictures, (B, K, C, H, W)."""
    with torch.inference_mode():
        pictures: Floats = model.pictures(torch.from_numpy(images.pixels[ROWS]), torch.from_numpy(masks)).numpy()
    return pictures


@every_measure
@every_choice
@pytest.mark.parametrize("family", ["mae", "simmim", "swin"])
def test_distance_is_the_mean_over_the_chosen_patches_with_the_others_as_they_are(
    ask: Ask, family: str, distance: Distance, patches: Patches
) -> None:
    subject, asking, images = ask(family, patch_size=2)
    spec = subject.model.spec
    found = Distances().measure(subject, images.pixels[ROWS], images.ids[ROWS], other(asking, distance, patches))
    masks = spec.scoring_masks(images.ids[ROWS], 4, seed=1)
    pictures = predicted_pictures(subject.model, images, masks)
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
def test_loss_of_training_is_had_of_other_patches_too(ask: Ask, family: str, patches: Patches) -> None:
    subject, asking, images = ask(family)
    found = Distances().measure(subject, images.pixels[ROWS], images.ids[ROWS], other(asking, "training", patches))
    masks = subject.model.spec.scoring_masks(images.ids[ROWS], 4, seed=1)
    pixels = torch.from_numpy(images.pixels[ROWS])
    with torch.inference_mode():
        errors = subject.model.patch_errors(subject.model.reconstruct(pixels, torch.from_numpy(masks)), pixels)
    for row, draw in np.ndindex(3, 4):
        chosen = chosen_patches(masks[row, draw], patches)
        assert found[row, draw] == pytest.approx(float(errors[row, draw][chosen].mean()), rel=1e-4)


@pytest.mark.parametrize("family", ["mae", "simmim", "swin", "beit"])
def test_default_is_the_loss_of_training_to_the_last_bit_under_its_old_name(ask: Ask, family: str) -> None:
    subject, asking, images = ask(family)
    found = Distances().measure(subject, images.pixels[ROWS], images.ids[ROWS], asking)
    masks = torch.from_numpy(asking.spec.scoring_masks(images.ids[ROWS], 4, seed=1))
    with torch.inference_mode():
        expected = subject.model.distances(torch.from_numpy(images.pixels[ROWS]), masks)
    np.testing.assert_array_equal(found, expected)
    assert Distances().question(asking).keys() == {"seed", "grid", "masking", "mask_ratio", "cell", "draws"}


def test_every_distance_is_a_question_of_its_own(ask: Ask) -> None:
    _, asking, _ = ask("mae")
    questions = [
        dict(Distances().question(other(asking, distance, patches)))
        for distance in get_args(Distance)
        for patches in get_args(Patches)
    ]
    assert all(one != another for place, one in enumerate(questions) for another in questions[:place])


@pytest.mark.parametrize(("family", "distance"), [("mae", "mse"), ("simmim", "mae"), ("swin", "mae")])
def test_loss_of_a_family_is_one_of_the_measures(ask: Ask, family: str, distance: Distance) -> None:
    subject, asking, images = ask(family)
    found, expected = (
        Distances().measure(subject, images.pixels[ROWS], images.ids[ROWS], other(asking, each, "masked"))
        for each in (distance, "training")
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@every_measure
def test_predictions_normalised_by_patch_are_measured_as_the_pictures_that_they_are(
    tmp_path: Path, coloured: ImageSet, distance: Distance
) -> None:
    spec = spec_of(8, 4, 3).model_copy(update={"target_space": "patch-normalised"})
    native.save(tmp_path, Mae(spec, SIZES["nano"], torch.Generator().manual_seed(0)))
    compute = ComputeSettings(device="cpu", threads=1)
    subject = Subject("target", tmp_path, compute)
    recipe = read_settings(None, {}).recipe
    asking = Asking(SignalSettings(draws=2, distance=distance, patches="all"), recipe, compute, spec)
    found = Distances().measure(subject, coloured.pixels[ROWS], coloured.ids[ROWS], asking)
    masks = spec.scoring_masks(coloured.ids[ROWS], 2, seed=0)
    pictures = predicted_pictures(subject.model, coloured, masks)
    for row, draw in np.ndindex(3, 2):
        expected = slow_distances(distance, spec, pictures[row, draw], coloured.pixels[row] / 255)
        assert found[row, draw] == pytest.approx(np.mean(expected), rel=1e-3)
    if distance == "patch-normalised":
        trained = Distances().measure(
            subject, coloured.pixels[ROWS], coloured.ids[ROWS], other(asking, "training", "all")
        )
        np.testing.assert_allclose(found, trained, rtol=1e-4)


@every_measure
def test_distances_depend_neither_on_batches_nor_on_the_order_of_images(
    ask: Ask, store: Store, tmp_path: Path, distance: Distance
) -> None:
    subject, asking, images = ask("mae")
    asking = other(asking, distance, "masked")
    rows = np.arange(20)
    shuffled = np.random.default_rng(0).permutation(20)
    small = replace(asking, settings=asking.settings.model_copy(update={"batch_size": 4}))
    together = score_images(["distances"], [subject], images, rows, asking, store)["distances"][0]
    apart = score_images(["distances"], [subject], images, rows[shuffled], small, Store(tmp_path / "other"))
    np.testing.assert_allclose(apart["distances"][0], together[shuffled], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("trained_here", [True, False])
def test_model_of_tokens_has_no_distance_of_pixels(ask: Ask, tmp_path: Path, trained_here: bool) -> None:
    subject, _, _ = ask("beit")
    sides = {"members": "digits", "nonmembers": "digits"}
    target = {} if trained_here else {"target": str(subject.source), "data": sides}
    values = {"store": str(tmp_path), "recipe": {"preset": "beit-nano"}, "signals": {"distance": "ssim"}, **target}
    with pytest.raises(MimiaError, match="ssim is one of pixels, and this model predicts visual tokens: leave out"):
        audit(read_settings(None, values))
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
        refuse_unmeasurable(spec_of(size, patch_size, 1), distance)
    refuse_unmeasurable(spec_of(6, 1, 3), distance)
    for other_distance in {*get_args(Distance)} - {distance}:
        refuse_unmeasurable(spec_of(size, patch_size, 1), other_distance)
