"""How well a decoder predicts the latents of hidden patches (DOV4MM, arXiv 2507.12022)."""

from collections.abc import Mapping
from typing import Any

import torch

from mimia.arrays import Floats, Ids, Pixels
from mimia.compute import accelerator
from mimia.encoders.checkpoints.native import model_id
from mimia.signals.kinds import Asking, Kind, Subject


class Latents(Kind):
    """The error of predicting what the encoder makes of hidden patches when it sees them: one number a mask."""

    access = "encoder"
    summary = "error of predicting the encoder's latents of hidden patches"
    asks = "signals.draws masks, and the whole image"

    def passes(self, asking: Asking) -> int:
        """One a mask, and the whole image."""
        return asking.settings.draws + 1

    def question(self, asking: Asking) -> Mapping[str, Any]:
        """Number, seed and shape of the masks."""
        return asking.masking | {"draws": asking.settings.draws}

    def weights(self, subject: Subject) -> Mapping[str, str]:
        """Name the decoder of latents."""
        assert subject.latents is not None
        return {"latents": model_id(subject.latents)}

    def measure(self, subject: Subject, pixels: Pixels, ids: Ids, asking: Asking) -> Floats:
        """Give the mean squared error over the hidden patches' latents under each mask: (B, draws)."""
        model = subject.latent_model
        masks = asking.spec.scoring_masks(ids, asking.settings.draws, asking.settings.seed)
        with torch.inference_mode(), accelerator(asking.compute).autocast():
            distances = model.distances(subject.tensor(pixels), subject.tensor(masks))
        values: Floats = distances.float().cpu().numpy()
        return values
