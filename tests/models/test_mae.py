import math
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import ViTMAEForPreTraining

from mimia.config.recipes import Recipe
from mimia.models.base import ModelSpec, TargetSpace
from mimia.models.checkpoints import native
from mimia.models.checkpoints.export import export
from mimia.models.mae import MAE, SIZES, MAEArchitecture
from mimia.models.masking import random_masks
from mimia.models.patches import patchify, unpatchify
from mimia.models.vit import sincos_positions

WIDE = MAEArchitecture(width=768, depth=1, heads=12, decoder_width=512, decoder_depth=1, decoder_heads=16)
SPACES: tuple[TargetSpace, ...] = ("normalised", "patch-normalised")
Channels = Literal[1, 3]


def make_spec(
    image_size: int = 8,
    patch_size: int = 2,
    channels: Channels = 1,
    ratio: float = 0.75,
    space: TargetSpace = "normalised",
) -> ModelSpec:
    return ModelSpec(
        image_size=image_size,
        channels=channels,
        patch_size=patch_size,
        mask_ratio=ratio,
        target_space=space,
        mean=(0.5, 0.4, 0.3)[:channels],
        std=(0.2, 0.25, 0.3)[:channels],
    )


def make_model(spec: ModelSpec, architecture: MAEArchitecture = SIZES["nano"]) -> MAE:
    """Make a model in which no two parameters are alike, so that none can stand in for another."""
    generator = torch.Generator().manual_seed(0)
    model = MAE(spec, architecture, generator).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn(value.shape, generator=generator))
    return model


def make_images(spec: ModelSpec, count: int) -> Tensor:
    shape = (count, *spec.shape)
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def make_masks(spec: ModelSpec, count: int, draws: int) -> Tensor:
    ids = np.array([f"image {number}" for number in range(count)])
    return torch.from_numpy(random_masks(ids, draws, spec.tokens, spec.mask_ratio, seed=0))


def as_transformers(model: MAE, directory: Path) -> ViTMAEForPreTraining:
    training = native.Training(
        recipe=Recipe.model_validate({"preset": "mae-nano"}),
        seed=0,
        images=0,
        images_fingerprint="",
        losses=(),
        seconds=0,
        hardware={},
        versions={},
    )
    native.save(directory / "mimia", model, training)
    export(directory / "mimia", directory / "transformers")
    opened = ViTMAEForPreTraining.from_pretrained(directory / "transformers")
    assert isinstance(opened, ViTMAEForPreTraining)
    return opened


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(
    ("architecture", "image_size", "patch_size", "channels", "ratio"),
    [
        pytest.param(SIZES["nano"], 8, 2, 1, 0.75, id="nano"),
        pytest.param(SIZES["nano"], 15, 3, 3, 0.5, id="nano of 5 by 5 patches"),
        pytest.param(SIZES["micro"], 32, 4, 3, 0.9, id="micro"),
        pytest.param(WIDE, 64, 16, 3, 0.75, id="as wide as ViT-B"),
    ],
)
def test_tokens_predictions_and_distances_are_those_of_transformers(
    tmp_path: Path,
    architecture: MAEArchitecture,
    image_size: int,
    patch_size: int,
    channels: Channels,
    ratio: float,
    space: TargetSpace,
) -> None:
    spec = make_spec(image_size, patch_size, channels, ratio, space)
    model = make_model(spec, architecture)
    reference = as_transformers(model, tmp_path)
    images, masks = make_images(spec, 2), make_masks(spec, 2, draws=2)
    in_order = torch.arange(spec.tokens) / spec.tokens  # transformers keeps the patches of the lowest noise
    with torch.inference_mode():
        tokens, prediction = model.tokens(images, masks), model.reconstruct(images, masks)
        distances, loss = model.distances(images, masks), model.loss(images, masks)
        for image, draw in np.ndindex(2, 2):
            pixels = spec.normalise(images[image : image + 1])
            noise = (masks[image, draw] + in_order / 2)[None]
            expected = reference(pixels, noise=noise)
            assert torch.equal(expected.mask[0].bool(), masks[image, draw])
            torch.testing.assert_close(prediction[image, draw], expected.logits[0], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(distances[image, draw], expected.loss, rtol=1e-5, atol=1e-5)
            encoded = reference.vit(pixels, noise=noise).last_hidden_state[0, 1:]
            torch.testing.assert_close(tokens[image, draw], encoded, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(loss, distances.mean())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("space", SPACES)
def test_distance_is_the_mean_squared_error_over_the_masked_patches(space: TargetSpace, channels: Channels) -> None:
    spec = make_spec(channels=channels, space=space)
    model = make_model(spec)
    images, masks = make_images(spec, 2), make_masks(spec, 2, draws=2)
    images[0, :, :2, :2] = 77  # a patch of one colour
    with torch.inference_mode():
        prediction, distances = model.reconstruct(images, masks).double(), model.distances(images, masks)
    for image, draw in np.ndindex(2, 2):
        errors = []
        for patch in torch.nonzero(masks[image, draw]).flatten().tolist():
            row, column = divmod(patch, spec.grid[1])
            values = [
                (int(images[image, channel, 2 * row + p, 2 * column + q]) / 255 - spec.mean[channel])
                / spec.std[channel]
                for p in range(2)
                for q in range(2)
                for channel in range(channels)
            ]
            if space == "patch-normalised":
                mean = sum(values) / len(values)
                variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
                values = [(value - mean) / math.sqrt(variance + 1e-6) for value in values]
            predicted = prediction[image, draw, patch].tolist()
            errors.append(sum((a - b) ** 2 for a, b in zip(predicted, values, strict=True)) / len(values))
        assert distances[image, draw].item() == pytest.approx(sum(errors) / len(errors), rel=1e-5)


def test_masks_that_leave_unequal_numbers_visible_are_refused() -> None:
    spec = make_spec()
    masks = make_masks(spec, 2, draws=2)
    masks[1, 1, masks[1, 1].nonzero()[0]] = False
    with pytest.raises(ValueError, match="same number of patches"):
        make_model(spec).distances(make_images(spec, 2), masks)


def test_initial_weights_follow_from_the_generator_alone() -> None:
    spec = make_spec()

    def weights(seed: int) -> dict[str, Tensor]:
        return MAE(spec, SIZES["nano"], torch.Generator().manual_seed(seed)).state_dict()

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    random = {name for name in first if not torch.equal(first[name], other[name])}
    matrices = {name for name in first if first[name].ndim > 1 and "pos_embed" not in name}
    assert random == matrices
    for name in matrices - {"cls_token", "mask_token"}:  # Xavier's uniform distribution
        matrix = first[name].flatten(1)
        bound = math.sqrt(6 / sum(matrix.shape))
        assert 0.95 * bound < matrix.abs().max() <= bound


GRIDS = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(st.integers(1, 3), GRIDS, st.integers(1, 5), st.sampled_from([1, 3, 13]), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_patches_are_cut_row_by_row_and_put_together_again(
    batch: int, grid: tuple[int, int], patch_size: int, channels: int, seed: int
) -> None:
    rows, columns = grid
    shape = (batch, channels, rows * patch_size, columns * patch_size)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    patches = patchify(images, patch_size)
    for patch in range(rows * columns):
        top, left = (patch_size * place for place in divmod(patch, columns))
        block = images[:, :, top : top + patch_size, left : left + patch_size]
        assert torch.equal(patches[:, patch], block.permute(0, 2, 3, 1).flatten(1))
    assert torch.equal(unpatchify(patches, patch_size, grid), images)


@pytest.mark.parametrize(("width", "grid"), [(8, 3), (64, 4), (192, 5)])
def test_positions_are_those_of_the_official_mae(width: int, grid: int) -> None:
    positions = sincos_positions(width, (grid, grid))
    assert positions.shape == (1, 1 + grid**2, width)
    assert not positions[0, 0].any()
    for row in range(grid):
        for column in range(grid):
            expected = []
            for place in (column, row):  # "here w goes first"
                angles = [place / 10000 ** (k / (width / 4)) for k in range(width // 4)]
                expected += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
            assert positions[0, 1 + row * grid + column].tolist() == pytest.approx(expected, abs=1e-6)
