"""The places of a training at which a defence can act."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from mimia.data.imageset import ImageSet
from mimia.pretraining.context import TrainingRun
from mimia.runtime.arrays import Indices


@dataclass(frozen=True)
class Batch:
    """What the model is shown in a step.

    Attributes:
        rows: Which training images these are, (B,).
        images: Augmented raw pixels, uint8, or float in [0, 1] if cropped, on the model's device, (B, C, H, W).
        masks: True where a patch is hidden, (B, 1, L).
        step: Number of the step, from 0.
    """

    rows: Indices
    images: Tensor
    masks: Tensor
    step: int


BatchFunction = Callable[[Batch], Tensor]
"""From a batch to a loss, a scalar."""


class TrainerHooks:
    """What a defence does in one training; each method does nothing unless it is overridden.

    Attributes:
        run: The training, from `start` on.
        steadied_by: A setting of the defence to lower if the training diverges, if there is one.
    """

    run: TrainingRun
    steadied_by: ClassVar[str] = ""

    def select_images(self, images: ImageSet) -> ImageSet:
        """Return the images to train on; called before a model of the same training is looked for in the store."""
        return images

    def start(self, run: TrainingRun) -> None:
        """Prepare for the training, before its first step and again when it is resumed."""
        self.run = run

    def select_rows(self, rows: Indices, step: int) -> Indices:
        """Return which training images take part in a step, of any number."""
        return rows

    def loss(self, batch: Batch, default: BatchFunction) -> Tensor:
        """Return the loss of a batch, a scalar that is differentiated; ``default`` computes the usual one."""
        return default(batch)

    def gradients(self, batch: Batch, default: BatchFunction) -> Tensor:
        """Leave gradients in the weights' ``grad`` and return the loss; ``default`` is the usual backward pass."""
        return default(batch)

    def on_step(self) -> None:
        """Called when the weights have changed."""

    def on_epoch(self, epoch: int) -> bool:
        """Return whether the training ends after this epoch, counted from 1."""
        return False

    def state(self) -> dict[str, Any]:
        """Return what an interrupted training needs to go on: tensors, numbers, text, and lists and dicts of these."""
        return {}

    def resume(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""

    def finish(self, steps: int) -> dict[str, Any]:
        """Set the model's final weights and return fields of `Training` to record.

        Args:
            steps: How many steps were taken.
        """
        return {}
