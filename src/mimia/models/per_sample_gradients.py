"""The gradient of each image's own loss, exactly as in a batch of one, of many images in one backward pass."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from mimia.models.base import MaskedImageModel

_HELD = 2**28  # numbers, 1 GiB: each image has a gradient as large as the model


def per_image_gradients(
    model: MaskedImageModel, images: Tensor, masks: Tensor, held: int = _HELD
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Yield the loss and the gradient of each image, a part of the images at a time.

    Args:
        model: Whose weights the loss is differentiated by.
        images: Raw pixels, uint8 or float in [0, 1], (B, C, H, W).
        masks: (B, K, L), each with the number of visible patches of training.
        held: Most numbers of gradients in memory at once; those of one image always are.

    Yields:
        Of b of the B images: losses, (b,), and by each trained weight, of the shape S, the gradients, (b, S).
    """
    trained = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    loss = _Loss(model)

    def of_one(weights: dict[str, Tensor], image: Tensor, mask: Tensor) -> Tensor:
        named = {f"model.{name}": value for name, value in weights.items()}
        value: Tensor = functional_call(loss, named, (image.unsqueeze(0), mask.unsqueeze(0)))
        return value

    of_each = vmap(grad_and_value(of_one), in_dims=(None, 0, 0))
    together = max(1, held // sum(value.numel() for value in trained.values()))
    for start in range(0, len(images), together):
        chunk = slice(start, start + together)
        with sdpa_kernel(SDPBackend.MATH):  # the backward of the fused ones cannot be batched
            gradients, losses = of_each(trained, images[chunk], masks[chunk])
        yield losses, gradients


def norms(gradients: Mapping[str, Tensor]) -> Tensor:
    """Norm of the whole gradient of each image, over all weights: (b,)."""
    of_weights = [torch.linalg.vector_norm(value.reshape(len(value), -1), dim=1) for value in gradients.values()]
    whole: Tensor = torch.linalg.vector_norm(torch.stack(of_weights), dim=0)
    return whole


class _Loss(nn.Module):
    def __init__(self, model: MaskedImageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        return self.model.loss(images, masks)
