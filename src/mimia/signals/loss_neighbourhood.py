"""Reconstruction errors of queries near those of training: other mask ratios, mirrored and shifted images.

They estimate how well the model reconstructs such an image without having seen it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mimia.data.augmentation import augment
from mimia.runtime.arrays import Bools, Floats, Ids, Pixels
from mimia.runtime.seeds import torch_generator
from mimia.signals.base import QueryConfig, Signal
from mimia.signals.queried import QueriedModel
from mimia.signals.reconstruction import patch_errors

_OTHER_RATIOS = (0.5, 0.9)
_SHIFTS = ((0, 2), (2, 0), (-1, -2))  # pixels down and across
_LOG_FLOOR = 1e-4  # added to a patch's error before its logarithm: a patch of one colour can have none


class LossNeighbourhood(Signal):
    """Errors under complementary masks, at other mask ratios, and of mirrored and shifted images.

    If the target was trained on crops, crops drawn as in training are added. Each query gives two numbers: the
    logarithm of the mean error, and the mean over the patches of the logarithm of the error, in which patches that are
    easy to predict have the same weight as others.
    """

    access = "encoder"
    decoder = "reconstruction"
    summary = "reconstruction errors at other mask ratios, mirrored, shifted, patch by patch"
    queries = "3 times signals.draws masks"

    def forward_passes(self, query: QueryConfig) -> int:
        """Return those of the query with the most masks."""
        return query.settings.draws

    def length(self, query: QueryConfig) -> int:
        """Return two for each query."""
        ratios = sum(_fits(query, ratio) for ratio in _OTHER_RATIOS)
        return 2 * (2 + ratios + len(_SHIFTS) + (query.recipe.augmentation == "crop"))

    def cache_key(self, query: QueryConfig) -> Mapping[str, Any]:
        """Return the masks, and the augmentation of training."""
        return query.masking | {
            "draws": query.settings.draws,
            "ratios": _OTHER_RATIOS,
            "shifts": _SHIFTS,
            "crops": query.recipe.crop_scale if query.recipe.augmentation == "crop" else None,
        }

    def compute(self, queried: QueriedModel, pixels: Pixels, ids: Ids, query: QueryConfig) -> Floats:
        """Return two logarithms for each query, in the model's target space, (B, 2 × queries)."""
        numbers = []
        for images, masks in _queries(queried, pixels, ids, query):
            hidden = queried.tensor(masks)
            errors = patch_errors(queried, images, hidden, query)
            count = hidden.sum(dim=(1, 2))
            mean = (errors * hidden).sum(dim=(1, 2)) / count
            logs = (torch.log(errors + _LOG_FLOOR) * hidden).sum(dim=(1, 2)) / count
            numbers += [torch.log(mean + _LOG_FLOOR), logs]
        stacked: Floats = torch.stack(numbers, dim=1).cpu().numpy()
        return stacked


def shifted(pixels: Pixels, down: int, across: int) -> Pixels:
    """Shift images, (B, C, H, W), by some pixels; the border is mirrored.

    >>> shifted(np.arange(9, dtype=np.uint8).reshape(1, 1, 3, 3), 1, 0)[0, 0]
    array([[3, 4, 5],
           [0, 1, 2],
           [3, 4, 5]], dtype=uint8)
    """
    height, width = pixels.shape[-2:]
    reach = max(abs(down), abs(across))
    padded = np.pad(pixels, ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="reflect")
    top, left = reach - down, reach - across
    return padded[:, :, top : top + height, left : left + width]


def _queries(queried: QueriedModel, pixels: Pixels, ids: Ids, query: QueryConfig) -> Iterator[tuple[Tensor, Bools]]:
    """Yield images, (B, C, H, W) or one for each mask, (B·K, C, H, W), with masks, (B, K, L)."""
    spec, seed, draws = query.spec, query.settings.seed, query.settings.draws
    fewer = max(1, draws // 4)
    plain = queried.tensor(pixels)
    yield plain, spec.complementary_masks(ids, draws, seed + 1)
    for ratio in _OTHER_RATIOS:
        if _fits(query, ratio):
            yield plain, spec.model_copy(update={"mask_ratio": ratio}).scoring_masks(ids, fewer, seed)
    yield plain.flip(-1), spec.scoring_masks(ids, draws // 2 or 1, seed)
    for down, across in _SHIFTS:
        yield queried.tensor(shifted(pixels, down, across)), spec.scoring_masks(ids, fewer, seed)
    if query.recipe.augmentation == "crop":
        yield _crops(plain, ids, draws, query), spec.scoring_masks(ids, draws, seed)


def _fits(query: QueryConfig, ratio: float) -> bool:
    """Return whether some patches are masked and some visible at this ratio."""
    other = query.spec.model_copy(update={"mask_ratio": ratio})
    return 0 < other.visible < other.tokens


def _crops(images: Tensor, ids: Ids, draws: int, query: QueryConfig) -> Tensor:
    """Crop each image as in training, once for each draw: (B·K, C, H, W)."""
    crops = []
    for image, name in zip(images.cpu(), ids, strict=True):
        generator = torch_generator("cpu", query.settings.seed, "crops", str(name))
        copies = image.expand(draws, -1, -1, -1)
        crops.append(augment(copies, "crop", generator, query.recipe.crop_scale))
    return torch.cat(crops).to(images.device)
