"""What trainings share, and what one training consists of."""

import math
from dataclasses import dataclass
from pathlib import Path

from mimia.config.recipes import Recipe
from mimia.data.imageset import ImageSet
from mimia.models.base import Architecture, MaskedImageModel
from mimia.models.tokenizer import Tokenizer
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.store import Store


@dataclass(frozen=True)
class TrainingContext:
    """What the trainings of a run share.

    Attributes:
        compute: Device and precision; the precision is part of a model's name in the store, the device is not.
        store: Where models are kept.
        tokenizer: What a BEiT predicts the tokens of, such as another model's; None: made of its own images.
        validation: Images that no model learns from, for the defences that need some.
        description: For the progress bar.
        rate_setting: What the setting of the learning rate is called, for errors.
        architecture: Sizes of the models; None: those that the recipe names.
        start: Checkpoint directory of a model of this architecture with whose weights trainings begin; None: at random.
    """

    compute: ComputeSettings
    store: Store
    tokenizer: Tokenizer | None = None
    validation: ImageSet | None = None
    description: str = "pre-training"
    rate_setting: str = "recipe.base_learning_rate"
    architecture: Architecture | None = None
    start: Path | None = None


@dataclass(frozen=True)
class TrainingRun:
    """One training.

    Attributes:
        model: Trained in place; parameters that do not require a gradient stay as they are.
        images: Training images.
        recipe: How the model is trained.
        seed: Initial weights, order, masks and augmentation follow from it.
        context: What is shared with other trainings.
    """

    model: MaskedImageModel
    images: ImageSet
    recipe: Recipe
    seed: int
    context: TrainingContext

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which each image is seen once."""
        return steps_per_epoch(len(self.images), self.recipe)

    @property
    def batch_size(self) -> int:
        """Images of a step: all batches are equal, so fewer images are left out than an epoch has steps."""
        return len(self.images) // self.steps_per_epoch

    @property
    def steps(self) -> int:
        """Steps of all epochs, for which the learning rate is made."""
        return self.recipe.epochs * self.steps_per_epoch

    @property
    def last_step(self) -> int:
        """Steps after which the training is left."""
        return (self.recipe.stop_epoch or self.recipe.epochs) * self.steps_per_epoch


def steps_per_epoch(images: int, recipe: Recipe) -> int:
    """Return the number of steps in which a training sees each image once.

    >>> steps_per_epoch(250, Recipe.model_validate({"preset": "mae-micro", "batch_size": 100}))
    3
    """
    return math.ceil(images / recipe.batch_size)
