"""Pre-training with differential privacy: DP-SGD (Abadi et al., arXiv 1607.00133, algorithm 1).

In each step, every image takes part with the same probability, independently of the others (Poisson sampling). Its
gradient is scaled down to the clip if it is longer, and Gaussian noise in proportion to the clip is added to the sum.
Trainings with and without any one image then end with the same weights almost as often, up to (ε, δ). The number of
images counts as public.

Sampling and noise follow from the model's seed by generators that are made for simulations, not for cryptography: the
guarantee holds only against those who do not know the seed and cannot guess it.
"""

import warnings
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from mimia.config.defences import Defence
from mimia.config.families import FAMILIES
from mimia.config.recipes import Recipe
from mimia.models.base import MaskedImageModel
from mimia.models.checkpoints.native import Privacy
from mimia.models.per_sample_gradients import norms, per_image_gradients
from mimia.pretraining.context import TrainingRun
from mimia.pretraining.hooks import Batch, BatchFunction, TrainerHooks
from mimia.runtime.arrays import Indices
from mimia.runtime.errors import MimiaError
from mimia.runtime.seeds import derived_seed, torch_generator


class DPSGD(Defence):
    """Differential privacy: clip each image's gradient and add noise; steps are always in full precision."""

    private: ClassVar[bool] = True

    epsilon: float = Field(gt=0, le=1e4, description="the ε that the whole training may spend on an image")
    delta: float = Field(1e-5, gt=0, lt=1, description="the δ at which ε holds; below one in the number of images")
    clip: float = Field(1.0, gt=0, le=1e6, description="largest norm of an image's own gradient")

    def check(self, recipe: Recipe) -> None:
        """Raise `ValueError` if images act on the weights by another way than their own gradients."""
        if FAMILIES[recipe.family].predicts_tokens:
            raise ValueError(
                f"the tokenizer of {recipe.family} is made of the images without privacy: leave dp_sgd out"
            )
        if {"cross_fitting", "deduplicate"} & set(recipe.defences):
            raise ValueError(
                "dp_sgd bounds what an image does through its own gradients, and cross_fitting and deduplicate let it "
                "do more: leave these out"
            )

    def hooks(self) -> TrainerHooks:
        """Return new hooks for one training."""
        return _Hooks(self)


@lru_cache  # the search takes seconds, and shadows have the same numbers
def calibrate(settings: DPSGD, images: int, batch_size: int, steps: int) -> Privacy:
    """Return the noise for a training and what it guarantees.

    By Rényi differential privacy of the Poisson-subsampled Gaussian mechanism (Mironov et al., arXiv 1908.10530).

    Args:
        settings: What the whole training may spend, and the clip.
        images: Number of training images.
        batch_size: Expected number of images in a step.
        steps: Steps of the whole training.

    Raises:
        MimiaError: No noise is enough, or δ would allow an image to be published.
    """
    if settings.delta >= 1 / images:
        raise MimiaError(
            f"recipe.defences.dp_sgd.delta is {settings.delta:g}, which lets one of {images:,} images be given away as "
            f"a whole: set it below {1 / images:.2g}."
        )
    from opacus.accountants.utils import get_noise_multiplier  # seconds to import

    sample_rate = batch_size / images
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a bound might be tighter: it holds
        try:
            noise_multiplier = get_noise_multiplier(
                target_epsilon=settings.epsilon,
                target_delta=settings.delta,
                sample_rate=sample_rate,
                steps=steps,
                accountant="rdp",
            )
        except ValueError as error:
            raise MimiaError(
                f"No noise keeps {steps:,} steps to an ε of {settings.epsilon:g}: raise recipe.defences.dp_sgd.epsilon."
            ) from error
    planned = Privacy(
        epsilon=settings.epsilon,
        delta=settings.delta,
        noise_multiplier=noise_multiplier,
        clip=settings.clip,
        sample_rate=sample_rate,
        steps=steps,
    )
    return spent(planned, steps)


def spent(privacy: Privacy, steps: int) -> Privacy:
    """Return what a training guarantees that is left after some steps, with the same noise."""
    from opacus.accountants import RDPAccountant  # seconds to import

    accountant = RDPAccountant()
    accountant.history = [(privacy.noise_multiplier, privacy.sample_rate, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a bound might be tighter: it holds
        epsilon = accountant.get_epsilon(privacy.delta)
    return privacy.model_copy(update={"epsilon": epsilon, "steps": steps})


def poisson_sample(images: int, sample_rate: float, seed: int, step: int) -> Indices:
    """Return the rows of the images that take part in a step, each drawn independently; there may be none."""
    coins = np.random.default_rng(derived_seed(seed, "taking part", step)).random(images)
    return np.flatnonzero(coins < sample_rate)


def noisy_backward(
    model: MaskedImageModel, batch: Batch, privacy: Privacy, batch_size: int, generator: torch.Generator
) -> Tensor:
    """Leave the private gradient in the weights' ``grad``: (sum of clipped gradients + noise) / expected images.

    Args:
        model: Whose weights are trained.
        batch: The images that take part, of which there may be none.
        privacy: Largest norm of an image's gradient, and standard deviation of the noise in units of it.
        batch_size: Expected number of images; the actual number must not show in the gradient.
        generator: Of the noise, on the device of the images.

    Returns:
        Sum of the losses / expected images. It is not private.
    """
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    total = {name: torch.zeros_like(value) for name, value in trained.items()}
    loss = torch.zeros((), device=batch.images.device)
    for losses, gradients in per_image_gradients(model, batch.images, batch.masks):
        factors = (privacy.clip / norms(gradients)).clamp(max=1)
        for name, value in gradients.items():
            total[name] += torch.tensordot(factors, value, dims=1)
        loss += losses.sum()
    for name, value in trained.items():
        noise = torch.randn(value.shape, generator=generator, device=batch.images.device)
        value.grad = (total[name] + privacy.noise_multiplier * privacy.clip * noise) / batch_size
    return loss / batch_size


class _Hooks(TrainerHooks):
    steadied_by = "recipe.defences.dp_sgd.clip"  # to which the noise is in proportion

    def __init__(self, settings: DPSGD) -> None:
        self._settings = settings

    def start(self, run: TrainingRun) -> None:
        super().start(run)
        self._privacy = calibrate(self._settings, len(run.images), run.batch_size, run.steps)

    def select_rows(self, rows: Indices, step: int) -> Indices:
        return poisson_sample(len(self.run.images), self._privacy.sample_rate, self.run.seed, step)

    def gradients(self, batch: Batch, default: BatchFunction) -> Tensor:
        noise = torch_generator(batch.images.device, self.run.seed, "noise", batch.step)
        return noisy_backward(self.run.model, batch, self._privacy, self.run.batch_size, noise)

    def finish(self, steps: int) -> dict[str, Any]:
        return {"privacy": spent(self._privacy, steps), "losses": ()}  # training losses are not private
