import numpy as np
import pytest

from mimia.arrays import Floats, Pixels
from mimia.masking import random_masks
from mimia.signals.similarities import VIEW_MASK_RATIO, hide, view_distances

IDS = np.array(["a", "b", "c"])
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8), dtype=np.uint8)


def flat(pixels: Pixels) -> Floats:
    return pixels.reshape(len(pixels), -1).astype(np.float32)


def test_hidden_patches_have_the_mean_colour_of_the_visible_ones() -> None:
    masks = random_masks(IDS, 2, 16, 0.5, seed=0)
    views = hide(IMAGES, masks, 2)
    for image in range(3):
        for view in range(2):
            visible = {
                (2 * (patch // 4) + p, 2 * (patch % 4) + q)
                for patch in np.flatnonzero(~masks[image, view]).tolist()
                for p in range(2)
                for q in range(2)
            }
            for channel in range(3):
                colour = round(float(np.mean([IMAGES[image, channel, y, x] for y, x in visible])))
                for y in range(8):
                    for x in range(8):
                        expected = IMAGES[image, channel, y, x] if (y, x) in visible else colour
                        assert abs(int(views[image, view, channel, y, x]) - int(expected)) <= ((y, x) not in visible)


def test_distance_is_one_less_the_mean_cosine_with_the_other_views() -> None:
    found = view_distances(flat, IMAGES, IDS, patch_size=2, draws=4, seed=3)
    vectors = flat(hide(IMAGES, random_masks(IDS, 4, 16, VIEW_MASK_RATIO, seed=3), 2).reshape(12, 3, 8, 8))
    vectors = vectors.reshape(3, 4, -1).astype(np.float64)
    for image in range(3):
        for view in range(4):
            cosines = [
                vectors[image, view]
                @ vectors[image, other]
                / np.linalg.norm(vectors[image, view])
                / np.linalg.norm(vectors[image, other])
                for other in range(4)
                if other != view
            ]
            assert found[image, view] == pytest.approx(1 - np.mean(cosines), abs=1e-9)


def test_encoder_that_sees_no_difference_has_distance_zero() -> None:
    def constant(pixels: Pixels) -> Floats:
        return np.ones((len(pixels), 7), dtype=np.float32)

    np.testing.assert_allclose(view_distances(constant, IMAGES, IDS, 2, 3, 0), 0, atol=1e-12)


def test_other_images_do_not_matter() -> None:
    together = view_distances(flat, IMAGES, IDS, 2, 3, 0)
    alone = view_distances(flat, IMAGES[1:2], IDS[1:2], 2, 3, 0)
    np.testing.assert_allclose(alone[0], together[1])
