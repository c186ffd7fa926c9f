"""Near-duplicates: different files that show the same picture.

Gradients are compared and not brightness, since the large bright and dark parts of unrelated photographs are often
alike. As a first look they also miss fewer cropped copies than a perceptual hash of 64 bits with as many candidates.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mimia.runtime.arrays import Indices, Pixels

_SIDE = 32  # pixels to which images are brought
_WINDOW = 28  # pixels of their middle, which is left of a picture that was moved or cropped
_COARSE, _FINE = 8, 16  # pixels of it in the first and in the second look
_CANDIDATE = 0.6  # correlation of the first look that calls for a second one
_SAME = 0.85  # correlation of the second look, at the best alignment
_SAME_OF_SMALL = 0.975  # of images that have too few pixels for two looks
_PLAIN = 1.0  # length of all gradients, in grey levels, below which there is nothing to compare
_SCALES = (30, 32, 34)
_OFFSETS = (-1, 0, 1)
_CHUNK = 1024


@dataclass(frozen=True)
class Pair:
    """Two images that show the same picture.

    Attributes:
        first: Place in the first set.
        second: Place in the second.
        correlation: Correlation of their gradients, 1 for the same picture.
    """

    first: int
    second: int
    correlation: float


def near_duplicates(first: Pixels, second: Pixels) -> list[Pair]:
    """Find images of two sets that show the same picture, the most alike first.

    It finds pictures that were encoded anew, sharpened, blurred, made brighter, mirrored, or moved or cropped by a
    pixel or two of 32. Of the 144 million pairs of two halves of 24,000 images of CIFAR-10 it finds 266, of which
    some twenty show different pictures, mostly of ships before a horizon. An image of one colour has no duplicates.

    Images below 16 pixels are compared as they are, and so strictly that one of the 1.6 million pairs of the digits
    is found, because pictures of different things look alike at 8×8. It finds copies that are mirrored, brighter,
    or a little noisy, but hardly any that were blurred, moved, or saved as a JPEG of a quality far below 75.

    Args:
        first: uint8, (N, C, H, W); they are compared as grey squares.
        second: uint8, (M, C, H, W).

    Returns:
        Pairs of places in the two sets.
    """
    small = min(first.shape[2:]) < _FINE
    ones, others = _grey(first, small), _grey(second, small)
    found: dict[tuple[int, int], float] = {}
    for candidates in (others, others.flip(-1)):
        for rows, columns, correlations in _alike(ones, candidates, small):
            for row, column, value in zip(rows.tolist(), columns.tolist(), correlations.tolist(), strict=True):
                found[row, column] = max(value, found.get((row, column), 0.0))
    pairs = [Pair(row, column, value) for (row, column), value in found.items()]
    return sorted(pairs, key=lambda pair: (-pair.correlation, pair.first, pair.second))


def repeated(pixels: Pixels) -> Indices:
    """Return the places of images of which an earlier one shows the same picture.

    Args:
        pixels: uint8, (N, C, H, W).

    Returns:
        In ascending order, (repeated images,).
    """
    later = {pair.second for pair in near_duplicates(pixels, pixels) if pair.first < pair.second}
    return np.array(sorted(later), dtype=np.intp)


def _grey(pixels: Pixels, small: bool) -> Tensor:
    """Return grey images, (N, S, S)."""
    side = min(pixels.shape[2:]) if small else _SIDE
    grey = torch.empty(len(pixels), side, side)
    for start in range(0, len(pixels), _CHUNK):
        part = torch.from_numpy(np.array(pixels[start : start + _CHUNK])).float().mean(dim=1, keepdim=True)
        grey[start : start + _CHUNK] = _scaled(part, side, side)[:, 0]
    return grey


def _alike(ones: Tensor, others: Tensor, small: bool) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the pairs that are alike: rows, columns, correlations."""
    look = _gradients if small else _first_look
    seen, seen_of_others = look(ones), look(others)
    for start in range(0, len(ones), _CHUNK):
        first = seen[start : start + _CHUNK] @ seen_of_others.T
        candidates = (first >= (_SAME_OF_SMALL if small else _CANDIDATE)).nonzero()
        for at in range(0, len(candidates), _CHUNK):
            rows, columns = candidates[at : at + _CHUNK].T
            correlations = first[rows, columns] if small else _aligned(ones[rows + start], others[columns])
            same = correlations >= (_SAME_OF_SMALL if small else _SAME)
            yield rows[same] + start, columns[same], correlations[same]


def _first_look(images: Tensor) -> Tensor:
    edge = (_SIDE - _WINDOW) // 2
    middle = images[:, None, edge:-edge, edge:-edge]
    return _gradients(F.interpolate(middle, size=_COARSE, mode="area")[:, 0])


def _aligned(ones: Tensor, others: Tensor) -> Tensor:
    """Return the correlation of each pair in the second look, at the best of some shifts and scales, (pairs,)."""
    (middle,) = _views(_SIDE, (0,))
    seen = _gradients(middle.T @ ones @ middle)
    best = torch.full((len(ones),), -1.0)
    for scale in _SCALES:
        views = _views(scale, _OFFSETS)
        for down in views:
            rows = down.T @ others
            for across in views:
                best = torch.maximum(best, (seen * _gradients(rows @ across)).sum(dim=1))
    return best


def _views(scale: int, offsets: tuple[int, ...]) -> list[Tensor]:
    """Return what scales a line of pixels, cuts out a window and brings it to the size of the second look.

    Returns:
        For each offset of the window from the middle a matrix, (32, 16).
    """
    lines = _scaled(torch.eye(_SIDE)[None, None], _SIDE, scale)
    start = (scale - _WINDOW) // 2
    windows = [lines[..., start + offset : start + offset + _WINDOW] for offset in offsets]
    return [F.interpolate(window, size=(_SIDE, _FINE), mode="area")[0, 0] for window in windows]


def _scaled(images: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(images, size=(height, width), mode="bilinear", antialias=True)


def _gradients(images: Tensor) -> Tensor:
    """Return the differences between neighbouring pixels, scaled to length one: (N, H, W) to (N, numbers)."""
    flat = torch.cat([images.diff(dim=-2).flatten(1), images.diff(dim=-1).flatten(1)], dim=1)
    return F.normalize(flat - flat.mean(dim=1, keepdim=True), eps=_PLAIN)
