"""Pre-training with differential privacy: DP-SGD (Abadi et al., arXiv 1607.00133, algorithm 1).

In a step every image takes part by a coin of its own (Poisson sampling), its gradient is shortened to the clip if it
is longer, and Gaussian noise in proportion to the clip is added to the sum. Trainings with and without any one image
then end with the same weights almost as often, up to (ε, δ). The number of images counts as known to everybody.

Coins and noise follow from the model's seed by generators that are made for simulations, not for cryptography: the
guarantee holds only against those who do not know the seed and cannot guess it.
"""

import warnings

import numpy as np
import torch
from torch import Tensor

from mimia.arrays import Indices
from mimia.encoders.base import Reconstructor
from mimia.encoders.checkpoints.native import Privacy
from mimia.encoders.per_image import norms, per_image_gradients
from mimia.errors import MimiaError
from mimia.recipes import Recipe
from mimia.seeds import derived_seed


def privacy_of(recipe: Recipe, images: int, batch_size: int, steps: int, taken: int) -> Privacy | None:
    """Give the noise that a training needs and what it then guarantees, or None of a recipe without privacy.

    By Rényi differential privacy of the Poisson-subsampled Gaussian mechanism (Mironov et al., arXiv 1908.10530).

    Args:
        recipe: What the whole training may spend, ``dp_epsilon`` at ``dp_delta``.
        images: Number of training images.
        batch_size: Images that are expected in a step.
        steps: Steps of the whole training, which the noise is made for.
        taken: Steps that are taken of them.

    Raises:
        MimiaError: No noise is enough, or δ would allow an image to be published.
    """
    if recipe.dp_epsilon is None:
        return None
    if recipe.dp_delta >= 1 / images:
        raise MimiaError(
            f"recipe.dp_delta is {recipe.dp_delta:g}, which lets one of {images:,} images be given away as a whole: "
            f"set it below {1 / images:.2g}."
        )
    from opacus.accountants import RDPAccountant  # seconds to import
    from opacus.accountants.utils import get_noise_multiplier

    accountant, sample_rate = RDPAccountant(), batch_size / images
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a bound might be tighter: it holds
        try:
            noise_multiplier = get_noise_multiplier(
                target_epsilon=recipe.dp_epsilon,
                target_delta=recipe.dp_delta,
                sample_rate=sample_rate,
                steps=steps,
                accountant="rdp",
            )
        except ValueError as error:
            raise MimiaError(
                f"No noise keeps {steps:,} steps to an ε of {recipe.dp_epsilon:g}: raise recipe.dp_epsilon."
            ) from error
        accountant.history = [(noise_multiplier, sample_rate, taken)]
        epsilon = accountant.get_epsilon(recipe.dp_delta)
    return Privacy(
        epsilon=epsilon,
        delta=recipe.dp_delta,
        noise_multiplier=noise_multiplier,
        clip=recipe.dp_clip,
        sample_rate=sample_rate,
        steps=taken,
    )


def taking_part(images: int, sample_rate: float, seed: int, step: int) -> Indices:
    """Give the rows of the images that take part in a step, each by a coin of its own; there may be none."""
    coins = np.random.default_rng(derived_seed(seed, "taking part", step)).random(images)
    return np.flatnonzero(coins < sample_rate)


def noisy_backward(
    model: Reconstructor,
    images: Tensor,
    masks: Tensor,
    privacy: Privacy,
    batch_size: int,
    generator: torch.Generator,
) -> Tensor:
    """Leave the private gradient in the weights' ``grad``: (sum of clipped gradients + noise) / expected images.

    Args:
        model: Whose weights are trained.
        images: Those that take part, raw pixels, (B, C, H, W); B may be 0.
        masks: (B, 1, L).
        privacy: Norm of an image's gradient at most, and standard deviation of the noise in units of it.
        batch_size: Images that are expected; how many there are is not to be seen from the gradient.
        generator: Of the noise, on the device of the images.

    Returns:
        Sum of the losses / expected images. It is not private.
    """
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    total = {name: torch.zeros_like(value) for name, value in trained.items()}
    loss = torch.zeros((), device=images.device)
    for losses, gradients in per_image_gradients(model, images, masks):
        shortened = (privacy.clip / norms(gradients)).clamp(max=1)
        for name, value in gradients.items():
            total[name] += torch.tensordot(shortened, value, dims=1)
        loss += losses.sum()
    for name, value in trained.items():
        noise = torch.randn(value.shape, generator=generator, device=images.device)
        value.grad = (total[name] + privacy.noise_multiplier * privacy.clip * noise) / batch_size
    return loss / batch_size
