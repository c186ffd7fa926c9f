"""What a kind of signals is: a question to a model, asked of every image alike."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from mimia.arrays import Bools, Floats, Ids, Pixels
from mimia.compute import accelerator
from mimia.config import ComputeSettings, SignalSettings
from mimia.encoders.base import ModelSpec, Reconstructor
from mimia.encoders.checkpoints import native
from mimia.encoders.embedders import Embedder, embedder_of
from mimia.recipes import Recipe
from mimia.signals.base import AccessLevel


@dataclass(frozen=True)
class Asking:
    """How all models of a run are asked.

    Attributes:
        settings: Number and seed of the draws.
        recipe: How the target was trained, which says how its training saw images.
        compute: Device and precision.
        spec: What the target takes; of a function to vectors, the images and the patches that are hidden.
    """

    settings: SignalSettings
    recipe: Recipe
    compute: ComputeSettings
    spec: ModelSpec

    @property
    def masking(self) -> dict[str, Any]:
        """What decides over the masks but their number, as JSON values."""
        how = self.spec.model_dump(include={"masking", "mask_ratio", "cell"})
        return {"seed": self.settings.seed, "grid": self.spec.grid} | how


class Subject:
    """A model that is asked: a checkpoint, or a function from images to vectors.

    Args:
        name: What the progress bar calls it.
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
    def model(self) -> Reconstructor:
        """The model, loaded when it is first asked."""
        assert isinstance(self.source, Path), "a function to vectors has no more than vectors"
        return native.load(self.source).to(self.device)

    @cached_property
    def latent_model(self) -> Reconstructor:
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
        """Forget the loaded model, so that the next one takes its place in memory."""
        for name in ("model", "latent_model", "embed"):
            self.__dict__.pop(name, None)

    def tensor(self, values: Pixels | Bools) -> Tensor:
        """Bring an array to the model's device."""
        return torch.from_numpy(values).to(self.device)


class Kind(ABC):
    """A question to a model about each image.

    Attributes:
        access: What of the target it takes.
        summary: What the numbers are, for a reader.
        asks: How often the model is asked about an image, for a reader.
    """

    access: ClassVar[AccessLevel]
    summary: str
    asks: str

    @abstractmethod
    def passes(self, asking: Asking) -> int:
        """Count the forward passes that an image takes, which bounds the images of a batch."""

    @abstractmethod
    def question(self, asking: Asking) -> Mapping[str, Any]:
        """Give all that decides over the numbers but model, image and precision, as JSON values."""

    def weights(self, subject: Subject) -> Mapping[str, str]:
        """Name what else than the model's own weights decides over its numbers."""
        return {}

    @abstractmethod
    def measure(self, subject: Subject, pixels: Pixels, ids: Ids, asking: Asking) -> Floats:
        """Ask about a batch.

        Args:
            subject: The model.
            pixels: Raw pixels, uint8, (B, C, H, W).
            ids: Content ids, (B,).
            asking: How all models are asked.

        Returns:
            (B, numbers).
        """
