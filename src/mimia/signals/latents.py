"""How well a decoder predicts the latents of hidden patches (DOV4MM, arXiv 2507.12022)."""

from collections.abc import Mapping
from typing import Any

import torch

from mimia.models.checkpoints.native import model_id
from mimia.runtime.arrays import Floats, Ids, Pixels
from mimia.runtime.compute import accelerator
from mimia.signals.base import QueryConfig, Signal
from mimia.signals.queried import QueriedModel


class Latents(Signal):
    """Error of predicting the encoder's latents of patches that are hidden from it, one number for each mask."""

    access = "encoder"
    decoder = "latents"
    summary = "error of predicting the encoder's latents of hidden patches"
    queries = "signals.draws masks, and the whole image"

    def forward_passes(self, query: QueryConfig) -> int:
        """Return one for each mask, and one for the whole image."""
        return query.settings.draws + 1

    def length(self, query: QueryConfig) -> int:
        """Return one for each mask."""
        return query.settings.draws

    def cache_key(self, query: QueryConfig) -> Mapping[str, Any]:
        """Return number, seed and shape of the masks."""
        return query.masking | {"draws": query.settings.draws}

    def weights(self, queried: QueriedModel) -> Mapping[str, str]:
        """Return the id of the decoder of latents."""
        assert queried.latents is not None
        return {"latents": model_id(queried.latents)}

    def compute(self, queried: QueriedModel, pixels: Pixels, ids: Ids, query: QueryConfig) -> Floats:
        """Return the mean squared error over the latents of the hidden patches under each mask, (B, draws)."""
        model = queried.latent_model
        masks = query.spec.scoring_masks(ids, query.settings.draws, query.settings.seed)
        with torch.inference_mode(), accelerator(query.compute).autocast():
            distances = model.distances(queried.tensor(pixels), queried.tensor(masks))
        values: Floats = distances.float().cpu().numpy()
        return values
