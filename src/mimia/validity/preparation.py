"""What differs between two sides that were prepared otherwise, in words that a person can check."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import mannwhitneyu

from mimia.data.file_metadata import FACTS
from mimia.evaluation.roc import placements
from mimia.runtime.arrays import Bools, Floats, Ids, Pixels
from mimia.validity.blind_baseline import BlindGuess

_LEVEL = 0.001  # of all quantities together
_MOST = 3
_BLOCK = 8  # pixels of a JPEG's blocks
_CHUNK = 256
_EPSILON = 1e-9

_CAUSES = {
    "brightness": "brightness, gamma or normalisation",
    "contrast": "contrast or gamma",
    "saturation": "colour space, or grey images",
    "sharpness": "resampling filter, blur, sharpening or compression",
    "finest detail, relative to coarser detail": "resampling filter, or resizing up",
    "steps at 8-pixel block borders, relative to other places": "JPEG compression",
    "number of different values": "palette, quantisation or compression",
    "proportion of black and white values": "clipping, or a border of one colour",
    "difference between the border and its neighbours": "padding, a frame, or rotation",
}
"""The quantities of pixels, and what usually makes them differ."""


@dataclass(frozen=True)
class Difference:
    """A quantity by which the sides differ.

    Attributes:
        quantity: What it is, for a reader.
        medians: Of the first side and of the second.
        auc: Probability that it is larger on the first side.
        cause: What usually makes it differ.
    """

    quantity: str
    medians: tuple[float, float]
    auc: float
    cause: str


@dataclass(frozen=True)
class Preparation:
    """How the sides differ.

    Attributes:
        differences: Those that are plainest, the plainest first; there may be none.
        images: Names of the images of the first side that look least like the second.
    """

    differences: tuple[Difference, ...]
    images: tuple[str, ...]


def describe_preparation(
    pixels: Pixels, facts: Floats, names: Ids, is_first: Bools, guesses: Sequence[BlindGuess]
) -> Preparation:
    """Compare the sides quantity by quantity (Mann–Whitney test, Bonferroni), and name the images that show it most.

    Args:
        pixels: uint8, raw, (N, C, H, W).
        facts: Metadata of the image files, (N, facts).
        names: (N,).
        is_first: Which images are on the first side, (N,).
        guesses: Of the classifiers that tell the sides apart.
    """
    of_pixels = _quantities(pixels)
    quantities = of_pixels | {f"{name} of the file": facts[:, column] for column, name in enumerate(FACTS)}
    found = []
    for name, values in quantities.items():
        first, second = values[is_first], values[~is_first]
        if mannwhitneyu(first, second).pvalue * len(quantities) < _LEVEL:
            auc = float(placements(first, second)[0].mean())
            medians = float(np.median(first)), float(np.median(second))
            found.append(Difference(name, medians, auc, _CAUSES.get(name, "another file format, encoder or editor")))
    found.sort(key=lambda each: -abs(each.auc - 0.5))
    odds = sum(each.scores / (each.scores.std() + _EPSILON) for each in guesses)
    order = np.argsort(-np.where(is_first, odds, -np.inf), kind="stable")[:_MOST]
    return Preparation(tuple(found[:_MOST]), tuple(str(name) for name in names[order]))


def _quantities(pixels: Pixels) -> dict[str, Floats]:
    chunks = [_quantities_of(pixels[start : start + _CHUNK]) for start in range(0, len(pixels), _CHUNK)]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _quantities_of(pixels: Pixels) -> dict[str, Floats]:
    values = pixels.astype(np.float64)
    grey = values.mean(axis=1)
    across, down = np.abs(np.diff(grey, axis=2)), np.abs(np.diff(grey, axis=1))
    fine = np.abs(np.diff(grey, 2, axis=2)).mean(axis=(1, 2)) + np.abs(np.diff(grey, 2, axis=1)).mean(axis=(1, 2))
    coarse = np.abs(grey[:, :, 2:] - grey[:, :, :-2]).mean(axis=(1, 2)) + np.abs(grey[:, 2:] - grey[:, :-2]).mean(
        axis=(1, 2)
    )
    at_borders = np.arange(across.shape[2]) % _BLOCK == _BLOCK - 1
    ordered = np.sort(pixels.reshape(len(pixels), -1), axis=1)
    found = {
        "brightness": grey.mean(axis=(1, 2)),
        "contrast": grey.std(axis=(1, 2)),
        "saturation": (values.max(axis=1) - values.min(axis=1)).mean(axis=(1, 2)),
        "sharpness": fine,
        "finest detail, relative to coarser detail": fine / (coarse + _EPSILON),
        "number of different values": (np.diff(ordered, axis=1) > 0).sum(axis=1) + 1.0,
        "proportion of black and white values": ((pixels == 0) | (pixels == 255)).mean(axis=(1, 2, 3)),
        "difference between the border and its neighbours": (
            across[:, :, [0, -1]].mean(axis=(1, 2)) + down[:, [0, -1]].mean(axis=(1, 2))
        ),
    }
    if at_borders.any():
        blocks = across[:, :, at_borders].mean(axis=(1, 2)) / (across[:, :, ~at_borders].mean(axis=(1, 2)) + _EPSILON)
        found["steps at 8-pixel block borders, relative to other places"] = blocks
    return found
