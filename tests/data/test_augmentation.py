import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor

from mimia.config.recipes import Augmentation
from mimia.data.augmentation import augment, random_crops

MAE_AREA = (0.2, 1.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_images(count: int, side: int = 6) -> Tensor:
    return torch.randint(256, (count, 3, side, side), dtype=torch.uint8, generator=seeded(99))


def keys_kernel(distance: float) -> float:
    """Weigh a pixel by its distance (Keys, 1981, with torch's a = −0.75)."""
    x, a = abs(distance), -0.75
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def weights(start: float, length: float, side: int) -> Tensor:
    """Weights of each input pixel (columns) in each output pixel (rows) of a crop that is scaled to the full side.

    Beyond its edges the image is mirrored.
    """
    rows = torch.zeros(side, side, dtype=torch.float64)
    for out in range(side):
        place = (start + length * (out + 0.5) / side) * side - 0.5
        for pixel in range(math.floor(place) - 1, math.floor(place) + 3):
            mirrored = min(max(pixel, -pixel - 1), 2 * side - 1 - max(pixel, -pixel - 1))
            rows[out, mirrored] += keys_kernel(place - pixel)
    return rows


def slow_crop(image: Tensor, box: Sequence[float]) -> Tensor:
    """Crop and scale by the definition, one axis after the other."""
    left, top, width, height = box
    side = image.shape[-1]
    down, across = weights(top, height, side), weights(left, width, side)
    return (down @ (image.double() / 255) @ across.T).clamp(0, 1)


def slow_box(generator: np.random.Generator) -> tuple[float, ...]:
    """Draw a random resized crop, one try after the other."""
    for _ in range(10):
        scale, ratio = generator.uniform(0.2, 1), math.exp(generator.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = math.sqrt(scale * ratio), math.sqrt(scale / ratio)
        if width <= 1 and height <= 1:
            return generator.uniform(0, 1 - width), generator.uniform(0, 1 - height), width, height
    return 0, 0, 1, 1


def test_none_changes_nothing() -> None:
    images = make_images(4)
    torch.testing.assert_close(augment(images, "none", seeded()), images, rtol=0, atol=0)


def test_flip_mirrors_half_of_the_images_and_leaves_the_others() -> None:
    images = make_images(1000)
    found = augment(images, "flip", seeded())
    flipped = (found == images.flip(-1)).all(dim=(1, 2, 3))
    kept = (found == images).all(dim=(1, 2, 3))
    assert bool((flipped ^ kept).all())
    assert 450 < int(flipped.sum()) < 550


def test_crop_is_the_bicubic_one_of_its_box_and_mirrored_in_half_of_the_images() -> None:
    images = make_images(40)
    found = augment(images, "crop", seeded())
    generator = seeded()
    mirrored = torch.rand(40, generator=generator) < 0.5  # drawn before the boxes
    boxes = torch.stack(random_crops(40, generator, MAE_AREA), dim=1).tolist()
    expected = torch.stack([slow_crop(image, box) for image, box in zip(images, boxes, strict=True)])
    expected[mirrored] = expected[mirrored].flip(-1)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)
    assert 10 < int(mirrored.sum()) < 30


def test_crops_lie_within_the_image_and_keep_to_the_bounds_of_area_and_ratio() -> None:
    left, top, width, height = random_crops(10_000, seeded(), MAE_AREA)
    assert bool(((left >= 0) & (top >= 0) & (left + width <= 1 + 1e-6) & (top + height <= 1 + 1e-6)).all())
    assert bool(((width * height >= 0.2 - 1e-6) & (width * height <= 1 + 1e-6)).all())
    assert bool(((width / height >= 3 / 4 - 1e-6) & (width / height <= 4 / 3 + 1e-6)).all())


def test_crops_are_distributed_as_by_trying_ten_times() -> None:
    found = torch.stack(random_crops(4000, seeded(), MAE_AREA)).double().numpy()
    generator = np.random.default_rng(0)
    expected = np.array([slow_box(generator) for _ in range(4000)]).T
    for place in range(2):
        assert ks_2samp(found[place], expected[place]).pvalue > 0.01
    assert ks_2samp(found[2] * found[3], expected[2] * expected[3]).pvalue > 0.01  # area
    assert ks_2samp(found[2] / found[3], expected[2] / expected[3]).pvalue > 0.01  # aspect ratio


@pytest.mark.parametrize("kind", ["flip", "crop"])
def test_generator_decides_over_the_augmentation(kind: Augmentation) -> None:
    images = make_images(20)
    generator = seeded()
    first, second = augment(images, kind, generator), augment(images, kind, generator)
    torch.testing.assert_close(augment(images, kind, seeded()), first, rtol=0, atol=0)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("kind", ["flip", "crop"])
def test_bands_are_augmented_alike(kind: Augmentation) -> None:
    images = torch.randint(256, (8, 13, 6, 10), dtype=torch.uint8, generator=seeded(1))
    single = [augment(images[:, band, None], kind, seeded(2)) for band in range(13)]
    torch.testing.assert_close(augment(images, kind, seeded(2)), torch.cat(single, dim=1))
