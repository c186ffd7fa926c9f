"""How far one image would move the weights: small for what a model has learned by heart (Nasr et al., 1812.00910)."""

from collections.abc import Mapping
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from mimia.arrays import Floats, Ids, Pixels
from mimia.encoders.base import Reconstructor
from mimia.signals.kinds import Asking, Kind, Subject

_HELD = 2**28  # numbers, 1 GiB: each image has a gradient as large as the model


class Gradients(Kind):
    """Norm of the gradient of an image's mean masked loss by all trained weights; one number."""

    access = "decoder"
    summary = "norm of the gradient of the masked loss"
    asks = "a quarter of signals.draws masks, backward too"

    def passes(self, asking: Asking) -> int:
        """As many as the masks, forward and backward, with a gradient for each image."""
        return 4 * _masks(asking)

    def question(self, asking: Asking) -> Mapping[str, Any]:
        """Number, seed and shape of the masks."""
        return asking.masking | {"draws": _masks(asking)}

    def measure(self, subject: Subject, pixels: Pixels, ids: Ids, asking: Asking) -> Floats:
        """Give the norm, in the units of the loss by those of the weights: (B, 1)."""
        masks = asking.spec.scoring_masks(ids, _masks(asking), asking.settings.seed)
        model = copy(subject.model)  # its loss takes as many visible patches as its spec says
        model.spec = model.spec.model_copy(update={"mask_ratio": asking.spec.mask_ratio})
        norms: Floats = gradient_norms(model, subject.tensor(pixels), subject.tensor(masks)).cpu().numpy()
        return norms[:, None]


def gradient_norms(model: Reconstructor, images: Tensor, masks: Tensor, held: int = _HELD) -> Tensor:
    """Norm of the gradient of each image's own loss, exactly as in a batch of one: (B,).

    Args:
        model: Whose weights the loss is differentiated by.
        images: Raw pixels, uint8, (B, C, H, W).
        masks: (B, K, L), each with the number of visible patches of training.
        held: Most numbers of gradients in memory at once; those of one image always are.
    """
    trained = {f"model.{name}": value.detach() for name, value in model.named_parameters() if value.requires_grad}
    loss = _Loss(model)

    def of_one(weights: dict[str, Tensor], image: Tensor, mask: Tensor) -> Tensor:
        value: Tensor = functional_call(loss, weights, (image.unsqueeze(0), mask.unsqueeze(0)))
        return value

    def norm(image: Tensor, mask: Tensor) -> Tensor:
        gradients = grad(of_one)(trained, image, mask)
        return torch.stack([value.square().sum() for value in gradients.values()]).sum().sqrt()

    together = max(1, held // sum(value.numel() for value in trained.values()))
    with sdpa_kernel(SDPBackend.MATH):  # the backward of the fused ones cannot be batched
        norms: Tensor = vmap(norm, chunk_size=together)(images, masks)
    return norms


class _Loss(nn.Module):
    def __init__(self, model: Reconstructor) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        return self.model.loss(images, masks)


def _masks(asking: Asking) -> int:
    return max(1, asking.settings.draws // 4)
