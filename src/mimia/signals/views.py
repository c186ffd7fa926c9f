"""Views of an image and their embeddings, for adversaries who have no more than embeddings.

An encoder embeds views of an image that it was trained on more alike (EncoderMI, Liu et al., arXiv 2108.11023). What
masked image modeling trains on are images of which some patches are hidden; here they are hidden in pixels, because an
encoder behind a function takes no masks.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mimia.arrays import Bools, Floats, Ids, Pixels
from mimia.encoders.embedders import Embedder
from mimia.images.augment import augment
from mimia.masking import random_masks
from mimia.seeds import torch_generator
from mimia.signals.kinds import Asking, Kind, Subject

VIEW_MASK_RATIO = 0.25
_OTHER_RATIOS = (0.5, 0.75)
_VIEWS = 10  # of EncoderMI
_CROP_AREA = (0.2, 1.0)


class Similarities(Kind):
    """How unlike views with a quarter of the patches hidden are embedded: one number a view."""

    access = "embeddings"
    summary = "dissimilarity of the embeddings of masked views"
    asks = "signals.draws views"

    def passes(self, asking: Asking) -> int:
        """One a view."""
        return asking.settings.draws

    def question(self, asking: Asking) -> Mapping[str, Any]:
        """Number and seed of the views, and what they hide."""
        return {"ratio": VIEW_MASK_RATIO} | _hiding(asking)

    def measure(self, subject: Subject, pixels: Pixels, ids: Ids, asking: Asking) -> Floats:
        """Give one minus the mean cosine similarity of a view to the image's other views: (B, draws), at least two."""
        draws, seed = max(2, asking.settings.draws), asking.settings.seed  # a view needs another one
        return view_distances(subject.embed, pixels, ids, asking.spec.patch_size, draws, seed)


class Ratios(Kind):
    """How unlike views are embedded that hide more: their mean, and their distance to the whole image."""

    access = "embeddings"
    summary = "dissimilarity of masked views at other ratios, and to the whole image"
    asks = "as many views"

    def passes(self, asking: Asking) -> int:
        """One a view."""
        return asking.settings.draws

    def question(self, asking: Asking) -> Mapping[str, Any]:
        """Number and seed of the views, and what they hide."""
        return {"ratios": [VIEW_MASK_RATIO, *_OTHER_RATIOS]} | _hiding(asking)

    def measure(self, subject: Subject, pixels: Pixels, ids: Ids, asking: Asking) -> Floats:
        """Give two numbers for each ratio: (B, 2 × ratios)."""
        size, fewer = asking.spec.patch_size, max(2, asking.settings.draws // 4)
        whole = _unit(subject.embed(pixels))[:, None]
        numbers = []
        for ratio in (VIEW_MASK_RATIO, *_OTHER_RATIOS):
            masks = random_masks(ids, fewer, asking.spec.tokens, ratio, asking.settings.seed + 1)
            vectors = _embed_each(subject.embed, hide(pixels, masks, size))
            numbers += [_dissimilarity(vectors).mean(axis=1), (1 - (vectors * whole).sum(axis=2)).mean(axis=1)]
        stacked: Floats = np.stack(numbers, axis=1)
        return np.maximum(stacked, 0)


class Views(Kind):
    """How unlike any two of ten random crops, mirrored or not, are embedded (EncoderMI, section 4.1)."""

    access = "embeddings"
    summary = "pairwise dissimilarity of the embeddings of ten random crops"
    asks = "10 views"

    def passes(self, asking: Asking) -> int:
        """One a view."""
        return _VIEWS

    def question(self, asking: Asking) -> Mapping[str, Any]:
        """Number, seed and size of the crops."""
        return {"seed": asking.settings.seed, "views": _VIEWS, "area": _CROP_AREA}

    def measure(self, subject: Subject, pixels: Pixels, ids: Ids, asking: Asking) -> Floats:
        """Give one minus the cosine similarity of each pair of views: (B, 45)."""
        vectors = _embed_each(subject.embed, random_crops_of(pixels, ids, _VIEWS, _CROP_AREA, asking.settings.seed))
        first, second = np.triu_indices(_VIEWS, 1)
        cosines: Floats = (vectors[:, first] * vectors[:, second]).sum(axis=2)
        return np.maximum(1 - cosines, 0)


class Embeddings(Kind):
    """The embedding itself."""

    access = "embeddings"
    summary = "the embedding of the image"
    asks = "1 view"

    def passes(self, asking: Asking) -> int:
        """One."""
        return 1

    def question(self, asking: Asking) -> Mapping[str, Any]:
        """Nothing is drawn."""
        return {}

    def measure(self, subject: Subject, pixels: Pixels, ids: Ids, asking: Asking) -> Floats:
        """Give the vector: (B, D)."""
        return subject.embed(pixels)


def random_crops_of(pixels: Pixels, ids: Ids, count: int, area: tuple[float, float], seed: int) -> Pixels:
    """Random crops of each image, scaled to its size and mirrored or not; a pure function of (seed, image id, count).

    Args:
        pixels: uint8, (B, C, H, W).
        ids: Content ids, (B,).
        count: Crops of each image, K.
        area: Smallest and largest share of the image that a crop takes.
        seed: Seed of all crops.

    Returns:
        uint8, (B, K, C, H, W).
    """
    crops = []
    for image, name in zip(torch.from_numpy(pixels), ids, strict=True):
        generator = torch_generator("cpu", seed, "crops", str(name))
        crops.append(augment(image.expand(count, -1, -1, -1), "crop", generator, area))
    cropped: Pixels = (torch.stack(crops) * 255).round().to(torch.uint8).numpy()
    return cropped


def view_distances(embed: Embedder, pixels: Pixels, ids: Ids, patch_size: int, draws: int, seed: int) -> Floats:
    """Measure how unlike the views of each image are embedded.

    Args:
        embed: Raw pixels to vectors.
        pixels: uint8, (B, C, H, W).
        ids: Content ids, (B,).
        patch_size: Side of the patches that are hidden, in pixels.
        draws: Number of views of each image, K; at least 2.
        seed: Seed of the views.

    Returns:
        One minus the mean cosine similarity of a view to the image's other views, (B, K).
    """
    grid = pixels.shape[-1] // patch_size
    masks = random_masks(ids, draws, grid**2, VIEW_MASK_RATIO, seed)
    views = hide(pixels, masks, patch_size)
    return np.maximum(_dissimilarity(_embed_each(embed, views)), 0)  # rounding may leave it a hair below


def hide(pixels: Pixels, masks: Bools, patch_size: int) -> Pixels:
    """Paint masked patches in the mean colour of the visible ones.

    Args:
        pixels: uint8, (B, C, H, W).
        masks: (B, K, L), True where masked.
        patch_size: Side of a patch in pixels.

    Returns:
        uint8, (B, K, C, H, W).
    """
    batch, draws, tokens = masks.shape
    grid = int(tokens**0.5)
    hidden = masks.reshape(batch, draws, 1, grid, grid).repeat(patch_size, axis=3).repeat(patch_size, axis=4)
    images = pixels[:, None]
    visible = ~hidden
    colour = (images * visible).sum(axis=(3, 4), keepdims=True) / visible.sum(axis=(3, 4), keepdims=True)
    views: Pixels = np.where(hidden, np.rint(colour).astype(np.uint8), images)
    return views


def _embed_each(embed: Embedder, views: Pixels) -> Floats:
    """Embed views, (B, K, C, H, W), as vectors of length 1, (B, K, D)."""
    return _unit(embed(views.reshape(-1, *views.shape[2:]))).reshape(*views.shape[:2], -1)


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)
    units: Floats = vectors / np.maximum(lengths, np.finfo(np.float64).tiny)
    return units


def _dissimilarity(vectors: Floats) -> Floats:
    """One minus the mean cosine of a view with the other views: (B, K, D) -> (B, K)."""
    cosines = vectors @ vectors.transpose(0, 2, 1)
    others: Floats = (cosines.sum(axis=2) - cosines.diagonal(axis1=1, axis2=2)) / (vectors.shape[1] - 1)
    return 1 - others


def _hiding(asking: Asking) -> dict[str, Any]:
    spec, settings = asking.spec, asking.settings
    return {"seed": settings.seed, "draws": settings.draws, "patch_size": spec.patch_size, "side": spec.image_size}
