"""The embedding of an image."""

from collections.abc import Mapping
from typing import Any

from mimia.runtime.arrays import Floats, Ids, Pixels
from mimia.signals.base import QueryConfig, Signal
from mimia.signals.queried import QueriedModel


class Embeddings(Signal):
    """The vector that the encoder gives for the whole image."""

    access = "embeddings"
    summary = "the embedding of the image"
    queries = "1 view"

    def forward_passes(self, query: QueryConfig) -> int:
        """Return one."""
        return 1

    def length(self, query: QueryConfig) -> None:
        """Return None: the model decides the length of its vectors."""

    def cache_key(self, query: QueryConfig) -> Mapping[str, Any]:
        """Return nothing: nothing is drawn."""
        return {}

    def compute(self, queried: QueriedModel, pixels: Pixels, ids: Ids, query: QueryConfig) -> Floats:
        """Return the vectors, (B, D)."""
        return queried.embed(pixels)
