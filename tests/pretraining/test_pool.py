import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mimia.config.image_settings import SplitSettings
from mimia.config.recipes import Recipe
from mimia.data.channel_statistics import pixel_statistics
from mimia.data.drawing import SplitRequirements, split_for_audit
from mimia.data.file_metadata import FACTS
from mimia.data.imageset import ImageSet
from mimia.models.checkpoints import native
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.pool import pretrained, pretrained_shadows
from mimia.pretraining.specs import spec_for
from mimia.pretraining.start import open_start
from mimia.pretraining.trainer import Trainer
from mimia.runtime.arrays import Pixels, content_id, fingerprint_of_ids
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store

CountedSteps = Callable[..., AbstractContextManager[list[int]]]
COMPUTE = ComputeSettings(device="cpu", threads=1)
OTHER_VALUES: dict[str, Any] = {  # of each key of a recipe that the weights depend on
    "size": "micro",
    "patch_size": 4,
    "mask_ratio": 0.5,
    "patch_normalised": True,
    "epochs": 2,
    "batch_size": 5,
    "base_learning_rate": 1e-3,
    "warmup": 0.5,
    "weight_decay": 0.1,
    "betas": (0.8, 0.9),
    "augmentation": "crop",
    "gradient_clip": 1e-3,
    "family": "simmim",
    "defences": {"cross_fitting": {}},
}
OF_OTHERS: list[dict[str, Any]] = [  # settings that only go with others
    {"augmentation": "crop", "crop_scale": (0.5, 1.0)},
    {"epochs": 3, "stop_epoch": 2},
    {"defences": {"cross_fitting": {"pairs": 2}}},
    {"defences": {"early_stopping": {"patience": 1}}},
    {"defences": {"early_stopping": {"patience": 2}}},
    {"defences": {"deduplicate": True}},
    {"defences": {"ema": {}}},
    {"defences": {"ema": {"decay": 0.5}}},
    {"family": "simmim", "cell": 2},
    {"defences": {"dp_sgd": {"epsilon": 8.0}}},
    {"defences": {"dp_sgd": {"epsilon": 8.0, "delta": 1e-6}}},
    {"defences": {"dp_sgd": {"epsilon": 8.0, "clip": 0.1}}},
    {"preset": "beit-nano"},
    {"preset": "beit-nano", "vocabulary": 32},
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def make_recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate({"preset": "mae-nano", "epochs": 1, "batch_size": 10} | changes)


def pretrain(images: ImageSet, store: Store, recipe: Recipe, seed: int = 0, compute: ComputeSettings = COMPUTE) -> Path:
    context = TrainingContext(compute, store, validation=images)
    return pretrained(images, spec_for(images, recipe), recipe, seed, context)


def image_set(pixels: Pixels) -> ImageSet:
    ids = np.array([content_id(image) for image in pixels])
    return ImageSet(pixels, ids, ids, np.zeros((len(pixels), len(FACTS))))


def test_same_settings_never_train_twice(counted_steps: CountedSteps, digits: ImageSet, store: Store) -> None:
    images = digits.take(np.arange(20))
    with counted_steps() as count:
        first = pretrain(images, store, make_recipe())
    assert count == [2]
    other_name = make_recipe().model_dump() | {"preset": "mae-micro"}
    with counted_steps() as count:
        again = pretrain(images, store, make_recipe())
        under_another_name = pretrain(images, store, Recipe.model_validate(other_name))
    assert count == [0]
    assert first == again == under_another_name


def test_training_that_was_left_early_goes_on_to_the_weights_of_an_undisturbed_one(
    counted_steps: CountedSteps, digits: ImageSet, tmp_path: Path
) -> None:
    images = digits.take(np.arange(20))
    recipes = [make_recipe(epochs=6, stop_epoch=epoch) for epoch in (2, 3)] + [make_recipe(epochs=6)]
    along_the_way, apart = Store(tmp_path / "along"), [Store(tmp_path / f"apart {number}") for number in range(3)]
    with counted_steps() as count:
        found = [pretrain(images, along_the_way, recipe) for recipe in recipes]
    assert count == [6 * 2]
    expected = [pretrain(images, store, recipe) for store, recipe in zip(apart, recipes, strict=True)]
    for one, other, epochs in zip(found, expected, (2, 3, 6), strict=True):
        weights, straight = native.load(one).state_dict(), native.load(other).state_dict()
        assert all(torch.equal(value, straight[name]) for name, value in weights.items())
        trained, straight_training = native.load_training(one), native.load_training(other)
        assert trained is not None
        assert straight_training is not None
        assert trained.losses == straight_training.losses
        assert len(trained.losses) == epochs
    assert [(path / "training.pt").exists() for path in found] == [True, True, False]


def test_training_is_not_left_after_its_end() -> None:
    with pytest.raises(ValidationError, match="stop_epoch is 7, and there are 6 epochs: lower it"):
        make_recipe(epochs=6, stop_epoch=7)


def test_another_setting_never_reuses_a_model(digits: ImageSet, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings have other weights by `test_settings_of_the_training_reach_it`; here they have other names."""
    monkeypatch.setattr(Trainer, "fit_and_save", lambda _, model, images, seed, work: native.save(work, model))
    covered = OTHER_VALUES.keys() | {key for changes in OF_OTHERS for key in changes} | {"preset", "seed", "start_from"}
    assert covered == set(Recipe.model_fields)
    images = digits.take(np.arange(20))
    paths = [
        pretrain(images, store, make_recipe()),
        *(pretrain(images, store, make_recipe(**{key: value})) for key, value in OTHER_VALUES.items()),
        *(pretrain(images, store, make_recipe(**changes)) for changes in OF_OTHERS),
        pretrain(images, store, make_recipe(), seed=1),
        pretrain(images, store, make_recipe(), compute=ComputeSettings(device="cpu", threads=1, precision="bf16")),
        pretrain(digits.take(np.arange(1, 21)), store, make_recipe()),
        pretrain(digits.take(np.arange(20)[::-1]), store, make_recipe()),
    ]
    assert len(set(paths)) == len(paths)


def test_training_that_starts_from_a_checkpoint_has_its_weights_and_is_named_by_them(
    digits: ImageSet, store: Store, tmp_path: Path
) -> None:
    images, recipe = digits.take(np.arange(20)), make_recipe(epochs=1, base_learning_rate=1e-9)
    context = TrainingContext(COMPUTE, store)
    first, second = (pretrained(images, spec_for(images, recipe), recipe, seed, context) for seed in (1, 2))
    started = {}
    for base in (first, second):
        shutil.copytree(base, tmp_path / base.name)
        given = recipe.model_copy(update={"start_from": str(tmp_path / base.name)})
        begun = open_start(given, images, context)
        started[base] = pretrained(images, spec_for(images, given, begun.start), given, 3, begun)
        weights = native.load(started[base]).state_dict()
        for name, value in native.load(base).state_dict().items():  # the learning rate moves next to nothing
            torch.testing.assert_close(weights[name], value, atol=1e-6, rtol=1e-5)
    assert len({first, second, *started.values()}) == 4
    wider = replace(images, pixels=np.repeat(images.pixels, 3, axis=1))
    given = recipe.model_copy(update={"start_from": str(first)})
    with pytest.raises(
        MimiaError, match=r"No training can start from .*: it takes images of 1×8×8, and these are of 3"
    ):
        open_start(given, wider, context)


def test_statistics_of_the_pixels_are_part_of_the_name(digits: ImageSet, store: Store) -> None:
    images, recipe = digits.take(np.arange(20)), make_recipe()
    spec = spec_for(images, recipe)
    other = spec.model_copy(update={"mean": (0.5,)})
    paths = {pretrained(images, each, recipe, 0, TrainingContext(COMPUTE, store)) for each in (spec, other)}
    assert len(paths) == 2


def test_model_in_the_store_is_a_checkpoint_and_nothing_else(digits: ImageSet, store: Store) -> None:
    images = digits.take(np.arange(20))
    path = pretrain(images, store, make_recipe(), seed=7)
    assert {file.name for file in path.iterdir()} == {
        "artifact.json",
        "config.json",
        "model.safetensors",
        "training.json",
    }
    training = native.load_training(path)
    assert training is not None
    assert (training.seed, training.images, training.images_fingerprint) == (7, 20, images.fingerprint)
    assert native.load(path).spec == spec_for(images, make_recipe())


def test_shadows_are_trained_on_their_own_halves_from_seeds_of_their_own(digits: ImageSet, store: Store) -> None:
    images = digits.take(np.arange(90))
    split = split_for_audit(
        images, {"source": np.arange(90)}, SplitSettings(shadow_size=15), SplitRequirements(shadows=4)
    )
    recipe = make_recipe()
    target_rows = split.evaluated.members.rows
    target = pretrain(images.take(target_rows), store, recipe, recipe.seed)
    shadows = pretrained_shadows(images, split, spec_for(images, recipe), recipe, TrainingContext(COMPUTE, store))
    trainings = [native.load_training(path) for path in (target, *shadows)]
    halves = [training.images_fingerprint for training in trainings[1:] if training]
    assert halves == [fingerprint_of_ids(split.shadow_pool.ids[seen]) for seen in split.shadow_pool.membership]
    assert len({training.seed for training in trainings if training}) == 5
    assert not set(split.shadow_pool.ids) & set(images.ids[target_rows])


@pytest.mark.parametrize("channels", [1, 3])
def test_pixel_statistics_are_those_of_numpy(channels: int) -> None:
    generator = np.random.default_rng(0)
    highest = np.array([256, 100, 10])[:channels, None, None]
    pixels = generator.integers(0, highest, (5000, channels, 2, 2)).astype(np.uint8)
    mean, std = pixel_statistics(image_set(pixels))
    np.testing.assert_allclose(mean, (pixels / 255).mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, (pixels / 255).std(axis=(0, 2, 3)), rtol=1e-12)


def test_images_of_one_colour_are_normalised_to_zero() -> None:
    images = image_set(np.full((2, 1, 8, 8), 51, np.uint8))
    spec = spec_for(images, make_recipe())
    assert (spec.mean, spec.std) == ((0.2,), (1.0,))
    torch.testing.assert_close(spec.normalise(torch.from_numpy(images.pixels)), torch.zeros(2, 1, 8, 8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 3}, "patches of 3 px do not tile images of 8 px: choose a patch size that divides 8"),
        ({"patch_size": 8}, "a mask ratio of 0.75 on 1 patches leaves none visible or none masked: choose another "),
        ({"mask_ratio": 0.99}, "a mask ratio of 0.99 on 16 patches leaves none visible or none masked: choose "),
    ],
)
def test_recipe_that_does_not_fit_the_images_says_why(digits: ImageSet, changes: Any, message: str) -> None:
    with pytest.raises(MimiaError) as caught:
        spec_for(digits, make_recipe(**changes))
    assert str(caught.value).startswith(f"The recipe does not fit the images: {message}")
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
