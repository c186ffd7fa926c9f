"""Does a model reconstruct at all? A wrong pixel space makes nonsense of every distance, without an error anywhere."""

import torch
from torch import Tensor

from mimia.arrays import Floats
from mimia.compute import accelerator
from mimia.config import ComputeSettings
from mimia.encoders.base import Reconstructor
from mimia.encoders.patches import patchify
from mimia.errors import MimiaError
from mimia.images.imageset import ImageSet

_SEED = 0
_BATCH = 32


def relative_error(model: Reconstructor, images: ImageSet, compute: ComputeSettings) -> float:
    """Compare a model's error with that of the prediction that knows nothing.

    Args:
        model: With a decoder.
        images: A handful of ordinary images.
        compute: Device.

    Returns:
        Mean distance, divided by the mean error of predicting the mean patch, or of equal chances for all tokens.
        A model that has learned something is below 1.
    """
    errors, ignorant = errors_beside_ignorance(model, images, compute, model.spec.mask_ratio)
    return float(errors.sum() / ignorant.sum())


def errors_beside_ignorance(
    model: Reconstructor, images: ImageSet, compute: ComputeSettings, mask_ratio: float
) -> tuple[Floats, Floats]:
    """Give a model's error on each image under one mask, and that of the prediction that knows nothing: (N,) each.

    Args:
        model: With a decoder.
        images: Of the model's size.
        compute: Device.
        mask_ratio: Share of the patches that is hidden.
    """
    device = accelerator(compute).device
    model = model.to(device)
    spec = model.spec.model_copy(update={"mask_ratio": mask_ratio})
    errors, ignorant = [], []
    with torch.inference_mode():
        for start in range(0, len(images), _BATCH):
            chunk = slice(start, start + _BATCH)
            pixels = torch.from_numpy(images.pixels[chunk]).to(device)
            masks = torch.from_numpy(spec.scoring_masks(images.ids[chunk], 1, _SEED)).to(device)
            prediction = model.reconstruct(pixels, masks)
            errors.append(model.errors(prediction, pixels, masks)[:, 0])
            ignorant.append(model.errors(_ignorant(model, prediction, pixels), pixels, masks)[:, 0])
    return torch.cat(errors).double().cpu().numpy(), torch.cat(ignorant).double().cpu().numpy()


def _ignorant(model: Reconstructor, prediction: Tensor, pixels: Tensor) -> Tensor:
    if model.spec.target_space != "normalised":
        return torch.zeros_like(prediction)
    patches = patchify(model.spec.normalise(pixels), model.spec.patch_size)
    return patches.mean(dim=(0, 1)).expand_as(prediction)


def check_reconstruction(model: Reconstructor, images: ImageSet, compute: ComputeSettings) -> None:
    """Refuse a model that reconstructs worse than by the mean colour.

    Raises:
        MimiaError: It does; the likely causes are named.
    """
    ratio = relative_error(model, images, compute)
    if not ratio < 1:
        raise MimiaError(
            f"The target reconstructs ordinary images worse than the mean colour does (error {ratio:.2f} times as "
            "large), so its distances mean nothing: set checkpoint.target_space (patch-normalised for MAE's *_full "
            "files, normalised for *_visualize), checkpoint.mean and checkpoint.std as in its training, or pass a "
            "checkpoint whose decoder belongs to its encoder."
        )
