"""Similarity of the embeddings of masked views, for adversaries who have embeddings alone.

An encoder embeds views of a training image more alike than those of other images (EncoderMI, Liu et al., arXiv
2108.11023). Masked image modeling trains on images with hidden patches. A function to vectors takes no masks, so the
patches are painted over in pixels.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mimia.models.embedders import Embedder
from mimia.models.masking import random_masks
from mimia.runtime.arrays import Bools, Floats, Ids, Pixels
from mimia.signals.base import QueryConfig, Signal
from mimia.signals.queried import QueriedModel
from mimia.signals.vectors import dissimilarity, embed_views

VIEW_MASK_RATIO = 0.25


class ViewSimilarity(Signal):
    """Cosine distance between the embeddings of views with a quarter of the patches hidden, one for each view."""

    access = "embeddings"
    summary = "dissimilarity of the embeddings of masked views"
    queries = "signals.draws views"

    def forward_passes(self, query: QueryConfig) -> int:
        """Return one for each view."""
        return query.settings.draws

    def length(self, query: QueryConfig) -> int:
        """Return one for each view."""
        return max(2, query.settings.draws)  # a view is compared with at least one other

    def cache_key(self, query: QueryConfig) -> Mapping[str, Any]:
        """Return number and seed of the views, and the patches that they hide."""
        return {"ratio": VIEW_MASK_RATIO} | hiding(query)

    def compute(self, queried: QueriedModel, pixels: Pixels, ids: Ids, query: QueryConfig) -> Floats:
        """Return one minus the mean cosine similarity of a view to the image's other views, (B, draws)."""
        return view_distances(queried.embed, pixels, random_view_masks(ids, query), query.spec.patch_size)


def view_distances(embed: Embedder, pixels: Pixels, masks: Bools, patch_size: int) -> Floats:
    """Compute how unlike the masked views of each image are embedded.

    Args:
        embed: Raw pixels to vectors.
        pixels: Raw pixels, uint8, (B, C, H, W).
        masks: Patches that each view hides, (B, K, L); K is at least 2.
        patch_size: Side of a patch in pixels.

    Returns:
        One minus the mean cosine similarity of a view to the image's other views, (B, K).
    """
    vectors = embed_views(embed, hide(pixels, masks, patch_size))
    return np.maximum(dissimilarity(vectors), 0)  # rounding may leave it slightly below


def random_view_masks(ids: Ids, query: QueryConfig) -> Bools:
    """Draw the masks of `ViewSimilarity`, a pure function of (seed, image id, view): (B, K, L)."""
    draws = max(2, query.settings.draws)
    return random_masks(ids, draws, query.spec.tokens, VIEW_MASK_RATIO, query.settings.seed)


def hide(pixels: Pixels, masks: Bools, patch_size: int) -> Pixels:
    """Paint masked patches in the mean colour of the visible ones.

    Args:
        pixels: Raw pixels, uint8, (B, C, H, W).
        masks: (B, K, L), True where masked.
        patch_size: Side of a patch in pixels.

    Returns:
        Raw pixels, uint8, (B, K, C, H, W).
    """
    rows, columns = (side // patch_size for side in pixels.shape[2:])
    hidden = masks.reshape(*masks.shape[:2], 1, rows, columns).repeat(patch_size, axis=3).repeat(patch_size, axis=4)
    images = pixels[:, None]
    visible = ~hidden
    colour = (images * visible).sum(axis=(3, 4), keepdims=True) / visible.sum(axis=(3, 4), keepdims=True)
    views: Pixels = np.where(hidden, np.rint(colour).astype(np.uint8), images)
    return views


def hiding(query: QueryConfig) -> dict[str, Any]:
    """Return what decides the masked views, except for their ratio, as JSON values."""
    spec, settings = query.spec, query.settings
    return {"seed": settings.seed, "draws": settings.draws, "patch_size": spec.patch_size, "side": spec.image_size}
