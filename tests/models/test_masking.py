import hashlib
import math
import random
from collections import Counter
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, ks_2samp
from transformers.models.flava.image_processing_pil_flava import FlavaMaskingGenerator

from mimia.models.masking import (
    blockwise_masks,
    cell_masks,
    complementary_masks,
    draw_blockwise_masks,
    draw_cell_masks,
    draw_random_masks,
    random_masks,
    spread_cells,
    visible_count,
)
from mimia.runtime.arrays import Bools, Ids

TOKENS, RATIO = 6, 0.6  # two of six patches stay visible: 15 masks in all
BEIT = 75 / 196  # of 14 × 14 patches
SIGNALS: dict[str, Callable[[Ids, int, int], Bools]] = {  # each with 36 patches, from ids, draws and seed
    "random": lambda ids, draws, seed: random_masks(ids, draws, 36, 0.6, seed),
    "cell": lambda ids, draws, seed: cell_masks(ids, draws, (6, 4), 2, 0.6, seed),
    "blockwise": lambda ids, draws, seed: blockwise_masks(ids, draws, (6, 4), 0.6, seed),
    "complementary": lambda ids, draws, seed: complementary_masks(ids, draws, 36, 9, seed),
}
every_kind = pytest.mark.parametrize("kind", SIGNALS)


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


@every_kind
def test_mask_depends_on_seed_image_and_draw_alone(kind: str) -> None:
    ids, make = make_ids(10), SIGNALS[kind]
    masks = make(ids, 5, 1)
    order = np.array([7, 2, 2, 9])
    np.testing.assert_array_equal(make(ids[order], 3, 1), masks[order, :3])
    np.testing.assert_array_equal(make(ids, 5, 1), masks)
    others = make(ids, 5, 2)
    different = {mask.tobytes() for mask in [*masks.reshape(50, -1), *others.reshape(50, -1)]}
    assert len(different) > (10 if kind == "cell" else 95)  # there are 15 masks of four of six cells


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


@every_kind
@pytest.mark.parametrize("count", [0, 1])
def test_few_images_get_their_masks(count: int, kind: str) -> None:
    masks = SIGNALS[kind](make_ids(count), 3, 0)
    assert masks.shape == (count, 3, 24 if kind in ("cell", "blockwise") else 36)
    assert masks.dtype == np.bool_


def test_masks_of_cells_and_blocks_for_training_come_from_the_generator() -> None:
    def draw(generator: torch.Generator) -> list[Bools]:
        cells = draw_cell_masks(4, (14, 14), 2, 0.6, generator)
        return [cells.numpy(), draw_blockwise_masks(4, (14, 14), BEIT, generator).numpy()]

    generator = torch.Generator().manual_seed(0)
    first, second = draw(generator), draw(generator)
    for one, other, again in zip(first, second, draw(torch.Generator().manual_seed(0)), strict=True):
        assert one.shape == (4, 1, 196)
        assert not np.array_equal(one, other)
        np.testing.assert_array_equal(one, again)
        assert len({mask.tobytes() for mask in one}) == 4


@given(st.integers(1, 40), st.data())
@settings(max_examples=100, deadline=None)
def test_complementary_masks_show_each_patch_at_most_once_in_a_group(tokens: int, data: st.DataObject) -> None:
    visible, draws = data.draw(st.integers(1, tokens)), data.draw(st.integers(1, 9))
    masks = complementary_masks(make_ids(3), draws, tokens, visible, seed=0)
    assert masks.shape == (3, draws, tokens)
    assert ((~masks).sum(axis=-1) == visible).all()
    in_group = tokens // visible
    for start in range(0, draws, in_group):
        group = ~masks[:, start : start + in_group]
        assert group.sum(axis=1).max() == 1
        if group.shape[1] == in_group:  # all patches are shown but those that are left over
            assert (group.any(axis=1).sum(axis=-1) == in_group * visible).all()


def test_patches_of_neighbouring_noise_are_shown_together() -> None:
    masks = complementary_masks(make_ids(3), 7, tokens=10, visible=3, seed=7)
    for image, draw in np.ndindex(3, 7):
        group, turn = divmod(draw, 3)
        most, fewer = (
            np.array(slow_mask(f"image {image}", group, 10, 3 * count, seed=7)) for count in (turn + 1, turn)
        )
        assert masks[image, draw].tolist() == (most | ~fewer).tolist()


def test_every_complementary_mask_is_equally_likely() -> None:
    masks = complementary_masks(make_ids(6000), 3, TOKENS, 2, seed=0)
    pairs = list(combinations(range(TOKENS), 2))
    for draw in range(3):
        counts = Counter(visible_patches(masks[:, draw : draw + 1]))
        assert chisquare([counts[pair] for pair in pairs]).pvalue > 0.01


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_cells_are_spread_over_their_patches(rows: int, columns: int, cell: int, seed: int) -> None:
    cells = np.random.default_rng(seed).random((2, 3, rows * columns)) < 0.5
    spread = spread_cells(cells, (rows * cell, columns * cell), cell)
    assert spread.shape == (2, 3, rows * columns * cell**2)
    for patch in range(spread.shape[-1]):
        row, column = divmod(patch, columns * cell)
        np.testing.assert_array_equal(spread[:, :, patch], cells[:, :, row // cell * columns + column // cell])


def cells_of(masks: Bools, columns: int, cell: int) -> Bools:
    """Bring masks of patches to their cells, which are masked as a whole: (B, K, L) -> (B, K, cells)."""
    blocks = masks.reshape(*masks.shape[:2], -1, cell, columns // cell, cell).swapaxes(3, 4)
    blocks = blocks.reshape(*masks.shape[:2], -1, cell**2)
    assert np.array_equal(blocks.any(axis=-1), blocks.all(axis=-1))
    return np.asarray(blocks.any(axis=-1))


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.floats(0.01, 0.99))
@settings(max_examples=100, deadline=None)
def test_cells_are_masked_as_a_whole_and_as_many_as_in_simmim(rows: int, columns: int, cell: int, ratio: float) -> None:
    masked = int(np.ceil(rows * columns * ratio))  # data_simmim.py, MaskGenerator
    grid = rows * cell, columns * cell
    masks = cell_masks(make_ids(2), 3, grid, cell, ratio, seed=0)
    assert (cells_of(masks, columns * cell, cell).sum(axis=-1) == masked).all()
    drawn = draw_cell_masks(2, grid, cell, ratio, torch.Generator().manual_seed(0)).numpy()
    assert (cells_of(drawn, columns * cell, cell).sum(axis=-1) == masked).all()


def test_cells_of_the_lowest_noise_stay_visible() -> None:
    masks = cell_masks(make_ids(5), 4, grid=(12, 12), cell=3, mask_ratio=0.6, seed=7)
    for image, draw in np.ndindex(5, 4):
        cells = slow_mask(f"image {image}", draw, 16, 16 - math.ceil(16 * 0.6), seed=7)
        expected = [cells[row // 3 * 4 + column // 3] for row, column in np.ndindex(12, 12)]
        assert masks[image, draw].tolist() == expected


@pytest.mark.parametrize("training", [False, True], ids=["scoring", "training"])
def test_every_mask_of_cells_is_equally_likely(training: bool) -> None:
    if training:
        masks = draw_cell_masks(8000, (6, 6), 2, 0.6, torch.Generator().manual_seed(0)).numpy()
    else:
        masks = cell_masks(make_ids(8000), 1, (6, 6), 2, 0.6, seed=0)
    counts = Counter(visible_patches(cells_of(masks, 6, 2)))
    assert chisquare([counts[cells] for cells in combinations(range(9), 3)]).pvalue > 0.01
    assert counts.total() == 8000


def test_draws_of_cells_and_blocks_of_an_image_are_independent() -> None:
    for masks in (
        cell_masks(make_ids(1500), 2, (6, 6), 2, 0.6, seed=0),
        blockwise_masks(make_ids(1500), 2, (6, 6), 0.4, seed=0),
    ):
        first, second = masks[:, 0].astype(float), masks[:, 1].astype(float)
        covariance = (first - first.mean(axis=0)).T @ (second - second.mean(axis=0)) / 1500
        assert np.abs(covariance).max() < 4.5 * 0.25 / math.sqrt(1500)  # of 1,296 pairs of patches


@pytest.fixture(scope="module")
def blocks() -> Bools:
    return blockwise_masks(make_ids(1000), 1, (14, 14), BEIT, seed=0)[:, 0].reshape(-1, 14, 14)


@pytest.fixture(scope="module")
def blocks_in_training() -> Bools:
    return (
        draw_blockwise_masks(1000, (14, 14), BEIT, torch.Generator().manual_seed(0))[:, 0].reshape(-1, 14, 14).numpy()
    )


@pytest.fixture(scope="module")
def blocks_of_flava() -> Bools:
    """Masks of another implementation of BEiT's, which draws from Python's global state."""
    state = random.getstate()
    random.seed(0)
    generator = FlavaMaskingGenerator(14, 75, mask_group_min_patches=16)
    masks = np.array([generator().numpy() for _ in range(1000)], dtype=bool)
    random.setstate(state)
    return masks


def test_blocks_mask_at_most_75_of_196_patches_and_nearly_always_close_to_it(blocks: Bools) -> None:
    counts = blocks.sum(axis=(1, 2))
    assert counts.max() == 75
    assert (counts >= 68).mean() > 0.99
    assert (counts == 75).mean() > 0.6
    other = blockwise_masks(make_ids(500), 1, (8, 8), BEIT, seed=0).sum(axis=-1)
    assert other.max() == round(64 * BEIT)
    assert (other >= 0.9 * 64 * BEIT).mean() > 0.99


def test_blocks_are_those_of_another_implementation_of_beit(
    blocks: Bools, blocks_in_training: Bools, blocks_of_flava: Bools
) -> None:
    for masks in (blocks, blocks_in_training):
        for axis in (1, 2):  # how often neighbours are masked both
            ours, theirs = (
                np.sum(each.take(range(13), axis) & each.take(range(1, 14), axis), axis=(1, 2))
                for each in (masks, blocks_of_flava)
            )
            assert ks_2samp(ours, theirs).pvalue > 0.01
        assert ks_2samp(masks.sum(axis=(1, 2)), blocks_of_flava.sum(axis=(1, 2))).pvalue > 0.01
        frequency, expected = masks.mean(axis=0), blocks_of_flava.mean(axis=0)
        assert np.abs(frequency - expected).max() < 4.5 * math.sqrt(2 * 0.25 / 1000)
    assert ks_2samp(blocks.sum(axis=(1, 2)), blocks_in_training.sum(axis=(1, 2))).pvalue > 0.01


def largest_rectangle(mask: Bools) -> tuple[int, int]:
    """Height and width of the largest rectangle that is masked as a whole."""
    total = np.pad(mask.astype(int).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    full = (
        (bottom - top, right - left)
        for top, bottom in combinations(range(len(total)), 2)
        for left, right in combinations(range(len(total)), 2)
        if total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
        == (bottom - top) * (right - left)
    )
    return max(full, key=lambda sides: sides[0] * sides[1])


def test_blocks_are_rectangles_of_at_least_16_patches_and_limited_aspect(blocks: Bools) -> None:
    sides = [largest_rectangle(mask) for mask in blocks[:60]]
    assert min(height * width for height, width in sides) >= 12  # 16, less what is rounded away
    assert len({height > width for height, width in sides}) == 2
    first = np.array(
        [
            largest_rectangle(mask[0].reshape(14, 14))
            for mask in blockwise_masks(make_ids(60), 1, (14, 14), 16 / 196, seed=0)
        ]
    )
    ratio = (first[:, 0] / first[:, 1]).astype(float)
    assert 0.3 / 1.5 < ratio.min() < 0.6
    assert 1.6 < ratio.max() < 1.5 / 0.3


def test_blocks_overlap(blocks: Bools) -> None:
    """A mask that consists of rectangles side by side would be bounded by few lines; overlaps make corners within."""
    corners = np.zeros(len(blocks), dtype=int)
    for top, left in np.ndindex(13, 13):
        corners += blocks[:, top : top + 2, left : left + 2].sum(axis=(1, 2)) == 3
    assert (corners > 0).mean() > 0.9
