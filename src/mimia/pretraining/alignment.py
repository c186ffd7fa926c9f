"""A linear map between the latents of two encoders, behind which one reads the other's decoder (D2, aligned)."""

import torch
from torch import Tensor, nn

from mimia.data.imageset import ImageSet
from mimia.models.base import MaskedImageModel
from mimia.models.registry import decoder_interface
from mimia.runtime.errors import MimiaError
from mimia.runtime.progress import progress

_BATCH = 256
_RIDGE = 1e-3  # of the mean variance of a latent: keeps the map finite where latents are collinear


def linear_map(source: MaskedImageModel, to: MaskedImageModel, images: ImageSet, seed: int) -> tuple[Tensor, Tensor]:
    """Fit W and b so that W·z + b is near the other model's latent of the same patches, by ridge regression.

    Returns:
        W, (D of ``to``, D of ``source``), and b, (D of ``to``).

    Raises:
        MimiaError: Latents are not finite, or a family declares none.
    """
    latents_of, latents_to = decoder_interface(source).latents, decoder_interface(to).latents
    gram = product = torch.zeros((), dtype=torch.float64)
    with torch.inference_mode(), progress("aligning latents", len(images)) as advance:
        for start in range(0, len(images), _BATCH):
            chunk = slice(start, start + _BATCH)
            pixels = torch.from_numpy(images.pixels[chunk])
            masks = torch.from_numpy(source.spec.scoring_masks(images.ids[chunk], 1, seed))
            latents = latents_of(source, pixels, masks).double()
            latents = torch.cat([latents, torch.ones(len(latents), 1)], dim=1)
            gram = gram + latents.T @ latents
            product = product + latents.T @ latents_to(to, pixels, masks).double()
            advance(len(pixels))
    ridge = torch.eye(len(gram), dtype=torch.float64) * _RIDGE * gram.diagonal().mean()
    ridge[-1, -1] = 0
    if gram.isfinite().all() and product.isfinite().all():
        solution = torch.linalg.solve(gram + ridge, product).float()
        if solution.isfinite().all():
            return solution[:-1].T, solution[-1]
    raise MimiaError(
        "The latents of two encoders cannot be aligned, as those of one are not finite: set decoder.source (--decoder) "
        "to fitted."
    )


@torch.no_grad()
def fold(layer: nn.Linear | nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    """Multiply a linear map into the layer that reads what it maps to: afterwards it reads what is mapped."""
    matrix = layer.weight.flatten(1)  # a view
    assert layer.bias is not None
    layer.bias.add_(matrix @ bias)
    matrix.copy_(matrix @ weight)
