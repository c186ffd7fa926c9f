"""Where the parts of an image answer in its feature map (PartCrop, Zhu et al., arXiv 2404.02462, section 4)."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mimia.arrays import Floats, Ids, Pixels
from mimia.compute import accelerator
from mimia.seeds import torch_generator
from mimia.signals.kinds import Asking, Kind, Subject
from mimia.signals.views import random_crops_of

_CROPS = 128
_AREA = (0.08, 0.2)


class Parts(Kind):
    """How peaked the responses of an image's patches to crops of it are.

    A crop is scaled to half the image's size. It is shown in the middle of an image that is hidden else, so that
    encoders of any family take it with positions that they know.
    """

    access = "encoder"
    summary = "divergences of the feature map's responses to crops"
    asks = "128 crops"

    def passes(self, asking: Asking) -> int:
        """One a crop, and the image."""
        return _CROPS

    def question(self, asking: Asking) -> Mapping[str, Any]:
        """Number, size and seed of the crops."""
        return {"seed": asking.settings.seed, "crops": _CROPS, "area": _AREA}

    def measure(self, subject: Subject, pixels: Pixels, ids: Ids, asking: Asking) -> Floats:
        """Give the sorted divergences from the uniform and from a sorted normal response: (B, 2 × crops)."""
        crops = subject.tensor(random_crops_of(pixels, ids, _CROPS, _AREA, asking.settings.seed))
        with torch.inference_mode():
            with accelerator(asking.compute).autocast():
                patches, parts = _patches(subject, pixels).float(), _parts(subject, crops).float()
            responses = F.log_softmax(parts @ patches.transpose(1, 2), dim=-1)  # (B, crops, L)
            uniform, normal = divergences(responses, asking.settings.seed)
        both: Floats = torch.cat([uniform.sort(dim=1).values, normal.sort(dim=1).values], dim=1).cpu().numpy()
        return both


def divergences(responses: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Kullback–Leibler divergences of responses from a uniform and from a sorted normal density (equations 2 to 4).

    Args:
        responses: Logarithms of distributions over L patches, (..., L).
        seed: Seed of the places at which the normal density is taken.

    Returns:
        Σ (1/L) (log(1/L) − log q_j), and Σ g_j (log g_j − log q_(j)), where g and q are sorted: both (...).
    """
    count = responses.shape[-1]
    places = torch.randn(count, generator=torch_generator("cpu", seed, "normal"), dtype=torch.float64)
    density = torch.softmax(-places.square() / 2, dim=0).sort().values.to(responses)
    uniform = -math.log(count) - responses.mean(dim=-1)
    ordered = responses.sort(dim=-1).values
    return uniform, (density * (density.log() - ordered)).sum(dim=-1)


def _patches(subject: Subject, pixels: Pixels) -> Tensor:
    """Encode whole images: (B, L, D)."""
    nothing = torch.zeros(len(pixels), 1, subject.model.spec.tokens, dtype=torch.bool, device=subject.device)
    return subject.model.tokens(subject.tensor(pixels), nothing)[:, 0]


def _parts(subject: Subject, crops: Tensor) -> Tensor:
    """Encode crops, (B, K, C, H, W), as the mean of their patches: (B, K, D)."""
    spec = subject.model.spec
    shape, side = crops.shape, max(1, spec.grid // 2)
    first = (spec.grid - side) // 2
    middle = slice(first * spec.patch_size, (first + side) * spec.patch_size)
    canvas = torch.zeros_like(crops.flatten(0, 1))
    small = F.interpolate(crops.flatten(0, 1).float(), size=side * spec.patch_size, mode="area")
    canvas[:, :, middle, middle] = small.round().to(torch.uint8)
    hidden = torch.ones(spec.grid, spec.grid, dtype=torch.bool, device=crops.device)
    hidden[first : first + side, first : first + side] = False
    masks = hidden.flatten().expand(len(canvas), 1, -1)
    return subject.model.tokens(canvas, masks).mean(dim=2)[:, 0].view(*shape[:2], -1)
