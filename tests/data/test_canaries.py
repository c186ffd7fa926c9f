from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import pearsonr

from mimia.config.image_settings import CanaryKind
from mimia.data.canaries import canary_suffix, make_canaries, save_canary
from mimia.data.decoding import decode
from mimia.data.imageset import ImageSet
from mimia.data.loading import load_images
from mimia.runtime.arrays import Pixels, content_id
from mimia.runtime.errors import MimiaError

KINDS: list[CanaryKind] = ["image", "noise", "patches"]


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return load_images("digits").take(np.arange(300))


@pytest.fixture
def colour(photos: Pixels) -> ImageSet:
    return load_images(photos)


def patches_of(image: Pixels, size: int) -> list[bytes]:
    """Cut one image, (C, H, W), with loops."""
    _, height, width = image.shape
    return [
        image[:, y : y + size, x : x + size].tobytes() for y in range(0, height, size) for x in range(0, width, size)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_canaries_follow_from_the_seed_and_are_named_by_their_content(kind: CanaryKind, colour: ImageSet) -> None:
    canaries = make_canaries(colour, kind, patch_size=4, seed=0)
    assert canaries.ids.tolist() == [content_id(pixels) for pixels in canaries.pixels]
    assert canaries.names.tolist() == colour.names.tolist()
    assert canaries.pixels.dtype == np.uint8
    assert make_canaries(colour, kind, patch_size=4, seed=0).fingerprint == canaries.fingerprint
    other = make_canaries(colour, kind, patch_size=4, seed=1).fingerprint
    assert (other == canaries.fingerprint) == (kind == "image") == (canaries.fingerprint == colour.fingerprint)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("source", ["digits", "colour"])
def test_patches_are_those_of_the_image_in_another_order(
    source: str, size: int, request: pytest.FixtureRequest
) -> None:
    images: ImageSet = request.getfixturevalue(source)
    canaries = make_canaries(images, "patches", size, seed=0)
    for canary, image in zip(canaries.pixels, images.pixels, strict=True):
        assert sorted(patches_of(canary, size)) == sorted(patches_of(image, size))
    assert (canaries.fingerprint == images.fingerprint) == (size == 8)


def test_every_order_of_the_patches_is_as_probable(digits: ImageSet) -> None:
    numbered = np.arange(4, dtype=np.uint8).reshape(1, 1, 2, 2).repeat(6000, axis=0)
    images = replace(digits.take(np.zeros(6000, dtype=np.intp)), pixels=numbered)
    orders, counts = np.unique(
        make_canaries(images, "patches", 1, seed=0).pixels.reshape(-1, 4), axis=0, return_counts=True
    )
    assert len(orders) == 24
    assert ((counts - 250) ** 2 / 250).sum() < 49.7  # 99.9 % of chi-squared with 23 degrees of freedom


def test_noise_is_half_of_the_canary_and_differs_from_image_to_image(digits: ImageSet) -> None:
    canaries = make_canaries(digits, "noise", 4, seed=0)
    noise = 2 * canaries.pixels.astype(float) - digits.pixels
    assert noise.min() >= -1  # rounded down
    assert noise.max() <= 255
    assert noise.mean() == pytest.approx(127, abs=1)
    assert noise.std() == pytest.approx(np.sqrt(256**2 / 12), rel=0.01)
    flat = noise.reshape(len(noise), -1)
    between = np.asarray(np.corrcoef(flat))[np.triu_indices(len(flat), 1)]
    assert between.std() == pytest.approx(1 / np.sqrt(flat.shape[1] - 1), rel=0.05)  # as of independent noise
    assert abs(pearsonr(flat.ravel(), digits.pixels.ravel()).statistic) < 0.03


def test_patches_that_do_not_fit_are_refused_where_they_are_used(digits: ImageSet) -> None:
    with pytest.raises(
        MimiaError, match="Patches of 3 pixels do not fit images of 8×8: choose a size that divides both"
    ):
        make_canaries(digits, "patches", 3, seed=0)
    assert len(make_canaries(digits, "noise", 3, seed=0)) == 300


@given(st.sampled_from([1, 2, 3, 4, 13]), st.integers(1, 20), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_file_decodes_to_the_same_pixels(
    tmp_path_factory: pytest.TempPathFactory, channels: int, side: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (channels, side, side), dtype=np.uint8)
    path = tmp_path_factory.mktemp("canary") / f"image{canary_suffix(channels)}"
    save_canary(pixels, path)
    assert np.array_equal(decode(path, side, channels), pixels)
    assert load_images(str(path.parent), image_size=side).pixels.shape[1] == max(channels, 3 if channels == 1 else 0)
    if channels in (1, 3):
        with Image.open(path) as image:
            assert image.info == {}
