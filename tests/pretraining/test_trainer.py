import multiprocessing
import runpy
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mimia.config.recipes import Recipe
from mimia.data.imageset import ImageSet
from mimia.models.base import MaskedImageModel
from mimia.models.checkpoints.native import Training
from mimia.pretraining import steps as training_steps
from mimia.pretraining import trainer as loop
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.pool import untrained
from mimia.pretraining.specs import spec_for
from mimia.pretraining.trainer import Trainer
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store

CountedSteps = Callable[..., AbstractContextManager[list[int]]]
Run = Callable[..., tuple[MaskedImageModel, Training]]
COMPUTE = ComputeSettings(device="cpu", threads=1)  # the number of threads decides over the last bits
STEPS = 20  # of the recipe below on 64 images: 5 epochs of 4 steps
PRESETS = ("mae-nano", "simmim-nano", "swin-nano", "beit-nano")

# Trains and kills itself after the weights of a step have changed, and before anything else has.
KILLED = """
import os
import signal
from pathlib import Path

from torch.optim.optimizer import register_optimizer_step_post_hook

from mimia.runtime.compute import ComputeSettings
from mimia.config.recipes import Recipe
from mimia.data.loading import load_sides
from mimia.pretraining import trainer as loop
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.pool import untrained
from mimia.pretraining.specs import spec_for
from mimia.runtime.store import Store

steps = 0


def kill(*_):
    global steps
    steps += 1
    if steps == 11:
        os.kill(os.getpid(), signal.SIGKILL)


register_optimizer_step_post_hook(kill)
loop._SAVE_EVERY = -1.0  # after every step
images = load_sides({"source": "digits"}, Store(store)).images.take(range(64))
recipe = Recipe.model_validate_json(recipe)
model = untrained(images, spec_for(images, recipe), recipe, 3)
context = TrainingContext(ComputeSettings(device="cpu", threads=1), Store(store))
loop.Trainer(recipe, context).fit(model, images, 3, Path(work))
"""


def make_recipe(**changes: Any) -> Recipe:
    preset = {"preset": "mae-nano", "epochs": 5, "batch_size": 16, "augmentation": "crop"}
    return Recipe.model_validate(preset | changes)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def digits(digits: ImageSet) -> ImageSet:
    return digits.take(np.arange(64))


@pytest.fixture
def run(digits: ImageSet, tmp_path: Path) -> Run:
    def run(
        name: str, seed: int = 3, compute: ComputeSettings = COMPUTE, **changes: Any
    ) -> tuple[MaskedImageModel, Training]:
        recipe = make_recipe(**changes)
        (tmp_path / name).mkdir(exist_ok=True)
        model = untrained(digits, spec_for(digits, recipe), recipe, seed)
        context = TrainingContext(compute, Store(tmp_path / "store"))
        return model, Trainer(recipe, context).fit(model, digits, seed, tmp_path / name)

    return run


def assert_same(first: tuple[MaskedImageModel, Training], second: tuple[MaskedImageModel, Training]) -> None:
    weights, others = first[0].state_dict(), second[0].state_dict()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert first[1].losses == second[1].losses


def differ(first: MaskedImageModel, second: MaskedImageModel) -> bool:
    others = second.state_dict()
    return any(not torch.equal(value, others[name]) for name, value in first.state_dict().items())


def test_training_that_was_killed_goes_on_to_the_same_weights_and_losses(
    counted_steps: CountedSteps, run: Run, store: Path, tmp_path: Path
) -> None:
    undisturbed = run("undisturbed")
    (tmp_path / "killed").mkdir()
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    recipe = make_recipe().model_dump_json()
    names = {"store": str(store), "work": str(tmp_path / "killed"), "recipe": recipe}
    process = multiprocessing.get_context("spawn").Process(target=runpy.run_path, args=(str(script), names))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    with counted_steps() as count:
        resumed = run("killed")
    assert count == [STEPS - 10]
    assert_same(resumed, undisturbed)


@pytest.mark.parametrize(
    ("preset", "save_every"),
    [*((preset, -1.0) for preset in PRESETS), ("mae-nano", 20.0)],
)
def test_training_that_was_interrupted_goes_on_to_the_same_weights_and_losses(
    counted_steps: CountedSteps, run: Run, monkeypatch: pytest.MonkeyPatch, save_every: float, preset: str
) -> None:
    undisturbed = run("undisturbed", preset=preset)
    monkeypatch.setattr(loop, "_SAVE_EVERY", save_every)
    for step in (6, 3):
        with counted_steps(interrupt_at=step), pytest.raises(KeyboardInterrupt):
            run("interrupted", preset=preset)
    torch.manual_seed(save_every > 0)  # nothing may follow from the global state
    assert_same(run("interrupted", preset=preset), undisturbed)


@pytest.mark.parametrize("augmentation", ["none", "flip", "crop"])
def test_training_on_digits_lowers_the_loss(run: Run, augmentation: str) -> None:
    model, training = run("work", augmentation=augmentation, epochs=25)
    assert len(training.losses) == 25
    assert np.mean(training.losses[-5:]) < 0.8 * training.losses[0]
    assert not model.training


@pytest.mark.parametrize("preset", PRESETS[1:])
def test_training_of_each_family_lowers_its_loss(run: Run, preset: str) -> None:
    model, training = run("work", preset=preset, epochs=20, augmentation="none", base_learning_rate=3e-2)
    assert np.mean(training.losses[-5:]) < 0.9 * training.losses[0]
    assert not model.training


@pytest.mark.parametrize("preset", PRESETS)
def test_training_in_half_precision_stays_close_to_that_in_full(run: Run, preset: str) -> None:
    full, losses = run("full", preset=preset, epochs=2)
    half, others = run("half", preset=preset, epochs=2, compute=COMPUTE.model_copy(update={"precision": "bf16"}))
    assert others.losses == pytest.approx(losses.losses, rel=0.02)
    assert differ(half, full)
    assert {value.dtype for value in half.parameters()} == {torch.float32}


def test_settings_of_the_training_reach_it(run: Run) -> None:
    torch.manual_seed(0)
    model, training = run("first", epochs=2)
    torch.manual_seed(1)  # nothing may follow from the global state
    assert_same(run("again", epochs=2), (model, training))
    changes: list[dict[str, Any]] = [
        {"seed": 4},
        {"augmentation": "none"},
        {"batch_size": 32},
        {"base_learning_rate": 1e-3},
        {"weight_decay": 0.5},
        {"betas": (0.8, 0.9)},
        {"warmup": 0.5},
        {"mask_ratio": 0.5},
        {"patch_normalised": True},
        {"crop_scale": (0.5, 1.0)},
        {"gradient_clip": 1e-3},
        {"defences": {"ema": {}}},
    ]
    for number, change in enumerate(changes):
        assert differ(run(f"{number}", epochs=2, **change)[0], model), change


def test_training_says_how_it_came_about(run: Run, digits: ImageSet) -> None:
    _, training = run("work", epochs=1)
    assert (training.seed, training.images, training.images_fingerprint) == (3, 64, digits.fingerprint)
    assert training.recipe == make_recipe(epochs=1)
    assert training.hardware["threads"] == 1
    assert training.seconds > 0


@pytest.mark.parametrize(("batch_size", "steps", "images"), [(16, 4, 16), (20, 4, 16), (63, 2, 32), (1000, 1, 64)])
def test_epoch_is_cut_into_equal_batches_of_the_size_at_most(
    counted_steps: CountedSteps,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    batch_size: int,
    steps: int,
    images: int,
) -> None:
    seen: list[int] = []

    def augment(batch: Tensor, *_: object) -> Tensor:
        seen.append(len(batch))
        return batch

    monkeypatch.setattr(training_steps, "augment", augment)
    with counted_steps() as count:
        run("work", batch_size=batch_size, epochs=2)
    assert count == [2 * steps]
    assert seen == [images] * 2 * steps


def test_images_that_do_not_fit_on_the_device_train_the_same_model(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run("whole")
    monkeypatch.setattr(loop, "_ON_DEVICE", 0)
    assert_same(run("in parts"), whole)


def test_training_that_diverges_says_so(run: Run) -> None:
    with pytest.raises(
        MimiaError, match=r"diverged, its loss became .* in epoch \d+: lower recipe\.base_learning_rate\."
    ):
        run("work", base_learning_rate=1e30)
