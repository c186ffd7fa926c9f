"""Which patches a MIM model is shown, and which it has to reconstruct.

A mask is a row of L booleans, one a patch in row-major order: True is masked, to be reconstructed; False is
visible. For scoring, masks are a pure function of (seed, image id, draw), so that every model gets
the same masks of an image and their noise cancels between models; for training they come from a generator of the
training's own.
"""

import hashlib
import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mimia.runtime.arrays import Bools, Ids

MaskKind = Literal["random", "cell", "blockwise"]
"""``random`` patches (MAE), square ``cell`` s of patches (SimMIM), or overlapping rectangles, ``blockwise`` (BEiT)."""

Grid = tuple[int, int]
"""Rows and columns of patches."""

_BEIT_SMALLEST_BLOCK = 16 / 196  # 16 patches of 14 × 14
_BEIT_ASPECT = 0.3  # lowest ratio of height and width; its inverse is the highest
_TRIES = 10


def visible_count(tokens: int, mask_ratio: float) -> int:
    """Number of patches that stay visible under a random mask.

    The float expression is the official MAE's (``models_mae.py``), kept as it is on purpose:

    >>> visible_count(196, 0.75), visible_count(100, 0.9)
    (49, 9)
    """
    return int(tokens * (1 - mask_ratio))


def visible_cells(cells: int, mask_ratio: float) -> int:
    """Number of cells that stay visible; the number of masked ones is rounded up, as in the official SimMIM.

    >>> visible_cells(36, 0.6)
    14
    """
    return cells - math.ceil(cells * mask_ratio)


def random_masks(ids: Ids, draws: int, tokens: int, mask_ratio: float, seed: int) -> Bools:
    """Random masks as MAE draws them: the patches with the lowest noise stay visible.

    Each image has a counter-based generator (Philox) of its own, keyed by the seed and its id, from which its
    draws come in order: other images, the batch and the number of draws change nothing.

    Args:
        ids: Content ids of the images, (B,).
        draws: Number of masks for each image, K.
        tokens: Number of patches, L.
        mask_ratio: Proportion of the patches that is masked.
        seed: Seed of the whole set of masks.

    Returns:
        (B, K, L); each row has ``visible_count`` patches that are False.

    >>> masks = random_masks(np.array(["a", "b"]), 3, 16, 0.75, seed=0)
    >>> masks.shape, set(masks.sum(-1).flat) == {12}
    ((2, 3, 16), True)
    >>> bool((random_masks(np.array(["b"]), 2, 16, 0.75, seed=0) == masks[1:, :2]).all())
    True
    """
    return _ranks(ids, draws, tokens, seed) >= visible_count(tokens, mask_ratio)


def complementary_masks(ids: Ids, draws: int, tokens: int, visible: int, seed: int) -> Bools:
    """Random masks in groups that show each patch at most once: they spread the visible patches evenly.

    Args:
        ids: Content ids of the images, (B,).
        draws: Number of masks for each image, K; the last group may be incomplete.
        tokens: Number of patches, L.
        visible: Patches that each mask leaves visible.
        seed: Seed of the whole set of masks.

    Returns:
        (B, K, L).

    >>> masks = complementary_masks(np.array(["a"]), 4, 8, 2, seed=0)
    >>> (~masks).sum(axis=1).tolist()
    [[1, 1, 1, 1, 1, 1, 1, 1]]
    """
    in_group = tokens // visible
    groups = math.ceil(draws / in_group)
    ranks = _ranks(ids, groups, tokens, seed)
    turn = np.arange(in_group)[:, None]
    masks: Bools = ranks[:, :, None] // visible != turn
    return masks.reshape(len(ids), groups * in_group, tokens)[:, :draws]


def cell_masks(ids: Ids, draws: int, grid: Grid, cell: int, mask_ratio: float, seed: int) -> Bools:
    """Masks of square cells as SimMIM draws them (Xie et al., arXiv 2111.09886, section 3.2).

    Args:
        ids: Content ids of the images, (B,).
        draws: Number of masks for each image, K.
        grid: Rows and columns of patches.
        cell: Patches along one side of a cell; divides both.
        mask_ratio: Proportion of the cells that is masked.
        seed: Seed of the whole set of masks.

    Returns:
        (B, K, L).

    >>> int(cell_masks(np.array(["a"]), 1, (4, 4), 2, 0.5, seed=0).sum())
    8
    """
    cells = math.prod(grid) // cell**2
    return spread_cells(_ranks(ids, draws, cells, seed) >= visible_cells(cells, mask_ratio), grid, cell)


def spread_cells(masks: Bools, grid: Grid, cell: int) -> Bools:
    """Bring masks of cells to patches: (B, K, cells) -> (B, K, L).

    >>> spread_cells(np.array([[[True, False, False, False]]]), (4, 4), 2)[0, 0].reshape(4, 4).astype(int)
    array([[1, 1, 0, 0],
           [1, 1, 0, 0],
           [0, 0, 0, 0],
           [0, 0, 0, 0]])
    """
    spread: Bools = _spread(torch.from_numpy(masks), grid, cell).numpy()
    return spread


def blockwise_masks(ids: Ids, draws: int, grid: Grid, mask_ratio: float, seed: int) -> Bools:
    """Masks of overlapping rectangles as BEiT draws them (Bao et al., arXiv 2106.08254, algorithm 1).

    Args:
        ids: Content ids of the images, (B,).
        draws: Number of masks for each image, K.
        grid: Rows and columns of patches.
        mask_ratio: Proportion of the patches that is masked at most; a mask may end with fewer.
        seed: Seed of the whole set of masks.

    Returns:
        (B, K, L).
    """
    masks = np.empty((len(ids), draws, math.prod(grid)), dtype=bool)
    for row, generator in zip(masks, _generators(ids, seed), strict=True):
        for mask in row:
            mask[:] = _blocks(grid, mask_ratio, generator).ravel()
    return masks


def draw_random_masks(batch: int, tokens: int, mask_ratio: float, generator: torch.Generator) -> Tensor:
    """One random mask for each image of a training batch, from the generator and on its device.

    Returns:
        bool, (B, 1, L).
    """
    return _draw_ranks(batch, tokens, generator) >= visible_count(tokens, mask_ratio)


def draw_cell_masks(batch: int, grid: Grid, cell: int, mask_ratio: float, generator: torch.Generator) -> Tensor:
    """One mask of cells for each image of a training batch, from the generator and on its device.

    Returns:
        bool, (B, 1, L).
    """
    cells = math.prod(grid) // cell**2
    return _spread(_draw_ranks(batch, cells, generator) >= visible_cells(cells, mask_ratio), grid, cell)


def draw_blockwise_masks(batch: int, grid: Grid, mask_ratio: float, generator: torch.Generator) -> Tensor:
    """One mask of rectangles for each image of a training batch, from the generator and on its device.

    Returns:
        bool, (B, 1, L).
    """
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    numpy_generator = np.random.default_rng(seed)
    masks = np.stack([_blocks(grid, mask_ratio, numpy_generator).ravel() for _ in range(batch)])
    return torch.from_numpy(masks).unsqueeze(1).to(generator.device)


def _generators(ids: Ids, seed: int) -> Iterator[np.random.Generator]:
    """Yield a generator for each image, keyed by the seed and its id."""
    for image in ids:
        digest = hashlib.blake2b(f"{seed}:{image}".encode(), digest_size=16).digest()
        yield np.random.Generator(np.random.Philox(key=np.frombuffer(digest, dtype=np.uint64)))


def _ranks(ids: Ids, draws: int, places: int, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]]:
    noise = np.empty((len(ids), draws, places))
    for row, generator in zip(noise, _generators(ids, seed), strict=True):
        generator.random(out=row)
    return noise.argsort(axis=-1).argsort(axis=-1)


def _draw_ranks(batch: int, places: int, generator: torch.Generator) -> Tensor:
    noise = torch.rand(batch, 1, places, generator=generator, device=generator.device)
    return noise.argsort(dim=-1).argsort(dim=-1)


def _spread(masks: Tensor, grid: Grid, cell: int) -> Tensor:
    """Bring masks of cells to patches: (B, K, cells) -> (B, K, L)."""
    batch, draws, _ = masks.shape
    rows, columns = grid
    cells = masks.view(batch, draws, rows // cell, columns // cell)
    return cells.repeat_interleave(cell, dim=2).repeat_interleave(cell, dim=3).flatten(2)


def _blocks(grid: Grid, mask_ratio: float, generator: np.random.Generator) -> Bools:
    """Mask rectangles until the wanted number of patches is reached, or no more rectangle is found: (rows, columns)."""
    rows, columns = grid
    mask = np.zeros(grid, dtype=bool)
    wanted = round(mask.size * mask_ratio)
    smallest = max(1.0, _BEIT_SMALLEST_BLOCK * mask.size)
    while (missing := wanted - int(mask.sum())) > 0:
        for _ in range(_TRIES):
            size = generator.uniform(min(smallest, missing), max(smallest, missing))
            aspect = math.exp(generator.uniform(math.log(_BEIT_ASPECT), -math.log(_BEIT_ASPECT)))
            height, width = round(math.sqrt(size * aspect)), round(math.sqrt(size / aspect))
            if not (0 < height < rows and 0 < width < columns):
                continue
            top, left = generator.integers(0, (rows - height + 1, columns - width + 1))
            block = mask[top : top + height, left : left + width]
            if 0 < int((~block).sum()) <= missing:
                block[:] = True
                break
        else:
            break
    if not mask.any():  # on a tiny grid hardly any rectangle fits
        mask.flat[generator.integers(mask.size)] = True
    return mask
