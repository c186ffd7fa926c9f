"""One step of a training."""

from collections.abc import Collection
from functools import partial

import torch
from torch import Tensor

from mimia.data.augmentation import augment
from mimia.pretraining.context import TrainingRun
from mimia.pretraining.hooks import Batch, TrainerHooks
from mimia.pretraining.schedule import learning_rate, make_optimizer
from mimia.runtime.arrays import Indices
from mimia.runtime.compute import accelerator
from mimia.runtime.seeds import torch_generator


class TrainingStep:
    """Changes the weights of a model once for each call.

    Args:
        run: The training, whose model is on its device.
        hooks: Of the defences; each has been started.
    """

    def __init__(self, run: TrainingRun, hooks: Collection[TrainerHooks]) -> None:
        self._run = run
        self._hooks = hooks
        self._accelerator = accelerator(run.context.compute)
        self.optimizer = make_optimizer(run.model, run.recipe)
        self._loss, self._gradients = self._default_loss, self._default_gradients
        for each in hooks:
            self._loss = partial(each.loss, default=self._loss)
            self._gradients = partial(each.gradients, default=self._gradients)

    def __call__(self, images: Tensor, rows: Indices, step: int) -> Tensor:
        """Train on one batch.

        Args:
            images: Raw pixels on the model's device, uint8, (B, C, H, W).
            rows: Which training images these are, (B,).
            step: Number of the step, from 0.

        Returns:
            The loss before the step, a scalar.
        """
        run = self._run
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, run.steps, run.batch_size, run.recipe)
        generator = torch_generator(images.device, run.seed, "step", step)
        masks = run.model.spec.training_masks(len(images), generator)
        shown = augment(images, run.recipe.augmentation, generator, run.recipe.crop_scale)
        loss = self._gradients(Batch(rows, shown, masks, step))
        self.optimizer.step()
        for each in self._hooks:
            each.on_step()
        return loss

    def _default_loss(self, batch: Batch) -> Tensor:
        return self._run.model.loss(batch.images, batch.masks)

    def _default_gradients(self, batch: Batch) -> Tensor:
        with self._accelerator.autocast():
            loss = self._loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        self._accelerator.backward(loss)
        if self._run.recipe.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self._run.model.parameters(), self._run.recipe.gradient_clip)
        return loss.detach()
