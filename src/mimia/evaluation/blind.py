"""The blind baseline: can members be told from non-members without any model?

If so, the two sides differ by more than membership (by their preparation, say), and an attack's success proves
nothing (Das et al., arXiv 2406.16201).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn
from torch.nn import functional as F

from mimia.arrays import Bools, Floats, Indices, Pixels
from mimia.evaluation.estimate import CONFIDENCE, Estimate
from mimia.evaluation.roc import area_estimate, area_variance, placements
from mimia.images.statistics import pixel_statistics
from mimia.seeds import derived_seed, torch_generator

_FOLDS = 5
_LARGEST = 64  # pixels of a side: the centre of a larger image, as scaling would wash traces out
_STEPS = 150  # of the network, whatever the number of images
_HALF_BATCH = 32  # images of each side in a step

Fitted = Callable[[Indices], Floats]
"""From rows to log-odds."""


@dataclass(frozen=True)
class BlindGuess:
    """What a classifier that sees no model says of each image.

    Attributes:
        name: ``statistics`` or ``pixels``, what it sees.
        scores: Log-odds of being a member, by a classifier that was not fitted to the image, (N,).
        folds: Which of the classifiers that is, (N,).
    """

    name: str
    scores: Floats
    folds: Indices


def blind_guesses(pixels: Pixels, facts: Floats, members: Bools, seed: int) -> list[BlindGuess]:
    """Cross-validate two classifiers.

    One is gradient boosting on pixel statistics and on what the files say, the other a small convolutional network on
    the pixels, which sees as many images of either side.

    Args:
        pixels: uint8, (N, C, H, W).
        facts: What the image files say, (N, facts).
        members: (N,); four or more of each side.
        seed: Seed of folds and classifiers.
    """
    features = np.column_stack([pixel_statistics(pixels), facts])
    images = _centres(pixels)

    def boosting(fitted: Indices, fold: int) -> Fitted:
        classifier = HistGradientBoostingClassifier(
            max_iter=100,
            max_leaf_nodes=8,
            learning_rate=0.05,
            min_samples_leaf=5,  # with the default of 20, there is no split of fewer than 40 images
            max_features=0.5,
            early_stopping=False,
            random_state=derived_seed(seed, "boosting", fold) % 2**32,
        )
        classifier.fit(features[fitted], members[fitted])
        return lambda rows: classifier.decision_function(features[rows])

    def network(fitted: Indices, fold: int) -> Fitted:
        module = _fit_network(images, fitted, members, torch_generator("cpu", seed, "network", fold))
        return lambda rows: _log_odds(module, images[rows])

    return [
        _cross_validated("statistics", boosting, members, seed),
        _cross_validated("pixels", network, members, seed),
    ]


def blind_area(guess: BlindGuess, members: Bools, confidence: float = CONFIDENCE) -> Estimate:
    """Give the mean of the folds' ROC areas, with its interval.

    The area of all folds together is biased where nothing is there: a fold with fewer members was left out of a
    training with more of them (Parker et al., BMC Bioinformatics 8:326, 2007). The variance is DeLong's, found from the
    placements within folds, times 1 + K / (K − 1) for K folds, as these are not independent (Nadeau and Bengio, Machine
    Learning 52, 2003, equation 9): if two folds are alike by chance, the classifiers of both gain.

    Args:
        guess: For all images.
        members: (N,).
        confidence: Of the interval, two-sided.
    """
    sides = [(members & (guess.folds == fold), ~members & (guess.folds == fold)) for fold in np.unique(guess.folds)]
    parts = [placements(guess.scores[inside], guess.scores[outside]) for inside, outside in sides]
    area = float(np.mean([of_members.mean() for of_members, _ in parts]))
    of_members, of_others = (np.concatenate(side) for side in zip(*parts, strict=True))
    dependence = 1 + len(parts) / (len(parts) - 1)
    variance = dependence * area_variance(of_members, of_others)
    return area_estimate(area, variance, min(len(of_members), len(of_others)), confidence)


def _cross_validated(name: str, fit: Callable[[Indices, int], Fitted], members: Bools, seed: int) -> BlindGuess:
    smaller = int(min(members.sum(), (~members).sum()))
    splits = StratifiedKFold(min(_FOLDS, smaller // 2), shuffle=True, random_state=seed)
    scores, folds = np.zeros(len(members)), np.zeros(len(members), dtype=np.intp)
    for fold, (fitted, scored) in enumerate(splits.split(members, members)):
        scores[scored] = fit(fitted, fold)(scored)
        folds[scored] = fold
    return BlindGuess(name, scores, folds)


def _centres(pixels: Pixels) -> Tensor:
    """Copy what the network sees: uint8, (N, C, H, W)."""
    height, width = pixels.shape[2:]
    top, left = max(0, (height - _LARGEST) // 2), max(0, (width - _LARGEST) // 2)
    return torch.from_numpy(np.array(pixels[:, :, top : top + _LARGEST, left : left + _LARGEST]))


class _Detail(nn.Module):
    """Add to images what sets pixels apart from their neighbours: of sharpness and encoders it shows most."""

    def forward(self, images: Tensor) -> Tensor:
        values = images.float()
        smooth = F.avg_pool2d(values, 3, stride=1, padding=1, count_include_pad=False)
        return torch.cat([values, values - smooth], dim=1)


def _fit_network(images: Tensor, fitted: Indices, members: Bools, generator: torch.Generator) -> nn.Module:
    channels = 2 * images.shape[1]
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
    sides = [torch.from_numpy(fitted[members[fitted] == side]) for side in (True, False)]
    labels = torch.arange(2 * _HALF_BATCH).lt(_HALF_BATCH).float()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for _ in range(_STEPS):
        rows = torch.cat([side[torch.randint(len(side), (_HALF_BATCH,), generator=generator)] for side in sides])
        loss = F.binary_cross_entropy_with_logits(module(images[rows])[:, 0], labels)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
    return module.eval()


def _log_odds(module: nn.Module, images: Tensor) -> Floats:
    with torch.inference_mode():
        odds: Floats = torch.cat([module(part)[:, 0] for part in torch.split(images, 512)]).double().numpy()
    return odds
