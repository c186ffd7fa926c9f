import io
from collections.abc import Callable
from pathlib import Path
from statistics import correlation

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter
from sklearn.datasets import load_digits, load_sample_images

from mimia.data.near_duplicates import near_duplicates
from mimia.runtime.arrays import Pixels

Change = Callable[[Image.Image], Image.Image]


def scenes(side: int) -> Pixels:
    """Cut two photographs into tiles that overlap by half, and scale them: (168, 3, side, side)."""
    cut = [
        Image.fromarray(photograph).resize((side, side), Image.Resampling.BOX, (left, top, left + 96, top + 96))
        for photograph in load_sample_images().images
        for top in range(0, 427 - 96, 48)
        for left in range(0, 640 - 95, 48)
    ]
    return np.stack([np.asarray(image) for image in cut]).transpose(0, 3, 1, 2)


@pytest.fixture(scope="module")
def digits() -> Pixels:
    grey: Pixels = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    return grey[np.random.default_rng(0).permutation(len(grey)), None]


def saved_as_jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75)
    return Image.open(buffer)


def cut(image: Image.Image, *edges: int) -> Image.Image:
    """Take 32nds off the left, the top, the right and the bottom, and scale the rest to the size."""
    width, height = image.size
    left, top, right, bottom = edges
    box = (left * width / 32, top * height / 32, width - right * width / 32, height - bottom * height / 32)
    return image.resize(image.size, Image.Resampling.BICUBIC, box)


def moved(image: Image.Image) -> Image.Image:
    """Move by a 32nd to the left, and leave black what comes in."""
    width, height = image.size
    step = round(width / 32)
    return image.transform(image.size, Image.Transform.EXTENT, (step, 0, width + step, height))


CHANGES: dict[str, Change] = {
    "encoded anew": saved_as_jpeg,
    "sharpened": lambda image: image.filter(ImageFilter.UnsharpMask(radius=1, percent=150, threshold=0)),
    "blurred": lambda image: image.filter(ImageFilter.BoxBlur(1)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "moved": moved,
    "cropped": lambda image: cut(image, 1, 1, 1, 1),
    "cropped at a corner": lambda image: cut(image, 2, 0, 0, 2),
    "mirrored and cropped": lambda image: cut(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 0, 0, 2, 2),
}


def changed(pixels: Pixels, change: Change) -> Pixels:
    images = [Image.fromarray(image.transpose(1, 2, 0)) for image in pixels]
    return np.stack([np.asarray(change(image)) for image in images]).transpose(0, 3, 1, 2)


def found(first: Pixels, second: Pixels) -> list[tuple[int, int]]:
    return [(pair.first, pair.second) for pair in near_duplicates(first, second)]


@pytest.mark.parametrize("side", [28, 60])
@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_found_and_nothing_else(change: str, side: int) -> None:
    pixels = scenes(side)
    textured = pixels[np.abs(np.diff(pixels.mean(axis=1))).mean(axis=(1, 2)) > 2]  # the sky has nothing to be known by
    assert len(textured) > 80
    pairs = found(textured, changed(textured, CHANGES[change]))
    right = [pair for pair in pairs if pair[0] == pair[1]]
    assert len(right) >= (0.9 if "cropped" in change else 0.98) * len(textured)
    assert len(pairs) <= len(right) + 3  # neighbours show the same by half


@pytest.mark.parametrize("side", [3, 8, 15, 16, 17, 31, 33, 224])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_is_found_in_its_own_set(side: int, channels: int) -> None:
    pixels = scenes(side)[-30:, :channels]
    assert {(place, place) for place in range(30)} <= set(found(pixels, pixels[..., ::-1]))


def test_different_pictures_are_not(digits: Pixels) -> None:
    china, flower = np.split(scenes(32), 2)
    assert found(china, flower) == []
    assert len(found(digits[:800], digits[800:1600])) <= 2  # of 640,000 pairs of digits by forty writers


def test_tiny_copies_are_found_where_their_pixels_nearly_agree(digits: Pixels) -> None:
    some = digits[:800]
    noise = np.random.default_rng(1).integers(-8, 9, some.shape)
    for copies in ((some + noise).clip(0, 255).astype(np.uint8), (some * 0.9).astype(np.uint8), some[..., ::-1]):
        assert {(place, place) for place in range(800)} <= set(found(some, copies))


def test_correlation_of_tiny_pictures_is_that_of_their_differences(digits: Pixels) -> None:
    first, second = digits[:1], (digits[:1] // 32) * 32

    def differences(pixels: Pixels) -> list[float]:
        image = pixels[0, 0].astype(float)
        return [*np.diff(image, axis=0).ravel(), *np.diff(image, axis=1).ravel()]

    (pair,) = near_duplicates(first, second)
    assert pair.correlation == pytest.approx(correlation(differences(first), differences(second)))


def test_pairs_come_once_each_and_the_most_alike_first() -> None:
    half = scenes(32)[-1:, :, :, :16]
    symmetric = np.concatenate([half, half[..., ::-1]], axis=3)  # the same in a mirror
    assert found(symmetric, symmetric) == [(0, 0)]
    flowers = scenes(32)[-24:]
    blurred = changed(flowers, CHANGES["blurred"])
    pairs = near_duplicates(flowers, np.concatenate([blurred, flowers]))
    correlations = [pair.correlation for pair in pairs]
    assert correlations == sorted(correlations, reverse=True)
    same, after_blur = ({pair.second for pair in part} for part in (pairs[:24], pairs[24:]))
    assert same == set(range(24, 48))
    assert after_blur >= set(range(20))


@pytest.mark.parametrize("side", [8, 28, 32, 60])
def test_pictures_of_one_colour_are_not_called_the_same(side: int) -> None:
    plain = np.stack([np.full((3, side, side), value, dtype=np.uint8) for value in (0, 77, 128, 255)])
    assert found(plain, plain) == []


def test_many_images_of_a_file_are_compared_part_by_part(digits: Pixels, tmp_path: Path) -> None:
    file = np.memmap(tmp_path / "pixels.u8", np.uint8, "w+", shape=(3000, 1, 8, 8))
    file[:] = np.random.default_rng(0).integers(0, 256, file.shape, dtype=np.uint8)
    file[[5, 1030, 2999]] = digits[:3]
    assert sorted(found(digits[:1500], file)) == [(0, 5), (1, 1030), (2, 2999)]


def test_empty_set_has_no_duplicates(digits: Pixels) -> None:
    assert found(digits[:0], digits) == found(digits, digits[:0]) == []
    assert found(scenes(32)[:0], scenes(32)) == []


@pytest.mark.parametrize("size", [(24, 32), (40, 20), (8, 24)])
def test_copies_of_images_of_bands_are_found(size: tuple[int, int]) -> None:
    colours = scenes(48)[::4]
    mixtures = np.random.default_rng(0).dirichlet(np.ones(3), 6)
    bands = np.einsum("bc,nchw->nbhw", mixtures, colours[:, :, : size[0], : size[1]]).astype(np.uint8)
    brighter = np.minimum(bands[::-1, :, :, ::-1].astype(np.uint16) * 11 // 10, 255).astype(np.uint8)
    found = {(pair.first, pair.second) for pair in near_duplicates(bands, brighter)}
    copies = {(row, len(bands) - 1 - row) for row in range(len(bands))}
    assert len(copies & found) > 0.8 * len(copies)
    assert len(found - copies) < 0.1 * len(copies) ** 2
