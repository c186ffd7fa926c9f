"""How well a model reconstructs an image under masks drawn as in training."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mimia.config.settings import Patches
from mimia.models.patches import patchify
from mimia.runtime.arrays import Floats, Ids, Pixels
from mimia.runtime.compute import accelerator
from mimia.signals.base import QueryConfig, Signal
from mimia.signals.distances import DISTANCES, PatchDistance
from mimia.signals.queried import QueriedModel


class Reconstruction(Signal):
    """Distance of an image from its reconstruction, by default the training loss, one number for each mask."""

    access = "encoder"
    decoder = "reconstruction"
    summary = "reconstruction error under masks as in training"
    queries = "signals.draws masks"

    def forward_passes(self, query: QueryConfig) -> int:
        """Return one for each mask."""
        return query.settings.draws

    def length(self, query: QueryConfig) -> int:
        """Return one for each mask."""
        return query.settings.draws

    def cache_key(self, query: QueryConfig) -> Mapping[str, Any]:
        """Return number, seed and shape of the masks; the distance and its patches, if not those of training."""
        other = query.settings.model_dump(include={"distance", "patches"}, exclude_defaults=True)
        return query.masking | {"draws": query.settings.draws} | other

    def compute(self, queried: QueriedModel, pixels: Pixels, ids: Ids, query: QueryConfig) -> Floats:
        """Return the mean distance over the chosen patches under each mask, (B, draws).

        The training loss is in the model's target space, other distances in the space that `DISTANCES` names.
        """
        masks = query.spec.scoring_masks(ids, query.settings.draws, query.settings.seed)
        images, hidden = queried.tensor(pixels), queried.tensor(masks)
        chosen = _chosen(hidden, query.settings.patches)
        if query.settings.distance == "training":
            errors = patch_errors(queried, images, hidden, query)
        else:
            errors = _distances(DISTANCES[query.settings.distance], queried, images, hidden, chosen, query)
        distances: Floats = ((errors * chosen).sum(dim=-1) / chosen.sum(dim=-1)).cpu().numpy()
        return distances


def patch_errors(queried: QueriedModel, images: Tensor, masks: Tensor, query: QueryConfig) -> Tensor:
    """Compute the training loss of each patch.

    Args:
        queried: The model.
        images: Raw pixels, (B, C, H, W), or an image for each mask, (B·K, C, H, W).
        masks: (B, K, L), True where masked.
        query: The query.

    Returns:
        In the model's target space, (B, K, L).
    """
    shape = masks.shape
    if len(images) != len(masks):
        masks = masks.flatten(0, 1).unsqueeze(1)
    with torch.inference_mode(), accelerator(query.compute).autocast():
        predictions = queried.model.reconstruct(images, masks)
        return queried.model.patch_errors(predictions, images).float().view(shape)


def _distances(
    distance: PatchDistance, queried: QueriedModel, images: Tensor, masks: Tensor, chosen: Tensor, query: QueryConfig
) -> Tensor:
    """Compute the distance of each patch in an image whose chosen patches are predicted and others true: (B, K, L).

    The windows of the structural similarity reach beyond a patch. Prediction of the chosen patches alone keeps
    predictions of visible patches, which training never asked for, out of the distances of masked ones.
    """
    model = queried.model
    with torch.inference_mode():
        with accelerator(query.compute).autocast():
            predictions = model.reconstruct(images, masks)
        patches = patchify(model.spec.normalise(images), model.spec.patch_size).unsqueeze(1)
        composed = torch.where(chosen.unsqueeze(-1), model.in_pixels(predictions, images), patches)
        return distance(model.spec, composed, images)


def _chosen(masks: Tensor, patches: Patches) -> Tensor:
    """Return which patches count, (B, K, L)."""
    match patches:
        case "masked":
            return masks
        case "visible":
            return ~masks
        case "all":
            return torch.ones_like(masks)
