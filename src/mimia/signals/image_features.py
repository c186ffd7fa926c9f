"""Features of an image that do not depend on the target, from which attacks without references learn its difficulty."""

from collections.abc import Mapping
from typing import Any

from mimia.data.pixel_features import pixel_features
from mimia.runtime.arrays import Floats, Ids, Pixels
from mimia.signals.base import QueryConfig, Signal
from mimia.signals.queried import QueriedModel


class ImageFeatures(Signal):
    """Brightness, contrast, colour, sharpness and compression traces of an image (`pixel_features`)."""

    access = "embeddings"
    summary = "pixel statistics of the image, without the target"
    queries = "none of the target"

    def forward_passes(self, query: QueryConfig) -> int:
        """Return one: no model runs, and batches may be as large as can be."""
        return 1

    def length(self, query: QueryConfig) -> None:
        """Return None: the number of features depends on the channels."""

    def cache_key(self, query: QueryConfig) -> Mapping[str, Any]:
        """Return nothing: nothing is drawn."""
        return {}

    def compute(self, queried: QueriedModel, pixels: Pixels, ids: Ids, query: QueryConfig) -> Floats:
        """Return the features, (B, features)."""
        return pixel_features(pixels)
