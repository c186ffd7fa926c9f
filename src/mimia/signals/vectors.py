"""Cosine distances between the embeddings of an image's views."""

import numpy as np

from mimia.models.embedders import Embedder
from mimia.runtime.arrays import Floats, Pixels


def embed_views(embed: Embedder, views: Pixels) -> Floats:
    """Embed views, uint8, (B, K, C, H, W), as vectors of length 1, (B, K, D)."""
    return unit(embed(views.reshape(-1, *views.shape[2:]))).reshape(*views.shape[:2], -1)


def unit(vectors: Floats) -> Floats:
    """Scale vectors, (..., D), to length 1; a vector of zeros stays as it is."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)
    units: Floats = vectors / np.maximum(lengths, np.finfo(np.float64).tiny)
    return units


def dissimilarity(vectors: Floats) -> Floats:
    """Return one minus the mean cosine of each view with the other views: (B, K, D) -> (B, K)."""
    cosines = vectors @ vectors.transpose(0, 2, 1)
    others: Floats = (cosines.sum(axis=2) - cosines.diagonal(axis1=1, axis2=2)) / (vectors.shape[1] - 1)
    return 1 - others
