"""How well a model reconstructs images, compared with a prediction that knows nothing."""

from typing import NamedTuple

import torch
from torch import Tensor

from mimia.data.imageset import ImageSet
from mimia.models.base import MaskedImageModel
from mimia.models.patches import patchify
from mimia.runtime.arrays import Floats
from mimia.runtime.compute import ComputeSettings, accelerator

_SEED = 0
_BATCH = 32


class ReconstructionErrors(NamedTuple):
    """Errors of a model on images under one mask each, over the masked patches.

    Attributes:
        own: In the model's target space, (N,).
        uninformed: Of an uninformed prediction there, the mean patch or equal chances for all tokens, (N,).
        squared: Mean squared error in raw pixels in [0, 1], (N,), which models with other pixel statistics share; of a
            model that predicts tokens, the same as ``own``.
    """

    own: Floats
    uninformed: Floats
    squared: Floats

    @property
    def relative(self) -> float:
        """Return the mean error divided by that of an uninformed prediction: below 1 for a model that has learned."""
        return float(self.own.sum() / self.uninformed.sum())


def reconstruction_errors(
    model: MaskedImageModel,
    images: ImageSet,
    compute: ComputeSettings,
    *,
    mask_ratio: float | None = None,
    draw: int = 0,
) -> ReconstructionErrors:
    """Compute a model's errors on images.

    Args:
        model: With a decoder.
        images: Of the model's size.
        compute: Device.
        mask_ratio: Proportion of the patches that is hidden; default: that of the model's training.
        draw: Number of the mask of each image.
    """
    device = accelerator(compute).device
    model = model.to(device)
    spec = model.spec if mask_ratio is None else model.spec.model_copy(update={"mask_ratio": mask_ratio})
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    with torch.inference_mode():
        for start in range(0, len(images), _BATCH):
            chunk = slice(start, start + _BATCH)
            pixels = torch.from_numpy(images.pixels[chunk]).to(device)
            masks = torch.from_numpy(spec.scoring_masks(images.ids[chunk], draw + 1, _SEED)[:, draw:]).to(device)
            prediction = model.reconstruct(pixels, masks)
            own = model.errors(prediction, pixels, masks)
            uninformed = model.errors(_uninformed(model, prediction, pixels), pixels, masks)
            squared = own if spec.target_space == "tokens" else _squared(model, prediction, pixels, masks)
            found.append((own[:, 0], uninformed[:, 0], squared[:, 0]))
    columns = (torch.cat(each).double().cpu().numpy() for each in zip(*found, strict=True))
    return ReconstructionErrors(*columns)


def _uninformed(model: MaskedImageModel, prediction: Tensor, pixels: Tensor) -> Tensor:
    if model.spec.target_space != "normalised":
        return torch.zeros_like(prediction)
    patches = patchify(model.spec.normalise(pixels), model.spec.patch_size)
    return patches.mean(dim=(0, 1)).expand_as(prediction)


def _squared(model: MaskedImageModel, prediction: Tensor, pixels: Tensor, masks: Tensor) -> Tensor:
    """Return mean squared errors in raw pixels, (B, K)."""
    spec = model.spec
    true = patchify(spec.normalise(pixels), spec.patch_size)
    deviation = torch.tensor(spec.std, device=pixels.device).repeat(spec.patch_size**2)  # values are in (p, q, c)
    of_patches = ((model.in_pixels(prediction, pixels) - true.unsqueeze(1)) * deviation).square().mean(dim=-1)
    return (of_patches * masks).sum(dim=-1) / masks.sum(dim=-1)
