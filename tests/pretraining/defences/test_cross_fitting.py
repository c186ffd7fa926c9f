from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mimia.config.recipes import Recipe
from mimia.data.imageset import ImageSet
from mimia.models.checkpoints import native
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.defences import cross_fitting
from mimia.pretraining.defences.cross_fitting import Teachers, halves
from mimia.pretraining.pool import pretrained, untrained
from mimia.pretraining.specs import spec_for
from mimia.pretraining.trainer import Trainer
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.store import Store

COMPUTE = ComputeSettings(device="cpu", threads=1)


def make_recipe(pairs: int = 1, **changes: Any) -> Recipe:
    changes |= {"defences": {"cross_fitting": {"pairs": pairs}}}
    return Recipe.model_validate({"preset": "mae-nano", "epochs": 2, "batch_size": 10, **changes})


@pytest.mark.parametrize("preset", ["mae-nano", "simmim-nano", "swin-nano"])
def test_pictures_are_the_mean_of_the_teachers_that_did_not_see_an_image(digits: ImageSet, preset: str) -> None:
    recipe = Recipe.model_validate({"preset": preset})
    images = digits.take(np.arange(12))
    models = [untrained(images, spec_for(images, recipe), recipe, seed) for seed in range(4)]
    seen = halves(12, 2, np.random.default_rng(0))
    rows = np.array([7, 2, 11])
    shown = torch.from_numpy(images.pixels[rows])
    masks = models[0].spec.training_masks(3, torch.Generator().manual_seed(0))
    found = Teachers(models, seen).pictures(rows, shown, masks)
    for place, row in enumerate(rows):
        one = slice(place, place + 1)
        others = [
            model.pictures(shown[one], masks[one])[0, 0]
            for model, saw in zip(models, seen, strict=True)
            if not saw[row]
        ]
        assert len(others) == 2
        torch.testing.assert_close(found[place], torch.stack(others).mean(dim=0))


def test_teachers_are_trained_on_complementary_halves(digits: ImageSet, tmp_path: Path) -> None:
    images, recipe = digits.take(np.arange(20)), make_recipe(pairs=2)
    pretrained(images, spec_for(images, recipe), recipe, 0, TrainingContext(COMPUTE, Store(tmp_path)))
    trainings = [native.load_training(record.parent) for record in (tmp_path / "models").glob("*/artifact.json")]
    sizes = sorted(each.images for each in trainings if each is not None)
    assert sizes == [10, 10, 10, 10, 20]
    assert len({each.images_fingerprint for each in trainings if each is not None}) == 5


def test_model_learns_what_its_teachers_say_and_not_the_image(
    digits: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Teachers that show the mean colour whatever they are asked make a model that shows it."""
    images, recipe = digits.take(np.arange(20)), make_recipe(epochs=150, batch_size=20, base_learning_rate=0.016)
    model = untrained(images, spec_for(images, recipe), recipe, 0)
    teachers = [untrained(images, model.spec, recipe, seed) for seed in (1, 2)]
    for teacher in teachers:
        for name, value in teacher.named_parameters():
            if name.startswith("decoder_pred"):
                value.data.zero_()  # the mean colour, in data-set-normalised pixels
    seen = halves(20, 1, np.random.default_rng(0))
    monkeypatch.setattr(cross_fitting, "train_teachers", lambda *_: Teachers(teachers, seen))
    Trainer(recipe, TrainingContext(COMPUTE, Store(tmp_path))).fit(model, images, 0, tmp_path)
    masks = torch.from_numpy(model.spec.scoring_masks(images.ids, 1, 0))
    shown = torch.from_numpy(np.array(images.pixels))
    with torch.inference_mode():
        hidden = model.reconstruct(shown, masks)[masks]
        assert hidden.square().mean() < 0.01
        assert model.distances(shown, masks).mean() > 0.5


def test_beit_is_refused() -> None:
    with pytest.raises(ValidationError, match="cross_fitting needs predicted pixels, and beit predicts tokens"):
        Recipe.model_validate({"preset": "beit-nano", "defences": {"cross_fitting": {}}})
