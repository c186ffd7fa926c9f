"""Gradient norm: how far one image would move the weights (Nasr et al., arXiv 1812.00910)."""

from collections.abc import Mapping
from copy import copy
from typing import Any

import torch

from mimia.models.per_sample_gradients import norms, per_image_gradients
from mimia.runtime.arrays import Floats, Ids, Pixels
from mimia.signals.base import QueryConfig, Signal
from mimia.signals.queried import QueriedModel


class Gradients(Signal):
    """Norm of the gradient of an image's mean masked loss by all trained weights; it is small for a training image."""

    access = "decoder"
    decoder = "reconstruction"
    summary = "norm of the gradient of the masked loss"
    queries = "a quarter of signals.draws masks, backward too"

    def forward_passes(self, query: QueryConfig) -> int:
        """Return four for each mask: forward and backward, and a gradient for each image."""
        return 4 * _masks(query)

    def length(self, query: QueryConfig) -> int:
        """Return one."""
        return 1

    def cache_key(self, query: QueryConfig) -> Mapping[str, Any]:
        """Return number, seed and shape of the masks."""
        return query.masking | {"draws": _masks(query)}

    def compute(self, queried: QueriedModel, pixels: Pixels, ids: Ids, query: QueryConfig) -> Floats:
        """Return the norm, in units of the loss per unit of the weights, (B, 1)."""
        masks = query.spec.scoring_masks(ids, _masks(query), query.settings.seed)
        model = copy(queried.model)  # its loss takes as many visible patches as its spec says
        model.spec = model.spec.model_copy(update={"mask_ratio": query.spec.mask_ratio})
        parts = per_image_gradients(model, queried.tensor(pixels), queried.tensor(masks))
        found: Floats = torch.cat([norms(gradients) for _, gradients in parts]).cpu().numpy()
        return found[:, None]


def _masks(query: QueryConfig) -> int:
    return max(1, query.settings.draws // 4)
