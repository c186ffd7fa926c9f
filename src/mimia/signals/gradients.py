"""How far one image would move the weights: small for what a model has learned by heart (Nasr et al., 1812.00910)."""

from collections.abc import Mapping
from copy import copy
from typing import Any

import torch

from mimia.arrays import Floats, Ids, Pixels
from mimia.encoders.per_image import norms, per_image_gradients
from mimia.signals.kinds import Asking, Kind, Subject


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
        parts = per_image_gradients(model, subject.tensor(pixels), subject.tensor(masks))
        found: Floats = torch.cat([norms(gradients) for _, gradients in parts]).cpu().numpy()
        return found[:, None]


def _masks(asking: Asking) -> int:
    return max(1, asking.settings.draws // 4)
