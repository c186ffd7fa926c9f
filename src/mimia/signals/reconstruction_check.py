"""Check that a model reconstructs: a wrong pixel space makes all distances meaningless without raising an error."""

import torch
from torch import Tensor

from mimia.data.imageset import ImageSet
from mimia.models.base import MaskedImageModel
from mimia.models.patches import patchify
from mimia.runtime.arrays import Floats
from mimia.runtime.compute import ComputeSettings, accelerator
from mimia.runtime.errors import MimiaError

_SEED = 0
_BATCH = 32


def relative_error(model: MaskedImageModel, images: ImageSet, compute: ComputeSettings) -> float:
    """Compute a model's reconstruction error relative to that of an uninformed prediction.

    Args:
        model: With a decoder.
        images: Some ordinary images.
        compute: Device.

    Returns:
        Mean error in the model's target space, divided by that of predicting the mean patch, or equal chances for all
        tokens. It is below 1 for a model that has learned something.
    """
    errors, baseline = errors_and_baseline(model, images, compute, model.spec.mask_ratio)
    return float(errors.sum() / baseline.sum())


def errors_and_baseline(
    model: MaskedImageModel, images: ImageSet, compute: ComputeSettings, mask_ratio: float
) -> tuple[Floats, Floats]:
    """Compute a model's error on each image under one mask, and that of an uninformed prediction: (N,) each.

    Args:
        model: With a decoder.
        images: Of the model's size.
        compute: Device.
        mask_ratio: Proportion of the patches that is hidden.
    """
    device = accelerator(compute).device
    model = model.to(device)
    spec = model.spec.model_copy(update={"mask_ratio": mask_ratio})
    errors, baseline = [], []
    with torch.inference_mode():
        for start in range(0, len(images), _BATCH):
            chunk = slice(start, start + _BATCH)
            pixels = torch.from_numpy(images.pixels[chunk]).to(device)
            masks = torch.from_numpy(spec.scoring_masks(images.ids[chunk], 1, _SEED)).to(device)
            prediction = model.reconstruct(pixels, masks)
            errors.append(model.errors(prediction, pixels, masks)[:, 0])
            baseline.append(model.errors(_uninformed(model, prediction, pixels), pixels, masks)[:, 0])
    return torch.cat(errors).double().cpu().numpy(), torch.cat(baseline).double().cpu().numpy()


def _uninformed(model: MaskedImageModel, prediction: Tensor, pixels: Tensor) -> Tensor:
    if model.spec.target_space != "normalised":
        return torch.zeros_like(prediction)
    patches = patchify(model.spec.normalise(pixels), model.spec.patch_size)
    return patches.mean(dim=(0, 1)).expand_as(prediction)


def check_reconstruction(model: MaskedImageModel, images: ImageSet, compute: ComputeSettings) -> None:
    """Raise if a model reconstructs worse than the mean colour does.

    Raises:
        MimiaError: It does; the message names the likely causes.
    """
    ratio = relative_error(model, images, compute)
    if not ratio < 1:
        raise MimiaError(
            f"The target reconstructs ordinary images worse than the mean colour does (error {ratio:.2f} times as "
            "large), so its distances mean nothing: set checkpoint.target_space (patch-normalised for MAE's *_full "
            "files, normalised for *_visualize), checkpoint.mean and checkpoint.std as in its training, or pass a "
            "checkpoint whose decoder belongs to its encoder."
        )
