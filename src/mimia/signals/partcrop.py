"""Responses of an image's feature map to crops of the image (PartCrop, Zhu et al., arXiv 2404.02462, section 4)."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mimia.runtime.arrays import Floats, Ids, Pixels
from mimia.runtime.compute import accelerator
from mimia.runtime.seeds import torch_generator
from mimia.signals.base import QueryConfig, Signal
from mimia.signals.crop_similarity import random_crops_of
from mimia.signals.queried import QueriedModel

_CROPS = 128
_AREA = (0.08, 0.2)


class PartCropResponses(Signal):
    """Divergences of the responses of an image's patches to 128 crops: they measure how peaked the responses are.

    A crop is scaled to half the image's size and placed in the middle of an image whose other patches are hidden, so
    that encoders of any family get it at positions that they were trained with.
    """

    access = "encoder"
    summary = "divergences of the feature map's responses to crops"
    queries = "128 crops"

    def forward_passes(self, query: QueryConfig) -> int:
        """Return one for each crop."""
        return _CROPS

    def length(self, query: QueryConfig) -> int:
        """Return two for each crop."""
        return 2 * _CROPS

    def cache_key(self, query: QueryConfig) -> Mapping[str, Any]:
        """Return number, size and seed of the crops."""
        return {"seed": query.settings.seed, "crops": _CROPS, "area": _AREA}

    def compute(self, queried: QueriedModel, pixels: Pixels, ids: Ids, query: QueryConfig) -> Floats:
        """Return the sorted divergences from the uniform and from a sorted normal response, (B, 2 × crops)."""
        crops = queried.tensor(random_crops_of(pixels, ids, _CROPS, _AREA, query.settings.seed))
        with torch.inference_mode():
            with accelerator(query.compute).autocast():
                patches, parts = _patches(queried, pixels).float(), _parts(queried, crops).float()
            responses = F.log_softmax(parts @ patches.transpose(1, 2), dim=-1)  # (B, crops, L)
            uniform, normal = divergences(responses, query.settings.seed)
        both: Floats = torch.cat([uniform.sort(dim=1).values, normal.sort(dim=1).values], dim=1).cpu().numpy()
        return both


def divergences(responses: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Compute Kullback–Leibler divergences from a uniform and from a sorted normal density (equations 2 to 4).

    Args:
        responses: Logarithms of distributions over L patches, (..., L).
        seed: Seed of the places where the normal density is evaluated.

    Returns:
        Σ (1/L) (log(1/L) − log q_j), and Σ g_j (log g_j − log q_(j)), where g and q are sorted: both (...).
    """
    count = responses.shape[-1]
    places = torch.randn(count, generator=torch_generator("cpu", seed, "normal"), dtype=torch.float64)
    density = torch.softmax(-places.square() / 2, dim=0).sort().values.to(responses)
    uniform = -math.log(count) - responses.mean(dim=-1)
    ordered = responses.sort(dim=-1).values
    return uniform, (density * (density.log() - ordered)).sum(dim=-1)


def _patches(queried: QueriedModel, pixels: Pixels) -> Tensor:
    """Encode whole images: (B, L, D)."""
    nothing = torch.zeros(len(pixels), 1, queried.model.spec.tokens, dtype=torch.bool, device=queried.device)
    return queried.model.tokens(queried.tensor(pixels), nothing)[:, 0]


def _parts(queried: QueriedModel, crops: Tensor) -> Tensor:
    """Encode crops, (B, K, C, H, W), as the mean of their patches: (B, K, D)."""
    spec = queried.model.spec
    halves = [max(1, side // 2) for side in spec.grid]
    rows, columns = (
        slice((side - half) // 2, (side + half) // 2) for side, half in zip(spec.grid, halves, strict=True)
    )
    hidden = torch.ones(spec.grid, dtype=torch.bool, device=crops.device)
    hidden[rows, columns] = False
    down, across = (slice(part.start * spec.patch_size, part.stop * spec.patch_size) for part in (rows, columns))
    canvas = torch.zeros_like(crops.flatten(0, 1))
    small = F.interpolate(crops.flatten(0, 1).float(), size=[half * spec.patch_size for half in halves], mode="area")
    canvas[:, :, down, across] = small.round().to(torch.uint8)
    masks = hidden.flatten().expand(len(canvas), 1, -1)
    return queried.model.tokens(canvas, masks).mean(dim=2)[:, 0].view(*crops.shape[:2], -1)
