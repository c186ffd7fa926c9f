"""A small convolutional network that classifies images by their pixels, for the blind baseline."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mimia.runtime.arrays import Bools, Floats, Indices, Pixels

_LARGEST = 64  # pixels of a side: larger images are cropped, because scaling would wash traces out
_STEPS = 150  # whatever the number of images
_HALF_BATCH = 32  # images of each side in a step


def centres(pixels: Pixels) -> Tensor:
    """Copy the centre of each image, 64 × 64 pixels at most: uint8, (N, C, H, W)."""
    height, width = pixels.shape[2:]
    top, left = max(0, (height - _LARGEST) // 2), max(0, (width - _LARGEST) // 2)
    return torch.from_numpy(np.array(pixels[:, :, top : top + _LARGEST, left : left + _LARGEST]))


def fit_network(images: Tensor, is_member: Bools, rows: Indices, generator: torch.Generator) -> nn.Module:
    """Train a network to tell members from non-members; it sees as many images of either side.

    Args:
        images: uint8, raw pixels, (N, C, H, W).
        is_member: (N,).
        rows: Images to train on.
        generator: Of weights and batches.
    """
    module = _network(2 * images.shape[1], generator)
    sides = [torch.from_numpy(rows[is_member[rows] == side]) for side in (True, False)]
    labels = torch.arange(2 * _HALF_BATCH).lt(_HALF_BATCH).float()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for _ in range(_STEPS):
        batch = torch.cat([side[torch.randint(len(side), (_HALF_BATCH,), generator=generator)] for side in sides])
        loss = F.binary_cross_entropy_with_logits(module(images[batch])[:, 0], labels)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
    return module.eval()


def log_odds(module: nn.Module, images: Tensor) -> Floats:
    """Return the log-odds of being a member, (N,)."""
    with torch.inference_mode():
        odds: Floats = torch.cat([module(part)[:, 0] for part in torch.split(images, 512)]).double().numpy()
    return odds


class _Detail(nn.Module):
    """Add the difference of each pixel from its neighbours, which shows sharpness and traces of encoders best."""

    def forward(self, images: Tensor) -> Tensor:
        values = images.float()
        smooth = F.avg_pool2d(values, 3, stride=1, padding=1, count_include_pad=False)
        return torch.cat([values, values - smooth], dim=1)


def _network(channels: int, generator: torch.Generator) -> nn.Module:
    module = nn.Sequential(
        _Detail(),
        nn.BatchNorm2d(channels, affine=False),
        nn.Conv2d(channels, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 1),
    )
    for layer in module:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return module
