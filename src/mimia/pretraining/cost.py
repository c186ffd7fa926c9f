"""What a training costs, measured on its first steps."""

import numpy as np
import torch

from mimia.config.recipes import Recipe
from mimia.data.imageset import ImageSet
from mimia.models.base import ModelSpec
from mimia.pretraining.context import TrainingContext, TrainingRun
from mimia.pretraining.pool import untrained
from mimia.pretraining.steps import TrainingStep
from mimia.runtime.compute import accelerator
from mimia.runtime.timing import seconds_each


def training_seconds(images: ImageSet, spec: ModelSpec, recipe: Recipe, context: TrainingContext) -> float:
    """Measure how long one training takes on this device, from a few of its steps without its defences.

    Args:
        images: Training images.
        spec: Images, masking and target space.
        recipe: How the model is trained.
        context: Device, and the architecture if the recipe does not name it.
    """
    device = accelerator(context.compute).device
    model = untrained(images, spec, recipe, recipe.seed, context).to(device).train()
    run = TrainingRun(model, images, recipe.undefended, recipe.seed, context)
    take_step, rows = TrainingStep(run, ()), np.arange(run.batch_size)
    pixels = torch.from_numpy(images.pixels[rows]).to(device)
    take_step(pixels, rows, 0).item()  # prepares what the others use
    return seconds_each(lambda: take_step(pixels, rows, 0).item()) * run.last_step
