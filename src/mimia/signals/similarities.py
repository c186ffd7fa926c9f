"""Similarities of the embeddings of masked views, for adversaries who have no more than embeddings.

An encoder embeds views of an image that it was trained on more alike (EncoderMI, Liu et al., arXiv 2108.11023). The
views here are what masked image modeling trains on: the image with some patches hidden, in pixels, because an encoder
behind a function takes no masks.
"""

import hashlib
from collections.abc import Mapping
from functools import partial

import numpy as np

from mimia.arrays import Bools, Floats, Ids, Indices, Pixels, fingerprint, fingerprint_of_ids
from mimia.config import SignalSettings
from mimia.encoders.embedders import Embedder
from mimia.errors import MimiaError
from mimia.images.imageset import ImageSet
from mimia.masking import random_masks
from mimia.signals.base import Signals
from mimia.signals.batches import read_batches, write_batches
from mimia.store import Store

VIEW_MASK_RATIO = 0.25
_PROBES = 8


def score_views(
    embedders: Mapping[str, Embedder],
    images: ImageSet,
    rows: Indices,
    patch_size: int,
    settings: SignalSettings,
    store: Store,
) -> Signals:
    """Measure how unlike models embed the masked views of images, each model the same views.

    A function has no weights by which to name it: it is named by what it answers to a few of the images.

    Args:
        embedders: By the name that the progress bar calls the model.
        images: Where the images are.
        rows: Which of them are scored.
        patch_size: Side of the patches that are hidden, in pixels.
        settings: Number and seed of the views, batch size.
        store: Keeps the distances of each model.

    Raises:
        MimiaError: A single view is asked for, or patches of that size do not tile the images.
    """
    if settings.draws < 2:
        raise MimiaError("Views are compared with each other: raise signals.draws to 2 at least.")
    side = images.pixels.shape[-1]
    if side % patch_size:
        raise MimiaError(f"Patches of {patch_size} px do not tile images of {side} px: set recipe.patch_size.")
    ids = images.ids[rows]
    views = fingerprint({"views": VIEW_MASK_RATIO, "seed": settings.seed, "patch_size": patch_size, "side": side})
    values, models = [], []
    for name, embed in embedders.items():
        answer = np.ascontiguousarray(embed(images.pixels[rows[:_PROBES]]))
        model = hashlib.sha256(answer.tobytes()).hexdigest()
        key = {"model": model, "images": fingerprint_of_ids(ids), "views": views, "draws": settings.draws}

        def measure(pixels: Pixels, ids: Ids, embed: Embedder = embed) -> Floats:
            return view_distances(embed, pixels, ids, patch_size, settings.draws, settings.seed)

        build = partial(write_batches, measure, images, rows, settings, name)
        values.append(read_batches(store.make("similarities", key, build)))
        models.append(model)
    return Signals(np.stack(values), tuple(models), ids, views)


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
    vectors = embed(views.reshape(-1, *pixels.shape[1:])).astype(np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    vectors = vectors.reshape(len(pixels), draws, -1)
    cosines = vectors @ vectors.transpose(0, 2, 1)
    others: Floats = (cosines.sum(axis=2) - cosines.diagonal(axis1=1, axis2=2)) / (draws - 1)
    return np.maximum(1 - others, 0)  # rounding may leave it a hair below


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
