"""Deduplication: a model sees a picture no more often than the others."""

import numpy as np

from mimia.config.defences import Defence
from mimia.data.imageset import ImageSet
from mimia.data.near_duplicates import repeated
from mimia.pretraining.hooks import TrainerHooks


class Deduplicate(Defence):
    """Train on a single image of those that show the same picture."""

    def hooks(self) -> TrainerHooks:
        """Return new hooks for one training."""
        return _Hooks()


class _Hooks(TrainerHooks):
    def select_images(self, images: ImageSet) -> ImageSet:
        return images.take(np.setdiff1d(np.arange(len(images)), repeated(images.pixels)))
