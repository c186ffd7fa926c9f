"""What an image is, whatever the target: for attacks that tell its difficulty without references."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mimia.arrays import Floats, Ids, Pixels
from mimia.encoders.patches import patchify
from mimia.images.statistics import pixel_statistics
from mimia.masking import complementary_masks
from mimia.seeds import torch_generator
from mimia.signals.kinds import Asking, Kind, Subject
from mimia.signals.views import hide

_CHANNELS = (16, 32)  # of the network without training
_FOLDS = 4
_RIDGE = 0.1  # of the mean variance of a feature


class Statistics(Kind):
    """Brightness, contrast, colour, sharpness and the traces of encoders (`pixel_statistics`)."""

    access = "embeddings"
    summary = "pixel statistics of the image, without the target"
    asks = "nothing of the target"

    def passes(self, asking: Asking) -> int:
        """None of a model; batches as large as can be."""
        return 1

    def question(self, asking: Asking) -> Mapping[str, Any]:
        """Nothing is drawn."""
        return {}

    def measure(self, subject: Subject, pixels: Pixels, ids: Ids, asking: Asking) -> Floats:
        """Give the statistics: (B, features)."""
        return pixel_statistics(pixels)


class Predictability(Kind):
    """Error of a ridge regression of an image's patches on what a network without training makes of their surroundings.

    A patch is hidden where its features are computed, and the regression that predicts it was fitted to other patches
    of the same image.
    """

    access = "embeddings"
    summary = "how far patches follow from their surroundings, without the target"
    asks = "nothing of the target"

    def passes(self, asking: Asking) -> int:
        """One a mask, of a network whose maps are as large as the image, and many."""
        return 16 * _FOLDS

    def question(self, asking: Asking) -> Mapping[str, Any]:
        """The patches, the pixel statistics of the target, and the seed."""
        of_spec = asking.spec.model_dump(include={"mean", "std"})  # a shadow's own may be others
        return {"seed": asking.settings.seed, "grid": asking.spec.grid, "ridge": _RIDGE} | of_spec

    def measure(self, subject: Subject, pixels: Pixels, ids: Ids, asking: Asking) -> Floats:
        """Give the mean squared error in data-set-normalised pixels: (B, 1)."""
        spec = asking.spec
        folds = ~complementary_masks(ids, _FOLDS, spec.tokens, spec.tokens // _FOLDS, asking.settings.seed)
        views = torch.from_numpy(hide(pixels, folds, spec.patch_size)).flatten(0, 1)
        hidden = torch.from_numpy(folds)
        network = _network(spec.channels, asking.settings.seed)
        features = _patch_features(network, spec.normalise(views), spec.patch_size).view(*folds.shape, -1)
        features = (features * hidden.unsqueeze(-1)).sum(dim=1)  # of each patch, where it is hidden
        patches = patchify(spec.normalise(torch.from_numpy(pixels)), spec.patch_size)
        error = torch.stack([_error(features, patches, fold) for fold in hidden.unbind(dim=1)], dim=1).sum(dim=1)
        mean: Floats = (error / hidden.sum(dim=(1, 2))).float().numpy()
        return mean[:, None]


def _network(channels: int, seed: int) -> nn.Sequential:
    generator = torch_generator("cpu", seed, "unrelated network")
    with torch.random.fork_rng(devices=()):  # torch fills the layers from the global random state at first
        first, second = nn.Conv2d(channels, _CHANNELS[0], 3, padding=1), nn.Conv2d(*_CHANNELS, 3, padding=1)
    for layer in (first, second):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


def _patch_features(network: nn.Module, pixels: Tensor, patch_size: int) -> Tensor:
    """Mean response around each patch, a constant with it: (B, C, H, W) -> (B, L, D)."""
    with torch.inference_mode():
        response: Tensor = network(pixels)
    around = F.avg_pool2d(response, 3 * patch_size, patch_size, patch_size, count_include_pad=False)
    features = around.flatten(2).transpose(1, 2)
    return torch.cat([features, torch.ones_like(features[..., :1])], dim=-1).double()


def _error(features: Tensor, patches: Tensor, fold: Tensor) -> Tensor:
    """Fit on the patches outside a fold, and give the summed error of those in it.

    Args:
        features: (B, L, D).
        patches: What is predicted, (B, L, values).
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
