from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from mimia.config.recipes import Recipe
from mimia.data.imageset import ImageSet
from mimia.models.base import MaskedImageModel
from mimia.models.checkpoints.native import Training
from mimia.pretraining import trainer as loop
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.pool import untrained
from mimia.pretraining.specs import spec_for
from mimia.pretraining.trainer import Trainer
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.errors import MimiaError
from mimia.runtime.seeds import derived_seed
from mimia.runtime.store import Store

CountedSteps = Callable[..., AbstractContextManager[list[int]]]
COMPUTE = ComputeSettings(device="cpu", threads=1)
EPOCHS, PATIENCE = 100, 5
STOPPED = {"early_stopping": {"patience": PATIENCE}}
STEPS = 2  # of an epoch


@pytest.fixture(scope="module")
def digits(digits: ImageSet) -> ImageSet:
    return digits.take(np.random.default_rng(0).permutation(len(digits))[:220])


def make_recipe(**changes: Any) -> Recipe:
    """Return a recipe that learns twenty images by heart, and then gets worse at others."""
    preset = {"preset": "mae-nano", "epochs": EPOCHS, "batch_size": 10, "base_learning_rate": 0.06}
    return Recipe.model_validate(preset | changes)


def run(digits: ImageSet, work: Path, recipe: Recipe) -> tuple[MaskedImageModel, Training]:
    images, validation = digits.take(np.arange(20)), digits.take(np.arange(20, 220))
    model = untrained(images, spec_for(images, recipe), recipe, 3)
    work.mkdir(exist_ok=True)
    context = TrainingContext(COMPUTE, Store(work), validation=validation)
    return model, Trainer(recipe, context).fit(model, images, 3, work)


def loss_of(model: MaskedImageModel, images: ImageSet) -> float:
    masks = torch.from_numpy(model.spec.scoring_masks(images.ids, 1, derived_seed(3, "validation")))
    with torch.inference_mode():
        return float(model.distances(torch.from_numpy(np.array(images.pixels)), masks).mean())


def test_training_ends_after_epochs_without_a_better_one_and_keeps_the_best(digits: ImageSet, tmp_path: Path) -> None:
    model, training = run(digits, tmp_path / "stopped", make_recipe(defences=STOPPED))
    ended, kept = len(training.losses), training.kept_epoch
    assert kept is not None
    assert ended == kept + PATIENCE < EPOCHS

    # Each epoch looked at by a training that is left there: the weights of the best are those that were kept.
    losses: list[float] = []
    weights: list[dict[str, Tensor]] = []
    for epoch in range(1, ended + 1):
        other, _ = run(digits, tmp_path / "along", make_recipe(stop_epoch=epoch))
        losses.append(loss_of(other, digits.take(np.arange(20, 220))))
        weights.append({name: value.clone() for name, value in other.state_dict().items()})
    assert int(np.argmin(losses)) + 1 == kept
    assert all(torch.equal(value, weights[kept - 1][name]) for name, value in model.state_dict().items())


def test_training_that_was_interrupted_stops_at_the_same_epoch(
    counted_steps: CountedSteps, digits: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(defences=STOPPED)
    model, training = run(digits, tmp_path / "straight", recipe)
    monkeypatch.setattr(loop, "_SAVE_EVERY", -1.0)
    assert training.kept_epoch is not None
    with pytest.raises(KeyboardInterrupt), counted_steps(interrupt_at=STEPS * (training.kept_epoch + 3)):
        run(digits, tmp_path / "interrupted", recipe)
    again, resumed = run(digits, tmp_path / "interrupted", recipe)
    assert (resumed.kept_epoch, resumed.losses) == (training.kept_epoch, training.losses)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_validation_images_are_asked_for_and_no_other_end(digits: ImageSet, tmp_path: Path) -> None:
    recipe = make_recipe(defences=STOPPED)
    model = untrained(digits, spec_for(digits, recipe), recipe, 3)
    with pytest.raises(MimiaError, match="early_stopping needs validation images"):
        Trainer(recipe, TrainingContext(COMPUTE, Store(tmp_path))).fit(model, digits, 3, tmp_path)
    with pytest.raises(ValidationError, match="stop_epoch and early_stopping both end a training"):
        make_recipe(stop_epoch=1, defences=STOPPED)
