"""Cross-fitting: of each image, a model learns what models that never saw it make of it.

Membership shows in how much better a model reconstructs an image than models do that were not trained on it. A
cross-fitted model is not given the hidden patches of its images as they are, but as models of the same kind
reconstruct them that were trained on the other half of the images, so that it can learn by heart no more of an image
than such models could guess. For classifiers, learning from out-of-sample predictions is SELENA (Tang et al., arXiv
2110.08324).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from mimia.config.defences import Defence
from mimia.config.families import FAMILIES
from mimia.config.recipes import Recipe
from mimia.models.base import MaskedImageModel
from mimia.models.checkpoints import native
from mimia.pretraining.context import TrainingRun
from mimia.pretraining.hooks import Batch, BatchFunction, TrainerHooks
from mimia.pretraining.pool import as_long, pretrained
from mimia.runtime.arrays import Bools, Indices
from mimia.runtime.compute import accelerator
from mimia.runtime.seeds import derived_seed


class CrossFitting(Defence):
    """Train on reconstructions by models that did not see an image, instead of on its hidden patches."""

    pairs: PositiveInt = Field(1, description="pairs of teachers, which are trained on complementary halves first")

    @property
    def teachers(self) -> int:
        """Number of models that are trained first."""
        return 2 * self.pairs

    def check(self, recipe: Recipe) -> None:
        """Raise `ValueError` if the model predicts tokens."""
        if FAMILIES[recipe.family].predicts_tokens:
            raise ValueError(f"cross_fitting needs predicted pixels, and {recipe.family} predicts tokens: leave it out")

    def hooks(self) -> TrainerHooks:
        """Return new hooks for one training."""
        return _Hooks(self.pairs)


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

    models: Sequence[MaskedImageModel]
    seen: Bools

    def pictures(self, rows: Indices, images: Tensor, masks: Tensor) -> Tensor:
        """Return the mean reconstruction of images by the teachers that did not see them.

        Args:
            rows: Which training images these are, (B,).
            images: As training shows them: raw pixels, (B, C, H, W).
            masks: One for each image, (B, 1, L).

        Returns:
            Raw pixels, (B, C, H, W); only the hidden patches have a meaning.
        """
        total = torch.zeros(images.shape, device=images.device)
        with torch.no_grad():
            for model, seen in zip(self.models, self.seen, strict=True):
                unseen = torch.from_numpy(~seen[rows]).to(images.device)
                if unseen.any():
                    total[unseen] += model.pictures(images[unseen], masks[unseen])[:, 0]
        return total / (len(self.models) / 2)


def train_teachers(run: TrainingRun, pairs: int) -> Teachers:
    """Pre-train teachers on halves of a run's images, each for as many steps as the run; the store keeps them."""
    count, context = len(run.images), replace(run.context, tokenizer=None, validation=None)
    seen = halves(count, pairs, np.random.default_rng(derived_seed(run.seed, "halves")))
    checkpoints = [
        pretrained(
            run.images.take(np.flatnonzero(half)),
            run.model.spec,
            as_long(run.recipe.undefended, count, int(half.sum())),
            derived_seed(run.seed, "teacher", number),
            replace(context, description=f"{context.description}, teacher {number + 1} of {len(seen)}"),
        )
        for number, half in enumerate(seen)
    ]
    device = accelerator(context.compute).device
    return Teachers([native.load(checkpoint).to(device) for checkpoint in checkpoints], seen)


class _Hooks(TrainerHooks):
    def __init__(self, pairs: int) -> None:
        self._pairs = pairs

    def start(self, run: TrainingRun) -> None:
        super().start(run)
        self._teachers = train_teachers(run, self._pairs)

    def loss(self, batch: Batch, default: BatchFunction) -> Tensor:
        model, masks = self.run.model, batch.masks
        pictures = self._teachers.pictures(batch.rows, batch.images, masks)
        return model.errors(model.reconstruct(batch.images, masks), pictures, masks).mean()
