"""Similarity of the embeddings of masked views at several mask ratios."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mimia.models.masking import random_masks
from mimia.runtime.arrays import Floats, Ids, Pixels
from mimia.signals.base import QueryConfig, Signal
from mimia.signals.queried import QueriedModel
from mimia.signals.vectors import dissimilarity, embed_views, unit
from mimia.signals.view_similarity import VIEW_MASK_RATIO, hide, hiding

_RATIOS = (VIEW_MASK_RATIO, 0.5, 0.75)


class ViewSimilarityByRatio(Signal):
    """Cosine distances of views at several mask ratios: to each other, and to the whole image."""

    access = "embeddings"
    summary = "dissimilarity of masked views at other ratios, and to the whole image"
    queries = "signals.draws views"

    def forward_passes(self, query: QueryConfig) -> int:
        """Return one for each view."""
        return query.settings.draws

    def length(self, query: QueryConfig) -> int:
        """Return two for each ratio."""
        return 2 * len(_RATIOS)

    def cache_key(self, query: QueryConfig) -> Mapping[str, Any]:
        """Return number and seed of the views, and the patches that they hide."""
        return {"ratios": _RATIOS} | hiding(query)

    def compute(self, queried: QueriedModel, pixels: Pixels, ids: Ids, query: QueryConfig) -> Floats:
        """Return the mean distance between views and the mean distance to the whole image at each ratio, (B, 6)."""
        size, fewer = query.spec.patch_size, max(2, query.settings.draws // 4)
        whole = unit(queried.embed(pixels))[:, None]
        numbers = []
        for ratio in _RATIOS:
            masks = random_masks(ids, fewer, query.spec.tokens, ratio, query.settings.seed + 1)
            vectors = embed_views(queried.embed, hide(pixels, masks, size))
            numbers += [dissimilarity(vectors).mean(axis=1), (1 - (vectors * whole).sum(axis=2)).mean(axis=1)]
        stacked: Floats = np.stack(numbers, axis=1)
        return np.maximum(stacked, 0)
