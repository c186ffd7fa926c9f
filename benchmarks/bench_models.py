"""A training step, and scoring 64 images under 16 masks: one at a time, all masks of an image, whole batches."""

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from mimia.config.recipes import SizeName
from mimia.models.base import ModelSpec
from mimia.models.mae import MAE, SIZES
from mimia.models.masking import draw_random_masks

IMAGES, MASKS = 64, 16


def make_model(size: SizeName, image_size: int, channels: int, patch_size: int) -> MAE:
    spec = ModelSpec(
        image_size=image_size,
        channels=1 if channels == 1 else 3,
        patch_size=patch_size,
        mask_ratio=0.75,
        target_space="normalised",
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
    )
    return MAE(spec, SIZES[size], torch.Generator().manual_seed(0))


def make_batch(model: MAE, count: int, draws: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    spec = model.spec
    shape = (count, *spec.shape)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    masks = [draw_random_masks(count, spec.tokens, spec.mask_ratio, generator) for _ in range(draws)]
    return images, torch.cat(masks, dim=1)


@pytest.mark.parametrize(
    "make",
    [lambda: make_model("nano", 8, 1, 2), lambda: make_model("micro", 32, 3, 4)],
    ids=["nano on digits", "micro on 32 pixels"],
)
def test_training_step_of_100_images(benchmark: BenchmarkFixture, make: Callable[[], MAE]) -> None:
    model = make().train()
    images, masks = make_batch(model, 100, 1)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(model.loss(images, masks))
        optimizer.step()

    benchmark(step)


@pytest.mark.parametrize(
    ("images_at_once", "masks_at_once"), [(1, 1), (1, MASKS), (IMAGES // 2, MASKS)], ids=["one", "masks", "batch"]
)
def test_score(benchmark: BenchmarkFixture, images_at_once: int, masks_at_once: int) -> None:
    model = make_model("micro", 32, 3, 4).eval()
    images, masks = make_batch(model, IMAGES, MASKS)

    def score() -> None:
        with torch.inference_mode():
            for i in range(0, IMAGES, images_at_once):
                for k in range(0, MASKS, masks_at_once):
                    model.distances(
                        images[i : i + images_at_once], masks[i : i + images_at_once, k : k + masks_at_once]
                    )

    benchmark(score)
