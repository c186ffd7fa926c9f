"""A model that signals are computed from."""

from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from mimia.models.base import MaskedImageModel
from mimia.models.checkpoints import native
from mimia.models.embedders import Embedder, embedder_of
from mimia.runtime.arrays import Bools, Floats, Pixels
from mimia.runtime.compute import ComputeSettings, accelerator


class QueriedModel:
    """A checkpoint or a function from images to vectors; a checkpoint is loaded on first use.

    Args:
        name: Its name on the progress bar and in errors.
        source: Checkpoint directory, or function.
        compute: Device and precision.
        latents: Checkpoint directory of the same encoder with a decoder of its latents, if there is one.
    """

    def __init__(
        self, name: str, source: Path | Embedder, compute: ComputeSettings, latents: Path | None = None
    ) -> None:
        self.name = name
        self.source = source
        self.compute = compute
        self.latents = latents
        self.device = accelerator(compute).device

    @cached_property
    def model(self) -> MaskedImageModel:
        """The model of the checkpoint."""
        assert isinstance(self.source, Path), "a function to vectors has no model"
        return native.load(self.source).to(self.device)

    @cached_property
    def latent_model(self) -> MaskedImageModel:
        """The model with the decoder of its latents."""
        assert self.latents is not None, "no decoder of latents was fitted"
        return native.load(self.latents).to(self.device)

    @cached_property
    def embed(self) -> Embedder:
        """The function from images to vectors."""
        if not isinstance(self.source, Path):
            return self.source
        model = embedder_of(self.model)

        def embed(pixels: Pixels) -> Floats:
            with accelerator(self.compute).autocast():
                return model(pixels)

        return embed

    def release(self) -> None:
        """Free the memory of the loaded model."""
        for name in ("model", "latent_model", "embed"):
            self.__dict__.pop(name, None)

    def tensor(self, values: Pixels | Bools) -> Tensor:
        """Return an array as a tensor on the model's device."""
        return torch.from_numpy(values).to(self.device)
