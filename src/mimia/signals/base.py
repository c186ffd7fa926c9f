"""The interface of a signal: numbers that a model gives for each image."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from mimia.config.recipes import Recipe
from mimia.config.settings import SignalSettings
from mimia.config.sizes import collapsed
from mimia.models.base import ModelSpec
from mimia.runtime.arrays import Floats, Ids, Pixels
from mimia.runtime.compute import ComputeSettings
from mimia.signals.arrays import AccessLevel
from mimia.signals.queried import QueriedModel

DecoderUse = Literal["none", "reconstruction", "latents"]
"""The decoder whose output a signal depends on: ``reconstruction``, the decoder of pixels or tokens (the target's own,
or one that is fitted to its encoder); ``latents``, a decoder of the encoder's latents, which is always fitted."""


@dataclass(frozen=True)
class QueryConfig:
    """The query that all models of a run get.

    Attributes:
        settings: Number and seed of the masks, batch size, distance.
        recipe: The target's training, which says how images were augmented.
        compute: Device and precision.
        spec: The target's images and masking; for a function to vectors, the images and the patches to hide.
    """

    settings: SignalSettings
    recipe: Recipe
    compute: ComputeSettings
    spec: ModelSpec

    @property
    def masking(self) -> dict[str, Any]:
        """Settings that decide the masks, except for their number, as JSON values."""
        how = self.spec.model_dump(include={"masking", "mask_ratio", "cell"})
        return {"seed": self.settings.seed, "grid": collapsed(self.spec.grid)} | how


class Signal(ABC):
    """Numbers that a model gives for each image; a subclass has no state and is registered in `SIGNALS`.

    Attributes:
        access: Lowest access level to the target at which it can be computed.
        decoder: The decoder that its numbers depend on.
        summary: Description of the numbers, for `mimia attacks`.
        queries: Number of queries for each image, in words, for `mimia attacks`.
    """

    access: ClassVar[AccessLevel]
    decoder: ClassVar[DecoderUse] = "none"
    summary: ClassVar[str]
    queries: ClassVar[str]

    @abstractmethod
    def forward_passes(self, query: QueryConfig) -> int:
        """Return the number of forward passes for each image that are in memory at once."""

    @abstractmethod
    def length(self, query: QueryConfig) -> int | None:
        """Return how many numbers each image gets, or None if that depends on the model."""

    @abstractmethod
    def cache_key(self, query: QueryConfig) -> Mapping[str, Any]:
        """Return everything that decides the numbers, except for model, images and precision, as JSON values."""

    def weights(self, queried: QueriedModel) -> Mapping[str, str]:
        """Return ids of further weights that decide the numbers, by name."""
        return {}

    @abstractmethod
    def compute(self, queried: QueriedModel, pixels: Pixels, ids: Ids, query: QueryConfig) -> Floats:
        """Compute the numbers of a batch.

        Args:
            queried: The model.
            pixels: Raw pixels, uint8, (B, C, H, W).
            ids: Content ids, (B,).
            query: The query.

        Returns:
            (B, numbers).
        """
