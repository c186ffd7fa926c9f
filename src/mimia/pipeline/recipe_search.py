"""The training of shadow models for a target whose training nobody states: that by which they answer as it does."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mimia.data.imageset import ImageSet
from mimia.models.base import MaskedImageModel, ModelSpec
from mimia.models.checkpoints import native
from mimia.models.relative_error import reconstruction_errors
from mimia.pipeline.shadow_training import ShadowTraining
from mimia.pretraining.pool import pretrained
from mimia.runtime.arrays import Floats
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.progress import say
from mimia.runtime.rehearsal import Rehearsal
from mimia.runtime.seeds import derived_seed

_FIRST_EPOCHS, _LAST_EPOCHS = 50, 3200
_BETTER = 0.97  # proportion of a spread that another one has to be below
_COMPARED = 512  # images at most
_MASKS = 4
_SMALLEST = 1e-12


def matching_recipe(
    training: ShadowTraining,
    unstated: Collection[str],
    images: ImageSet,
    unseen: ImageSet,
    spec: ModelSpec,
    target: Path,
) -> ShadowTraining:
    """Return trainings after which a shadow answers about unseen images as the target does.

    Attacks compare the logarithms of two errors. The less this difference varies over images that neither model saw,
    the more members stand out from it; so the recipe with its smallest standard deviation is taken. First one shadow is
    trained for 50, 100, 200 … epochs, until it gets worse: each time from the start, since the learning rate depends on
    the end. Then other learning rates are tried, and training with crops or without.

    Args:
        training: With a recipe whose epochs nobody stated.
        unstated: Its keys that nobody stated.
        images: Training images of the shadow.
        unseen: Images that neither the target nor the shadow was trained on, and that are not evaluated.
        spec: Images, masking and target space.
        target: Checkpoint directory of the target, with its own decoder.
    """
    if isinstance(training.context.store, Rehearsal):
        note = (
            "the file does not say how the target was trained: shadows of several recipes find that out, and times "
            f"here are of a single one, of {_FIRST_EPOCHS} epochs"
        )
        recipe = training.recipe.model_copy(update={"epochs": _FIRST_EPOCHS})
        return replace(training, recipe=recipe, notes=(*training.notes, note))
    say("The target's file does not say how it was trained: shadow models find that out.")
    unseen = unseen.take(np.arange(min(len(unseen), _COMPARED)))
    search = _Search(training, images, unseen, spec, _log_errors(native.load(target), unseen, training.context.compute))
    found = search.best(unstated)
    tried = "; ".join(f"{name}: {deviation:.3f}" for name, deviation in search.tried.items())
    note = (
        f"the file does not say how the target was trained: shadows are trained for {_in_words(found)}, after which "
        "they answer about unseen images most like it (standard deviation of the difference of log-errors, after "
        f"{tried})"
    )
    recipe = training.recipe.model_copy(update=found)
    return replace(training, recipe=recipe, chosen={**training.chosen, **found}, notes=(*training.notes, note))


@dataclass
class _Search:
    """Shadows of several recipes, compared with the target by the images that none of them saw.

    Attributes:
        training: With the recipe that the search starts from.
        images: Training images of the shadows.
        unseen: Images on which they are compared with the target.
        spec: Images, masking and target space.
        wanted: Logarithms of the target's errors on the unseen images.
        tried: Standard deviation for each recipe so far, by its changed keys in words.
    """

    training: ShadowTraining
    images: ImageSet
    unseen: ImageSet
    spec: ModelSpec
    wanted: Floats
    tried: dict[str, float] = field(default_factory=dict)

    def best(self, unstated: Collection[str]) -> dict[str, Any]:
        """Return the keys of the best recipe, one key after the other."""
        found: dict[str, Any] = {"epochs": self._epochs()}
        recipe = self.training.recipe
        if "base_learning_rate" in unstated:
            for factor in (0.5, 2.0):
                other = found | {"base_learning_rate": factor * recipe.base_learning_rate}
                while self._is_better(other, found):
                    found, other = other, other | {"base_learning_rate": factor * other["base_learning_rate"]}
                if "base_learning_rate" in found:
                    break
        if "augmentation" in unstated:
            other = found | {"augmentation": "crop" if recipe.augmentation == "none" else "none"}
            found = other if self._is_better(other, found) else found
        return found

    def _epochs(self) -> int:
        deviations: dict[int, float] = {}
        epochs = _FIRST_EPOCHS
        while epochs <= _LAST_EPOCHS:
            deviations[epochs] = self._deviation({"epochs": epochs})
            if deviations[epochs] > min(deviations.values()):
                break
            epochs *= 2
        return nearest({epochs: math.log(max(each, _SMALLEST)) for epochs, each in deviations.items()})

    def _is_better(self, other: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
        return self._deviation(other) < _BETTER * self._deviation(found)

    def _deviation(self, changes: Mapping[str, Any]) -> float:
        """Train a shadow, and return the standard deviation of its log-errors less the target's."""
        name = _in_words(changes)
        if name not in self.tried:
            recipe = self.training.recipe.model_copy(update=changes)
            context = replace(self.training.context, description=f"shadow of {name}")
            directory = pretrained(self.images, self.spec, recipe, derived_seed(recipe.seed, "shadow", 0), context)
            errors = _log_errors(native.load(directory), self.unseen, context.compute)
            self.tried[name] = float((errors - self.wanted).std())
        return self.tried[name]


def nearest(distances: Mapping[int, float]) -> int:
    """Return the number of epochs with the smallest distance, between those tried, each twice the one before.

    A parabola through the best and its neighbours, over the logarithm of the epochs, says where it is smallest.

    >>> nearest({50: 9.0, 100: 1.0, 200: 1.0, 400: 9.0}), nearest({50: 1.0, 100: 3.0})
    (140, 50)
    """
    tried = list(distances)
    place = min(range(len(tried)), key=lambda each: distances[tried[each]])
    if not 0 < place < len(tried) - 1:
        return tried[place]
    before, at, after = (distances[tried[each]] for each in (place - 1, place, place + 1))
    shift = 0.5 * (before - after) / (before - 2 * at + after)
    return _two_digits(tried[place] * 2.0**shift)


def _two_digits(number: float) -> int:
    unit = 10 ** max(0, len(str(int(number))) - 2)
    return int(round(number / unit) * unit)


def _log_errors(model: MaskedImageModel, images: ImageSet, compute: ComputeSettings) -> Floats:
    """Return the logarithm of each image's mean error under a few masks."""
    errors = [reconstruction_errors(model, images, compute, draw=draw).own for draw in range(_MASKS)]
    logarithms: Floats = np.log(np.maximum(np.mean(errors, axis=0), _SMALLEST))
    return logarithms


def _in_words(changes: Mapping[str, Any]) -> str:
    """Write changed keys of a recipe.

    >>> _in_words({"epochs": 200, "base_learning_rate": 0.004, "augmentation": "crop"})
    '200 epochs, base learning rate 0.004, augmentation crop'
    """
    words = [
        f"{name.replace('_', ' ')} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in changes.items()
        if name != "epochs"
    ]
    return ", ".join([f"{changes['epochs']} epochs", *words])
