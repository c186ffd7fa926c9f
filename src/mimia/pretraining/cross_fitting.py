"""Cross-fitting: of each image, a model learns what models that never saw it make of it.

Membership shows in how much better a model reconstructs an image than models do that were not trained on it. A
cross-fitted model is not given the hidden patches of its images as they are, but as models of the same kind
reconstruct them that were trained on the other half of the images, so that it can learn by heart no more of an image
than such models could guess. For classifiers, learning from out-of-sample predictions is SELENA (Tang et al., arXiv
2110.08324).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mimia.arrays import Bools, Indices
from mimia.encoders.base import Reconstructor


def halves(images: int, pairs: int, generator: np.random.Generator) -> Bools:
    """Draw which images each teacher is trained on, two complementary halves a pair: (2 × pairs, images).

    >>> drawn = halves(5, 2, np.random.default_rng(0))
    >>> drawn.shape, bool((drawn[0] ^ drawn[1]).all())
    ((4, 5), True)
    """
    first = np.zeros((pairs, images), dtype=bool)
    for half in first:
        half[generator.permutation(images)[: images // 2]] = True
    return np.stack([first, ~first], axis=1).reshape(2 * pairs, images)


@dataclass(frozen=True)
class Teachers:
    """Models that were trained on halves of the images.

    Attributes:
        models: Of the family of the model that learns from them.
        seen: Whether a teacher saw an image, (teachers, images); half of them did.
    """

    models: Sequence[Reconstructor]
    seen: Bools

    def pictures(self, rows: Indices, images: Tensor, masks: Tensor) -> Tensor:
        """Reconstruct images by the teachers that did not see them, on average.

        Args:
            rows: Which of the training images these are, (B,).
            images: As training shows them: raw pixels, (B, C, H, W).
            masks: One an image, (B, 1, L).

        Returns:
            Raw pixels, (B, C, H, W); only the hidden patches mean something.
        """
        total = torch.zeros(images.shape, device=images.device)
        with torch.no_grad():
            for model, seen in zip(self.models, self.seen, strict=True):
                unseen = torch.from_numpy(~seen[rows]).to(images.device)
                if unseen.any():
                    total[unseen] += model.pictures(images[unseen], masks[unseen])[:, 0]
        return total / (len(self.models) / 2)
