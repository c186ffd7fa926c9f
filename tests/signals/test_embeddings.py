import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch

from mimia.data.augmentation import augment
from mimia.data.imageset import ImageSet
from mimia.models.masking import random_masks
from mimia.runtime.arrays import Bools, Floats, Pixels
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.seeds import torch_generator
from mimia.signals.base import QueryConfig
from mimia.signals.crop_similarity import CropSimilarity, random_crops_of
from mimia.signals.embeddings import Embeddings
from mimia.signals.queried import QueriedModel
from mimia.signals.registry import SIGNALS
from mimia.signals.view_similarity import VIEW_MASK_RATIO, ViewSimilarity, hide, view_distances
from mimia.signals.view_similarity_by_ratio import ViewSimilarityByRatio

MakeQuery = Callable[..., tuple[QueriedModel, QueryConfig, ImageSet]]
IDS = np.array(["a", "b", "c"])
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8), dtype=np.uint8)
COMPUTE = ComputeSettings(device="cpu", threads=1)


def flat(pixels: Pixels) -> Floats:
    return pixels.reshape(len(pixels), -1).astype(np.float32)


def constant(pixels: Pixels) -> Floats:
    return np.ones((len(pixels), 7), dtype=np.float32)


def zero(pixels: Pixels) -> Floats:
    return np.zeros((len(pixels), 7), dtype=np.float32)


@pytest.fixture
def query(make_query: MakeQuery) -> QueryConfig:
    """Colour images of 16 patches, four draws and the seed 1."""
    return make_query("mae", 3)[1]


def cosine(first: Floats, second: Floats) -> float:
    one, two = first.ravel().tolist(), second.ravel().tolist()
    product = sum(a * b for a, b in zip(one, two, strict=True))
    return product / math.sqrt(sum(a * a for a in one) * sum(b * b for b in two))


def unlike(vectors: list[Floats], view: int) -> float:
    """One minus the mean cosine of a view with the others."""
    cosines = [cosine(vectors[view], vectors[other]) for other in range(len(vectors)) if other != view]
    return 1 - sum(cosines) / len(cosines)


def slow_hide(image: Pixels, mask: Bools) -> Pixels:
    """Paint the masked patches of 2 pixels of an image, (C, 8, 8), pixel by pixel."""
    hidden = {(y, x) for y, x in np.ndindex(8, 8) if mask[4 * (y // 2) + x // 2]}
    view = image.copy()
    for channel in range(len(image)):
        seen = [int(image[channel, y, x]) for y, x in np.ndindex(8, 8) if (y, x) not in hidden]
        for y, x in hidden:
            view[channel, y, x] = round(sum(seen) / len(seen))
    return view


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75, 0.93])
def test_hidden_patches_have_the_mean_colour_of_the_visible_ones(ratio: float) -> None:
    masks = random_masks(IDS, 2, 16, ratio, seed=0)
    views = hide(IMAGES, masks, 2)
    assert views.dtype == np.uint8
    for image, view in np.ndindex(3, 2):
        np.testing.assert_array_equal(views[image, view], slow_hide(IMAGES[image], masks[image, view]))


def test_distance_is_one_less_the_mean_cosine_with_the_other_views() -> None:
    masks = random_masks(IDS, 4, 16, VIEW_MASK_RATIO, seed=3)
    found = view_distances(flat, IMAGES, masks, patch_size=2)
    for image in range(3):
        vectors = [slow_hide(IMAGES[image], mask).astype(float) for mask in masks[image]]
        for view in range(4):
            assert found[image, view] == pytest.approx(unlike(vectors, view), abs=1e-9)


def test_similarities_are_the_distances_of_the_views(query: QueryConfig) -> None:
    found = ViewSimilarity().compute(QueriedModel("target", flat, COMPUTE), IMAGES, IDS, query)
    masks = random_masks(IDS, 4, 16, VIEW_MASK_RATIO, seed=1)
    np.testing.assert_array_equal(found, view_distances(flat, IMAGES, masks, 2))


def test_ratios_are_the_distance_of_views_to_each_other_and_to_the_whole_image(query: QueryConfig) -> None:
    found = ViewSimilarityByRatio().compute(QueriedModel("target", flat, COMPUTE), IMAGES, IDS, query)
    assert found.shape == (3, 6)
    for image, (place, ratio) in ((i, each) for i in range(3) for each in enumerate((0.25, 0.5, 0.75))):
        masks = random_masks(IDS, 2, 16, ratio, seed=2)
        vectors = [slow_hide(IMAGES[image], mask).astype(float) for mask in masks[image]]
        between = (unlike(vectors, 0) + unlike(vectors, 1)) / 2
        whole = float(np.mean([1 - cosine(vector, IMAGES[image].astype(float)) for vector in vectors]))
        assert found[image, 2 * place] == pytest.approx(between, abs=1e-9)
        assert found[image, 2 * place + 1] == pytest.approx(whole, abs=1e-9)


def test_views_are_the_distances_of_all_pairs_of_ten_crops(query: QueryConfig) -> None:
    found = CropSimilarity().compute(QueriedModel("target", flat, COMPUTE), IMAGES, IDS, query)
    crops = random_crops_of(IMAGES, IDS, 10, (0.2, 1.0), seed=1)
    assert found.shape == (3, 45)
    for image in range(3):
        expected = [1 - cosine(first, second) for first, second in combinations(crops[image].astype(float), 2)]
        np.testing.assert_allclose(found[image], expected, atol=1e-9)


def test_embedding_is_what_the_function_gives(query: QueryConfig) -> None:
    found = Embeddings().compute(QueriedModel("target", flat, COMPUTE), IMAGES, IDS, query)
    np.testing.assert_array_equal(found, flat(IMAGES))


@pytest.mark.parametrize("embed", [constant, zero])
def test_encoder_that_sees_no_difference_has_finite_distances(query: QueryConfig, embed: Callable[..., Floats]) -> None:
    queried = QueriedModel("target", embed, COMPUTE)
    for name in ("view_similarity", "view_similarity_by_ratio", "crop_similarity"):
        found = SIGNALS[name]().compute(queried, IMAGES, IDS, query)
        np.testing.assert_allclose(found, 0 if embed is constant else 1, atol=1e-12)
        assert found.min() >= 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_precision_of_the_function_does_not_matter(query: QueryConfig, dtype: type[np.floating]) -> None:
    """Long vectors of half precision would overflow if their lengths were computed in it."""

    def embed(pixels: Pixels) -> Floats:
        values: Floats = flat(pixels).astype(dtype)
        return values

    for name in ("view_similarity", "view_similarity_by_ratio", "crop_similarity"):
        found, expected = (
            SIGNALS[name]().compute(QueriedModel("target", function, COMPUTE), IMAGES, IDS, query)
            for function in (embed, flat)
        )
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_crops_are_those_of_training_in_whole_numbers() -> None:
    crops = random_crops_of(IMAGES, IDS, 5, (0.3, 0.6), seed=4)
    assert crops.shape == (3, 5, 3, 8, 8)
    assert crops.dtype == np.uint8
    for image, name in enumerate(IDS):
        copies = torch.from_numpy(IMAGES[image]).expand(5, -1, -1, -1)
        expected = augment(copies, "crop", torch_generator("cpu", 4, "crops", str(name)), (0.3, 0.6))
        assert np.abs(crops[image] / 255 - expected.numpy()).max() <= 0.5 / 255 + 1e-6
    assert len(np.unique(crops.reshape(15, -1), axis=0)) == 15


def test_crops_follow_from_seed_and_image() -> None:
    crops = random_crops_of(IMAGES, IDS, 5, (0.3, 0.6), seed=4)
    order = np.array([2, 0, 2])
    np.testing.assert_array_equal(random_crops_of(IMAGES[order], IDS[order], 5, (0.3, 0.6), seed=4), crops[order])
    assert not np.array_equal(random_crops_of(IMAGES, IDS, 5, (0.3, 0.6), seed=5), crops)
    same = np.repeat(IMAGES[:1], 3, axis=0)  # the boxes are those of the id, not those of the place
    others = random_crops_of(same, IDS, 5, (0.3, 0.6), seed=4)
    np.testing.assert_array_equal(others[0], crops[0])
    assert not np.array_equal(others[1], others[0])


def test_crops_cover_the_given_proportion_of_the_image() -> None:
    """A ramp across the image is as steep in a crop as the crop is wide."""
    ramp = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8), (1, 1, 64, 64)).copy()
    both = np.concatenate([ramp, ramp.swapaxes(2, 3)], axis=1)
    crops = random_crops_of(np.concatenate([both, both[:, :1]], axis=1), np.array(["a"]), 300, (0.08, 0.2), seed=0)[0]
    width = np.abs(crops[:, 0, 20, 50] - crops[:, 0, 20, 14].astype(float)) / 36 / (255 / 63)
    height = np.abs(crops[:, 1, 50, 20] - crops[:, 1, 14, 20].astype(float)) / 36 / (255 / 63)
    proportion = width * height
    assert 0.07 < proportion.min() < 0.09
    assert 0.19 < proportion.max() < 0.22
    assert 0.12 < proportion.mean() < 0.16
    assert 0.4 < (crops[:, 0, 20, 50] < crops[:, 0, 20, 14].astype(int)).mean() < 0.6  # mirrored
