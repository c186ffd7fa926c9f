"""How well an image's patches follow from their surroundings (Shafran et al., arXiv 2102.07762, section 4)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mimia.config.sizes import collapsed
from mimia.models.masking import complementary_masks
from mimia.models.patches import patchify
from mimia.runtime.arrays import Floats, Ids, Pixels
from mimia.runtime.seeds import torch_generator
from mimia.signals.base import QueryConfig, Signal
from mimia.signals.queried import QueriedModel
from mimia.signals.view_similarity import hide

_CHANNELS = (16, 32)  # of the untrained network
_FOLDS = 4
_RIDGE = 0.1  # of the mean variance of a feature


class PatchPredictability(Signal):
    """Error of a ridge regression that predicts patches from features of their surroundings by an untrained network.

    A patch is hidden when its features are computed, and the regression that predicts it was fitted to other patches of
    the same image.
    """

    access = "embeddings"
    summary = "how far patches follow from their surroundings, without the target"
    queries = "none of the target"

    def forward_passes(self, query: QueryConfig) -> int:
        """Return 16 for each fold: the network's feature maps are as large as the image."""
        return 16 * _FOLDS

    def length(self, query: QueryConfig) -> int:
        """Return one."""
        return 1

    def cache_key(self, query: QueryConfig) -> Mapping[str, Any]:
        """Return the patches, the target's pixel statistics, and the seed."""
        of_spec = query.spec.model_dump(include={"mean", "std"})  # a shadow's own may be others
        return {"seed": query.settings.seed, "grid": collapsed(query.spec.grid), "ridge": _RIDGE} | of_spec

    def compute(self, queried: QueriedModel, pixels: Pixels, ids: Ids, query: QueryConfig) -> Floats:
        """Return the mean squared error in data-set-normalised pixels, (B, 1)."""
        spec = query.spec
        folds = ~complementary_masks(ids, _FOLDS, spec.tokens, spec.tokens // _FOLDS, query.settings.seed)
        views = torch.from_numpy(hide(pixels, folds, spec.patch_size)).flatten(0, 1)
        hidden = torch.from_numpy(folds)
        network = untrained_network(spec.channels, query.settings.seed)
        features = _patch_features(network, spec.normalise(views), spec.patch_size).view(*folds.shape, -1)
        features = (features * hidden.unsqueeze(-1)).sum(dim=1)  # of each patch, where it is hidden
        patches = patchify(spec.normalise(torch.from_numpy(pixels)), spec.patch_size)
        error = torch.stack([_error(features, patches, fold) for fold in hidden.unbind(dim=1)], dim=1).sum(dim=1)
        mean: Floats = (error / hidden.sum(dim=(1, 2))).float().numpy()
        return mean[:, None]


def untrained_network(channels: int, seed: int) -> nn.Sequential:
    """Return a network of two convolutions with random weights, which follow from the seed."""
    generator = torch_generator("cpu", seed, "unrelated network")
    with torch.random.fork_rng(devices=()):  # torch fills the layers from the global random state at first
        first, second = nn.Conv2d(channels, _CHANNELS[0], 3, padding=1), nn.Conv2d(*_CHANNELS, 3, padding=1)
    for layer in (first, second):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


def _patch_features(network: nn.Module, pixels: Tensor, patch_size: int) -> Tensor:
    """Return the mean response around each patch, and a constant: (B, C, H, W) -> (B, L, D)."""
    with torch.inference_mode():
        response: Tensor = network(pixels)
    around = F.avg_pool2d(response, 3 * patch_size, patch_size, patch_size, count_include_pad=False)
    features = around.flatten(2).transpose(1, 2)
    return torch.cat([features, torch.ones_like(features[..., :1])], dim=-1).double()


def _error(features: Tensor, patches: Tensor, fold: Tensor) -> Tensor:
    """Fit on the patches outside a fold, and return the summed error of those in it, (B,).

    Args:
        features: (B, L, D).
        patches: Patches to predict, (B, L, values).
        fold: (B, L).
    """
    outside = features * ~fold.unsqueeze(-1)
    gram = outside.transpose(1, 2) @ outside
    ridge = _RIDGE * gram.diagonal(dim1=1, dim2=2).mean(dim=1)
    eye = torch.eye(features.shape[-1], dtype=torch.float64)
    weights = torch.linalg.solve(gram + ridge.view(-1, 1, 1) * eye, outside.transpose(1, 2) @ patches.double())
    errors = (features @ weights - patches).square().mean(dim=-1)
    total: Tensor = (errors * fold).sum(dim=1)
    return total
