"""Distances between pixels and their predictions, patch by patch, independent of the loss of training.

Each takes a spec, predictions in data-set-normalised pixels, (B, K, L, p*p*C), and raw images, (B, C, H, W), and
returns the distance of each patch, (B, K, L).
"""

from collections.abc import Callable

from torch import Tensor

from mimia.config.settings import Distance
from mimia.models.base import ModelSpec
from mimia.models.patches import patch_statistics, patchify, unpatchify
from mimia.models.simmim import absolute_errors
from mimia.runtime.errors import MimiaError

_REACH = 5  # pixels from the middle of a window of structural similarity to its border

PatchDistance = Callable[[ModelSpec, Tensor, Tensor], Tensor]


def squared_errors(spec: ModelSpec, predictions: Tensor, images: Tensor) -> Tensor:
    """Return the mean squared error of data-set-normalised pixels."""
    patches = patchify(spec.normalise(images), spec.patch_size)
    return (predictions - patches.unsqueeze(1)).square().mean(dim=-1)


def patch_normalised_errors(spec: ModelSpec, predictions: Tensor, images: Tensor) -> Tensor:
    """Return the squared error of pixels normalised by the true patch (He et al., arXiv 2111.06377).

    The mean cancels, so that it is the squared error in units of the true patch's variance.
    """
    _, spread = patch_statistics(patchify(spec.normalise(images), spec.patch_size))
    return squared_errors(spec, predictions, images) / spread.squeeze(-1).square().unsqueeze(1)


def dissimilarities(spec: ModelSpec, predictions: Tensor, images: Tensor) -> Tensor:
    """Return one minus the structural similarity of raw pixels in [0, 1] (Wang et al., 2004, eq. 13).

    It is the mean over all channels. Windows are Gaussian with σ = 1.5, of 11 pixels, and images are mirrored at their
    border. Predictions beyond [0, 1] are not clipped.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    predicted = spec.denormalise(unpatchify(predictions.flatten(0, 1), spec.patch_size, spec.grid))
    true = spec.denormalise(spec.normalise(images)).repeat_interleave(predictions.shape[1], dim=0)
    _, similarity = structural_similarity_index_measure(
        predicted, true, data_range=1.0, reduction="none", return_full_image=True
    )
    of_patches = patchify(similarity, spec.patch_size).mean(dim=-1)
    return (1 - of_patches).clamp(min=0).view(predictions.shape[:-1])  # rounding may leave it slightly below


DISTANCES: dict[Distance, PatchDistance] = {
    "mse": squared_errors,
    "mae": absolute_errors,
    "patch-normalised": patch_normalised_errors,
    "ssim": dissimilarities,
}


def check_distance(spec: ModelSpec, distance: Distance) -> None:
    """Raise if a distance is not defined for the predictions of a model.

    Raises:
        MimiaError: The model predicts no pixels, or its patches or images are too small for the distance.
    """
    if distance != "training" and spec.target_space == "tokens":
        raise MimiaError(
            f"The distance {distance} compares pixels, and this model predicts visual tokens: leave out "
            "signals.distance."
        )
    if distance == "patch-normalised" and spec.patch_size**2 * spec.channels == 1:
        raise MimiaError(
            "Patches of a single number have no variance to be normalised by: choose another signals.distance."
        )
    if distance == "ssim" and min(spec.shape[1:]) <= _REACH:
        raise MimiaError(
            f"Structural similarity needs images of more than {_REACH} pixels along a side: choose another "
            "signals.distance."
        )
