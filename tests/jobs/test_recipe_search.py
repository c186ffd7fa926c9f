"""A recipe that nobody states is found by what shadow models answer about images that no model was trained on."""

from pathlib import Path

import numpy as np

from mimia.config.recipes import Recipe
from mimia.data.imageset import ImageSet
from mimia.models.checkpoints import native
from mimia.models.relative_error import reconstruction_errors
from mimia.pipeline.recipe_search import matching_recipe
from mimia.pipeline.shadow_training import ShadowTraining
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.pool import pretrained
from mimia.pretraining.specs import spec_for
from mimia.runtime.arrays import Floats
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.store import Store

COMPUTE = ComputeSettings(device="cpu", threads=1)
DEFAULT = Recipe.model_validate({"preset": "mae-nano", "batch_size": 50})
TRUTH = {"epochs": 150, "base_learning_rate": 2e-3}


def log_errors(directory: Path, images: ImageSet) -> Floats:
    """Return the logarithm of each image's error, under other masks than those of the search."""
    errors = [reconstruction_errors(native.load(directory), images, COMPUTE, draw=draw).own for draw in range(8, 16)]
    logarithms: Floats = np.log(np.mean(errors, axis=0))
    return logarithms


def test_recipe_that_is_found_imitates_the_target_as_well_as_its_true_one(tmp_path: Path, digits: ImageSet) -> None:
    rows = np.random.default_rng(0).permutation(len(digits))
    members, images, unseen, others = (digits.take(each) for each in np.split(rows[:1100], [50, 100, 600]))
    spec = spec_for(images, DEFAULT)
    context = TrainingContext(COMPUTE, Store(tmp_path / "store"))
    true = DEFAULT.model_copy(update=TRUTH)
    target = pretrained(members, spec, true, 7, context)
    unstated = {"epochs", "base_learning_rate", "augmentation"}
    found = matching_recipe(ShadowTraining(DEFAULT, context), unstated, images, unseen, spec, target)
    assert {"epochs"} <= found.chosen.keys() <= unstated
    assert found.recipe == DEFAULT.model_copy(update=dict(found.chosen))
    of_target = log_errors(target, others)
    deviations = [
        float((log_errors(pretrained(images, spec, recipe, 3, context), others) - of_target).std())
        for recipe in (found.recipe, true, DEFAULT.model_copy(update={"epochs": 400}))
    ]
    assert deviations[0] < 1.15 * deviations[1] < 0.8 * deviations[2]
