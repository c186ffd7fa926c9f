"""Early stopping: a training ends when it gets no better at images that it does not learn from."""

import math
from typing import Any, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from mimia.config.defences import Defence
from mimia.config.recipes import Recipe
from mimia.pretraining.context import TrainingRun
from mimia.pretraining.hooks import TrainerHooks
from mimia.runtime.errors import MimiaError
from mimia.runtime.seeds import derived_seed

_BATCH = 256


class EarlyStopping(Defence):
    """End a training that no longer improves on validation images, and keep the weights of its best epoch."""

    needs_validation: ClassVar[bool] = True

    patience: PositiveInt = Field(
        description="epochs without a better reconstruction of the validation images after which the training ends"
    )

    def check(self, recipe: Recipe) -> None:
        """Raise `ValueError` if the recipe says when the training ends."""
        if recipe.stop_epoch is not None:
            raise ValueError("stop_epoch and early_stopping both end a training: leave one of them out")

    def hooks(self) -> TrainerHooks:
        """Return new hooks for one training."""
        return _Hooks(self.patience)


class _Hooks(TrainerHooks):
    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._best, self._best_epoch = math.inf, 0
        self._weights: dict[str, Tensor] = {}

    def start(self, run: TrainingRun) -> None:
        super().start(run)
        if run.context.validation is None:
            raise MimiaError("early_stopping needs validation images, which the model does not learn from: pass some.")
        self._validation = run.context.validation
        self._seed = derived_seed(run.seed, "validation")  # of the masks, which are the same in each epoch

    def on_epoch(self, epoch: int) -> bool:
        loss = self._validation_loss()
        if loss < self._best:
            self._best, self._best_epoch = loss, epoch
            self._weights = {name: value.clone() for name, value in self.run.model.state_dict().items()}
        return epoch - self._best_epoch >= self._patience

    def state(self) -> dict[str, Any]:
        return {"best": self._best, "best_epoch": self._best_epoch, "weights": self._weights}

    def resume(self, state: dict[str, Any]) -> None:
        self._best, self._best_epoch, self._weights = state["best"], state["best_epoch"], state["weights"]

    def finish(self, steps: int) -> dict[str, Any]:
        self.run.model.load_state_dict(self._weights)
        return {"kept_epoch": self._best_epoch}

    def _validation_loss(self) -> float:
        model, images = self.run.model, self._validation
        device = next(model.parameters()).device
        total = 0.0
        with torch.inference_mode():
            for start in range(0, len(images), _BATCH):
                chunk = slice(start, start + _BATCH)
                pixels = torch.from_numpy(images.pixels[chunk]).to(device)
                masks = model.spec.scoring_masks(images.ids[chunk], 1, self._seed)
                total += float(model.distances(pixels, torch.from_numpy(masks).to(device)).sum())
        return total / len(images)
