"""A training that diverged is no model: it ends in an error that names the setting."""

from collections.abc import Iterable
from math import isfinite

import numpy as np
import torch

from mimia.pretraining.context import TrainingRun
from mimia.pretraining.hooks import TrainerHooks
from mimia.runtime.errors import MimiaError
from mimia.runtime.seeds import torch_generator

_CHECKED = 64  # images


class DivergenceError(MimiaError):
    """A training whose loss or weights are not finite."""


def diverged(run: TrainingRun, hooks: Iterable[TrainerHooks], what: str) -> DivergenceError:
    """Return the error about a training.

    Args:
        run: The training.
        hooks: Of its defences, which may have settings that steady a training too.
        what: What is wrong, such as ``its loss became nan in epoch 3``.
    """
    settings = [run.context.rate_setting, *(each.steadied_by for each in hooks if each.steadied_by)]
    return DivergenceError(f"The training ({run.context.description}) diverged, {what}: lower {' or '.join(settings)}.")


def check_end(run: TrainingRun, hooks: Iterable[TrainerHooks]) -> None:
    """Raise if the model that a training ended with is of no use: the last step shows in no loss of the training.

    Raises:
        DivergenceError: Its weights are not finite, or its loss on some of the training images is not.
    """
    model = run.model
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not all(isfinite(extreme) for extreme in value.aminmax()):
            raise diverged(run, hooks, f"its weights ({name}) are not finite after the last step")
    device = next(model.parameters()).device
    images = torch.from_numpy(np.array(run.images.pixels[:_CHECKED])).to(device)
    masks = model.spec.training_masks(len(images), torch_generator(device, run.seed, "check"))
    with torch.inference_mode():
        loss = model.loss(images, masks).item()
    if not isfinite(loss):
        raise diverged(run, hooks, f"its loss is {loss} after the last step")
