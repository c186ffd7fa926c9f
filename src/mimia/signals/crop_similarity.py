"""Similarity of the embeddings of random crops (EncoderMI, Liu et al., arXiv 2108.11023, section 4.1)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mimia.data.augmentation import augment
from mimia.runtime.arrays import Floats, Ids, Pixels
from mimia.runtime.seeds import torch_generator
from mimia.signals.base import QueryConfig, Signal
from mimia.signals.queried import QueriedModel
from mimia.signals.vectors import embed_views

_VIEWS = 10
_CROP_AREA = (0.2, 1.0)


class CropSimilarity(Signal):
    """Cosine distance between the embeddings of each pair of ten random crops, mirrored or not."""

    access = "embeddings"
    summary = "pairwise dissimilarity of the embeddings of ten random crops"
    queries = "10 views"

    def forward_passes(self, query: QueryConfig) -> int:
        """Return one for each crop."""
        return _VIEWS

    def length(self, query: QueryConfig) -> int:
        """Return one for each pair."""
        return _VIEWS * (_VIEWS - 1) // 2

    def cache_key(self, query: QueryConfig) -> Mapping[str, Any]:
        """Return number, seed and size of the crops."""
        return {"seed": query.settings.seed, "views": _VIEWS, "scale": _CROP_AREA}

    def compute(self, queried: QueriedModel, pixels: Pixels, ids: Ids, query: QueryConfig) -> Floats:
        """Return one minus the cosine similarity of each pair, (B, 45)."""
        vectors = embed_views(queried.embed, random_crops_of(pixels, ids, _VIEWS, _CROP_AREA, query.settings.seed))
        first, second = np.triu_indices(_VIEWS, 1)
        cosines: Floats = (vectors[:, first] * vectors[:, second]).sum(axis=2)
        return np.maximum(1 - cosines, 0)


def random_crops_of(pixels: Pixels, ids: Ids, count: int, scale: tuple[float, float], seed: int) -> Pixels:
    """Draw random crops of each image, scaled to its size, mirrored or not: a pure function of (seed, image id, count).

    Args:
        pixels: Raw pixels, uint8, (B, C, H, W).
        ids: Content ids, (B,).
        count: Crops of each image, K.
        scale: Smallest and largest proportion of the image that a crop covers.
        seed: Seed of all crops.

    Returns:
        Raw pixels, uint8, (B, K, C, H, W).
    """
    crops = []
    for image, name in zip(torch.from_numpy(pixels), ids, strict=True):
        generator = torch_generator("cpu", seed, "crops", str(name))
        crops.append(augment(image.expand(count, -1, -1, -1), "crop", generator, scale))
    cropped: Pixels = (torch.stack(crops) * 255).round().to(torch.uint8).numpy()
    return cropped
