import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.stats import binomtest
from sklearn.datasets import load_sample_images

from mimia.arrays import Bools, Floats, Pixels
from mimia.config import EvaluationSettings
from mimia.evaluation.blind import blind_scores
from mimia.evaluation.evaluate import evaluate
from mimia.images.imageset import ImageSet
from mimia.images.load import load_images
from mimia.store import Store

Prepare = Callable[[Image.Image], Image.Image]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return load_images(["digits"], Store(tmp_path_factory.mktemp("digits"))).images


@pytest.fixture(scope="module")
def photographs() -> Pixels:
    """Tiles of 32 pixels of two photographs, (N, 3, 32, 32)."""
    tiles = [
        photograph[top : top + 32, left : left + 32]
        for photograph in load_sample_images().images
        for top in range(0, 427 - 31, 32)
        for left in range(0, 640 - 31, 32)
    ]
    return np.stack(tiles).transpose(0, 3, 1, 2)


def area(scores: Floats, members: Bools) -> float:
    inside, outside = scores[members][:, None], scores[~members]
    return float((inside > outside).mean() + (inside == outside).mean() / 2)


def blind_area(pixels: Pixels, members: Bools, seed: int) -> float:
    scores, scored = blind_scores(pixels, members, seed)
    return area(scores, members[scored])


def half(count: int, seed: int) -> Bools:
    members: Bools = np.random.default_rng(seed).permutation(count) < count // 2
    return members


def sharpened(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.UnsharpMask(radius=1, percent=150, threshold=0))


def blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(1))


def saved_as_jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=50)
    return Image.open(buffer)


def prepare_members(pixels: Pixels, members: Bools, prepare: Prepare) -> Pixels:
    grey = pixels.shape[1] == 1
    prepared = pixels.copy()
    for row in np.flatnonzero(members):
        image = Image.fromarray(pixels[row, 0] if grey else pixels[row].transpose(1, 2, 0))
        changed = np.asarray(prepare(image))
        prepared[row] = changed if grey else changed.transpose(2, 0, 1)
    return prepared


@pytest.mark.parametrize(("members", "others"), [(100, 100), (100, 800)])
def test_draws_from_one_source_are_told_apart_no_more_often_than_the_interval_says(
    digits: ImageSet, members: int, others: int
) -> None:
    truth = np.arange(members + others) < members
    settings = EvaluationSettings(resamples=300)
    alarms = 0
    for seed in range(60):
        rows = np.random.default_rng(seed).permutation(len(digits))[: len(truth)]
        scores, scored = blind_scores(digits.pixels[rows], truth, seed)
        low = evaluate("blind", scores, truth[scored], settings).area.low
        assert low is not None
        alarms += low > 0.5
    assert binomtest(alarms, 60, 0.025, alternative="greater").pvalue > 0.01


@pytest.mark.parametrize("prepare", [sharpened, blurred, saved_as_jpeg])
def test_digits_that_were_prepared_differently_are_told_apart(digits: ImageSet, prepare: Prepare) -> None:
    members = half(400, seed=0)
    pixels = prepare_members(digits.pixels[:400], members, prepare)
    assert blind_area(pixels, members, seed=0) > 0.9


@pytest.mark.parametrize("prepare", [sharpened, blurred, saved_as_jpeg])
def test_photographs_that_were_prepared_differently_are_told_apart(photographs: Pixels, prepare: Prepare) -> None:
    members = half(len(photographs), seed=0)
    pixels = prepare_members(photographs, members, prepare)
    assert blind_area(pixels, members, seed=0) > 0.85


def test_no_image_is_scored_by_a_classifier_that_saw_its_label(digits: ImageSet) -> None:
    pixels = np.concatenate([digits.pixels[:150], digits.pixels[:150]])  # each once as member, once as non-member
    members = np.arange(300) < 150
    assert blind_area(pixels, members, seed=0) < 0.55


def test_one_half_of_each_side_is_scored(digits: ImageSet) -> None:
    members = np.arange(200) < 60
    scores, scored = blind_scores(digits.pixels[:200], members, seed=0)
    assert len(scores) == len(set(scored.tolist())) == 100
    assert members[scored].sum() == 30


def test_scores_follow_from_the_seed(digits: ImageSet) -> None:
    pixels, members = digits.pixels[:200], half(200, seed=0)
    first = blind_scores(pixels, members, seed=0)
    again, other = blind_scores(pixels, members, seed=0), blind_scores(pixels, members, seed=1)
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not np.array_equal(first[1], other[1])
