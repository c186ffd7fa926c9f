"""Which patches a MIM model is shown, and which it has to reconstruct.

A mask is a row of L booleans, one a patch in row-major order: True is masked, to be reconstructed; False is
visible. For scoring, masks are a pure function of (seed, image id, draw), so that every model is asked the
same questions about an image and the noise of the masks cancels between them; for training they come from a
generator of the training's own.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor

from mimia.arrays import Bools, Ids


def visible_count(tokens: int, mask_ratio: float) -> int:
    """Number of patches that stay visible.

    The float expression is the official MAE's (``models_mae.py``), kept as it is on purpose:

    >>> visible_count(196, 0.75), visible_count(100, 0.9)
    (49, 9)
    """
    return int(tokens * (1 - mask_ratio))


def random_masks(ids: Ids, draws: int, tokens: int, mask_ratio: float, seed: int) -> Bools:
    """Random masks as MAE draws them: the patches with the lowest noise stay visible.

    Each image has a counter-based generator (Philox) of its own, keyed by the seed and its id, from which its
    draws come in order: other images, the batch and the number of draws change nothing.

    Args:
        ids: Content ids of the images, (B,).
        draws: Number of masks for each image, K.
        tokens: Number of patches, L.
        mask_ratio: Share of the patches that is masked.
        seed: Seed of the whole set of masks.

    Returns:
        (B, K, L); each row has ``visible_count`` patches that are False.

    >>> masks = random_masks(np.array(["a", "b"]), 3, 16, 0.75, seed=0)
    >>> masks.shape, set(masks.sum(-1).flat) == {12}
    ((2, 3, 16), True)
    >>> bool((random_masks(np.array(["b"]), 2, 16, 0.75, seed=0) == masks[1:, :2]).all())
    True
    """
    noise = np.empty((len(ids), draws, tokens))
    for row, image in zip(noise, ids, strict=True):
        digest = hashlib.blake2b(f"{seed}:{image}".encode(), digest_size=16).digest()
        key = np.frombuffer(digest, dtype=np.uint64)
        np.random.Generator(np.random.Philox(key=key)).random(out=row)
    ranks = noise.argsort(axis=-1).argsort(axis=-1)
    return ranks >= visible_count(tokens, mask_ratio)


def draw_random_masks(batch: int, tokens: int, mask_ratio: float, generator: torch.Generator) -> Tensor:
    """One random mask for each image of a training batch, from the generator and on its device.

    Returns:
        bool, (B, 1, L).
    """
    noise = torch.rand(batch, 1, tokens, generator=generator, device=generator.device)
    ranks = noise.argsort(dim=-1).argsort(dim=-1)
    return ranks >= visible_count(tokens, mask_ratio)
