"""Early stopping: a training ends when it gets no better at images that it does not learn from."""

import math
from typing import Any

import torch
from torch import Tensor

from mimia.encoders.base import Reconstructor
from mimia.images.imageset import ImageSet

_BATCH = 256


class EarlyStopping:
    """Watches a training, and keeps the weights of its best epoch.

    Args:
        patience: Epochs without a better one after which the training ends.
        images: What the model is measured by; it must not learn from them.
        seed: Of their masks, the same in each epoch.
    """

    def __init__(self, patience: int, images: ImageSet, seed: int) -> None:
        self._patience = patience
        self._images = images
        self._seed = seed
        self._best = math.inf
        self._weights: dict[str, Tensor] = {}
        self.epochs, self.best_epoch = 0, 0

    def ends_after(self, model: Reconstructor) -> bool:
        """Measure a model after an epoch, and tell whether its training ends."""
        self.epochs += 1
        loss = self._loss(model)
        if loss < self._best:
            self._best, self.best_epoch = loss, self.epochs
            self._weights = {name: value.clone() for name, value in model.state_dict().items()}
        return self.epochs - self.best_epoch >= self._patience

    def restore(self, model: Reconstructor) -> None:
        """Give a model the weights of the best epoch."""
        model.load_state_dict(self._weights)

    def state(self) -> dict[str, Any]:
        """Give what an interrupted training goes on with."""
        return {"best": self._best, "weights": self._weights, "epochs": self.epochs, "best_epoch": self.best_epoch}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._best, self._weights = state["best"], state["weights"]
        self.epochs, self.best_epoch = state["epochs"], state["best_epoch"]

    def _loss(self, model: Reconstructor) -> float:
        device = next(model.parameters()).device
        total = 0.0
        with torch.inference_mode():
            for start in range(0, len(self._images), _BATCH):
                chunk = slice(start, start + _BATCH)
                pixels = torch.from_numpy(self._images.pixels[chunk]).to(device)
                masks = model.spec.scoring_masks(self._images.ids[chunk], 1, self._seed)
                total += float(model.distances(pixels, torch.from_numpy(masks).to(device)).sum())
        return total / len(self._images)
