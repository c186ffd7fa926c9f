import hashlib
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from mimia.arrays import Bools, Ids
from mimia.masking import draw_random_masks, random_masks, visible_count

TOKENS, RATIO = 6, 0.6  # two of six patches stay visible: 15 masks in all


def make_ids(count: int) -> Ids:
    return np.array([f"image {number}" for number in range(count)])


def slow_mask(image: str, draw: int, tokens: int, visible: int, seed: int) -> list[bool]:
    """Mask all but the patches of the lowest noise, from a Philox generator keyed by seed and image."""
    key = np.frombuffer(hashlib.blake2b(f"{seed}:{image}".encode(), digest_size=16).digest(), np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key))
    noise = [generator.random() for _ in range((draw + 1) * tokens)][draw * tokens :]
    shown = sorted(range(tokens), key=lambda patch: noise[patch])[:visible]
    return [patch not in shown for patch in range(tokens)]


def visible_patches(masks: Bools) -> list[tuple[int, ...]]:
    """Visible patches of each mask of (B, 1, L)."""
    return [tuple(np.flatnonzero(~mask[0]).tolist()) for mask in masks]


@given(st.integers(1, 200), st.floats(0.01, 0.99))
@settings(max_examples=200, deadline=None)
def test_as_many_patches_stay_visible_as_in_the_official_mae(tokens: int, ratio: float) -> None:
    kept = int(tokens * (1 - ratio))  # models_mae.py, random_masking
    masks = random_masks(make_ids(2), 3, tokens, ratio, seed=0)
    assert ((~masks).sum(axis=-1) == kept).all()
    drawn = draw_random_masks(2, tokens, ratio, torch.Generator().manual_seed(0))
    assert bool(((~drawn).sum(dim=-1) == kept).all())


def test_patches_of_the_lowest_noise_stay_visible() -> None:
    ids = make_ids(5)
    masks = random_masks(ids, draws=4, tokens=16, mask_ratio=0.75, seed=7)
    expected = [[slow_mask(image, draw, 16, 4, seed=7) for draw in range(4)] for image in ids]
    np.testing.assert_array_equal(masks, expected)


def test_mask_depends_on_seed_image_and_draw_alone() -> None:
    ids = make_ids(10)
    masks = random_masks(ids, 5, 64, 0.75, seed=1)
    order = np.array([7, 2, 2, 9])
    np.testing.assert_array_equal(random_masks(ids[order], 3, 64, 0.75, seed=1), masks[order, :3])
    others = random_masks(ids, 5, 64, 0.75, seed=2)
    assert len({mask.tobytes() for mask in [*masks.reshape(-1, 64), *others.reshape(-1, 64)]}) == 100


def test_every_mask_of_an_image_is_equally_likely() -> None:
    counts = Counter(visible_patches(random_masks(make_ids(6000), 1, TOKENS, RATIO, seed=0)))
    assert visible_count(TOKENS, RATIO) == 2
    assert chisquare([counts[pair] for pair in combinations(range(TOKENS), 2)]).pvalue > 0.01
    assert counts.total() == 6000


def test_draws_of_an_image_are_independent() -> None:
    masks = random_masks(make_ids(6000), 2, TOKENS, RATIO, seed=0)
    counts = Counter(zip(visible_patches(masks[:, :1]), visible_patches(masks[:, 1:]), strict=True))
    pairs = list(combinations(range(TOKENS), 2))
    assert chisquare([counts[first, second] for first in pairs for second in pairs]).pvalue > 0.01


def test_every_mask_of_a_training_batch_is_equally_likely() -> None:
    masks = draw_random_masks(6000, TOKENS, RATIO, torch.Generator().manual_seed(0))
    counts = Counter(visible_patches(masks.numpy()))
    assert chisquare([counts[pair] for pair in combinations(range(TOKENS), 2)]).pvalue > 0.01
    assert counts.total() == 6000


def test_masks_of_training_come_from_the_generator() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (draw_random_masks(4, 64, 0.75, generator) for _ in range(2))
    assert first.shape == (4, 1, 64)
    assert not torch.equal(first, second)
    again = draw_random_masks(4, 64, 0.75, torch.Generator().manual_seed(0))
    torch.testing.assert_close(again, first, rtol=0, atol=0)


@pytest.mark.parametrize("count", [0, 1])
def test_few_images_get_their_masks(count: int) -> None:
    assert random_masks(make_ids(count), 3, 16, 0.75, seed=0).shape == (count, 3, 16)
