import io
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.special import logit
from scipy.stats import binomtest, norm
from sklearn.datasets import load_sample_images

from mimia.data.imageset import ImageSet
from mimia.runtime.arrays import Bools, Floats, Pixels
from mimia.validity.blind_baseline import BlindGuess, blind_auc, blind_guesses, sides_differ
from mimia.validity.pixel_network import centres

Prepare = Callable[[Image.Image], Image.Image]


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


def auc(scores: Floats, members: Bools) -> float:
    inside, outside = scores[members][:, None], scores[~members]
    return float((inside > outside).mean() + (inside == outside).mean() / 2)


def guess_of(name: str, pixels: Pixels, members: Bools, facts: Floats | None = None) -> BlindGuess:
    """Return one guess; the other classifier is not trained, which takes the time."""
    given = np.zeros((len(pixels), 1)) if facts is None else facts
    with patch("mimia.validity.pixel_network._STEPS", 150 if name == "pixels" else 1):
        return next(guess for guess in blind_guesses(pixels, given, members, 0) if guess.name == name)


def low(guess: BlindGuess, members: Bools) -> float:
    return blind_auc(guess, members).low or 0


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


def test_draws_from_one_source_are_told_apart_no_more_often_than_the_interval_says(digits: ImageSet) -> None:
    truth = np.arange(160) < 60
    for name, draws in (("pixel features", 8), ("pixels", 2)):
        alarms = 0
        for seed in range(draws):
            rows = np.random.default_rng(seed).permutation(len(digits))[: len(truth)]
            guess = guess_of(name, digits.pixels[rows], truth, digits.facts[rows])
            alarms += low(guess, truth) > 0.5
            assert sides_differ([guess], truth, 0.025) == (low(guess, truth) > 0.5)
        assert binomtest(alarms, draws, 0.025, alternative="greater").pvalue > 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("members", "others"), [(100, 100), (100, 800), (500, 500)])
def test_spread_of_the_auc_is_that_of_the_interval(digits: ImageSet, members: int, others: int) -> None:
    truth = np.arange(members + others) < members
    standardised: dict[str, list[float]] = {"pixel features": [], "pixels": []}
    for seed in range(100):
        rows = np.random.default_rng(seed).permutation(len(digits))[: len(truth)]
        for guess in blind_guesses(digits.pixels[rows], digits.facts[rows], truth, seed):
            found = blind_auc(guess, truth)
            assert found.value is not None
            assert found.low is not None
            reach = logit(found.value) - logit(found.low)
            standardised[guess.name].append(float(norm.ppf(0.975) * logit(found.value) / reach))
    for values in standardised.values():
        assert np.std(values) < 1.2
        assert np.mean(values) < 0.3


def test_digits_that_were_prepared_differently_are_told_apart(digits: ImageSet) -> None:
    members = half(200, seed=0)
    pixels = prepare_members(digits.pixels[:200], members, saved_as_jpeg)
    assert low(guess_of("pixel features", pixels, members), members) > 0.9


@pytest.mark.parametrize("prepare", [sharpened, blurred, saved_as_jpeg])
def test_photographs_that_were_prepared_differently_are_told_apart(photographs: Pixels, prepare: Prepare) -> None:
    members = half(len(photographs), seed=0)
    pixels = prepare_members(photographs, members, prepare)
    assert low(guess_of("pixel features", pixels, members), members) > 0.8


def test_network_sees_what_no_feature_was_made_for(photographs: Pixels) -> None:
    members = half(len(photographs), seed=0)
    pixels = prepare_members(photographs, members, blurred)
    with patch("mimia.validity.blind_baseline._FOLDS", 2):
        assert low(guess_of("pixels", pixels, members), members) > 0.6


def test_files_that_differ_are_told_apart_though_their_pixels_do_not(digits: ImageSet) -> None:
    members = half(200, seed=0)
    facts = np.column_stack([np.full(200, 8.0), 300 + 40.0 * members + np.random.default_rng(0).normal(0, 20, 200)])
    alike = guess_of("pixel features", digits.pixels[:200], members, facts=facts[:, :1])
    other = guess_of("pixel features", digits.pixels[:200], members, facts=facts)
    assert low(alike, members) < 0.5 < 0.7 < low(other, members)


@pytest.mark.parametrize("name", ["pixel features", "pixels"])
def test_no_image_is_scored_by_a_classifier_that_saw_its_label(digits: ImageSet, name: str) -> None:
    pixels = np.concatenate([digits.pixels[:150], digits.pixels[:150]])  # each once as member, once as non-member
    members = np.arange(300) < 150
    assert (blind_auc(guess_of(name, pixels, members), members).value or 1) < 0.55


def test_auc_is_the_mean_of_the_folds_aucs(digits: ImageSet) -> None:
    members = half(120, seed=0)
    guess = guess_of("pixel features", digits.pixels[:120], members)
    assert sorted(set(guess.folds.tolist())) == [0, 1, 2, 3, 4]
    folds = [auc(guess.scores[guess.folds == fold], members[guess.folds == fold]) for fold in range(5)]
    assert blind_auc(guess, members).value == pytest.approx(np.mean(folds))


def test_folds_have_images_of_each_side_even_of_few(digits: ImageSet) -> None:
    members = np.arange(40) < 5
    guess = guess_of("pixel features", digits.pixels[:40], members)
    assert {int(members[guess.folds == fold].sum()) for fold in set(guess.folds.tolist())} == {2, 3}


def test_network_sees_the_centre_of_large_images_at_their_own_resolution() -> None:
    """Scaling would wash out the traces of sharpening."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 80, 100), dtype=np.uint8)
    assert np.array_equal(centres(pixels).numpy(), pixels[:, :, 8:72, 18:82])
    assert np.array_equal(centres(pixels[:, :, :30, :50]).numpy(), pixels[:, :, :30, :50])


def test_scores_follow_from_the_seed(digits: ImageSet) -> None:
    pixels, members, facts = digits.pixels[:100], half(100, seed=0), np.zeros((100, 1))
    with patch("mimia.validity.pixel_network._STEPS", 10):
        first, again, other = (blind_guesses(pixels, facts, members, seed) for seed in (0, 0, 1))
    for one, two, three in zip(first, again, other, strict=True):
        assert np.array_equal(one.scores, two.scores)
        assert not np.array_equal(one.scores, three.scores)
