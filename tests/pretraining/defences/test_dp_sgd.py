"""DP-SGD against its definition: slow gradients, the statistics of its coins and noise, and exact values of ε."""

import csv
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from opacus.accountants import PRVAccountant
from pydantic import ValidationError
from scipy.stats import binom, chisquare, kstest, norm, pearsonr
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from typer.testing import CliRunner

from mimia.cli.app import app
from mimia.config.recipes import Recipe
from mimia.config.settings import DecoderSettings
from mimia.data.imageset import ImageSet
from mimia.models.base import MaskedImageModel
from mimia.models.checkpoints import native
from mimia.models.checkpoints.native import Privacy, Training
from mimia.models.mae import MAE
from mimia.pretraining import trainer as loop
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.decoders import fitted_decoder
from mimia.pretraining.defences.dp_sgd import DPSGD, calibrate, noisy_backward, poisson_sample
from mimia.pretraining.hooks import Batch
from mimia.pretraining.pool import untrained
from mimia.pretraining.specs import spec_for
from mimia.pretraining.trainer import Trainer
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store

CountedSteps = Callable[..., AbstractContextManager[list[int]]]
COMPUTE = ComputeSettings(device="cpu", threads=1)


def make_recipe(dp_sgd: Mapping[str, float] = {"epsilon": 2.0}, **changes: Any) -> Recipe:
    preset = {"preset": "mae-nano", "epochs": 2, "batch_size": 16, "defences": {"dp_sgd": dp_sgd}}
    return Recipe.model_validate(preset | changes)


def context_in(work: Path, **changes: Any) -> TrainingContext:
    return TrainingContext(COMPUTE.model_copy(update=changes), Store(work / "store"))


def make_privacy(clip: float, noise_multiplier: float) -> Privacy:
    return Privacy(epsilon=1, delta=1e-5, noise_multiplier=noise_multiplier, clip=clip, sample_rate=0.1, steps=1)


@pytest.fixture(scope="module")
def digits(digits: ImageSet) -> ImageSet:
    return digits.take(np.arange(64))


def asked(images: ImageSet, count: int, **changes: Any) -> tuple[MaskedImageModel, Tensor, Tensor]:
    """Return a model in training, images and a mask for each."""
    recipe = make_recipe(**changes)
    model = untrained(images, spec_for(images, recipe), recipe, 0).train()
    masks = model.spec.training_masks(count, torch.Generator().manual_seed(1))
    return model, torch.from_numpy(np.array(images.pixels[:count])), masks


def backward(model: MaskedImageModel, images: Tensor, masks: Tensor, privacy: Privacy, batch_size: int) -> Tensor:
    """Return the whole private gradient as one vector."""
    noisy_backward(
        model, Batch(np.arange(len(images)), images, masks, 0), privacy, batch_size, torch.Generator().manual_seed(5)
    )
    return torch.cat([value.grad.flatten() for value in model.parameters() if value.grad is not None])


def slow_gradients(model: MaskedImageModel, images: Tensor, masks: Tensor) -> list[Tensor]:
    """Return each image's gradient by the ordinary backward pass of a batch of one."""
    trained = [value for value in model.parameters() if value.requires_grad]
    found = []
    for row in range(len(images)):
        loss = model.loss(images[row : row + 1], masks[row : row + 1])
        gradients = torch.autograd.grad(loss, trained, materialize_grads=True)
        found.append(torch.cat([value.flatten() for value in gradients]).double())
    return found


@pytest.mark.parametrize("preset", ["mae-nano", "simmim-nano", "swin-nano"])
def test_gradient_without_noise_is_the_sum_of_the_clipped_gradients_of_batches_of_one(
    preset: str, digits: ImageSet
) -> None:
    model, pixels, masks = asked(digits, 9, preset=preset)
    slow = slow_gradients(model, pixels, masks)
    clip = float(np.median([float(gradient.norm()) for gradient in slow]))
    expected = sum(gradient * min(1, clip / float(gradient.norm())) for gradient in slow) / 20
    found = backward(model, pixels, masks, make_privacy(clip, 0), 20)
    assert isinstance(expected, Tensor)
    assert float((found - expected).norm()) < 1e-5 * float(expected.norm())


@pytest.mark.parametrize("count", [0, 5])
def test_noise_is_gaussian_of_the_size_of_multiplier_times_clip_over_the_expected_batch(
    count: int, digits: ImageSet
) -> None:
    model, pixels, masks = asked(digits, count)
    plain = backward(model, pixels, masks, make_privacy(0.5, 0), 20)
    noise = (backward(model, pixels, masks, make_privacy(0.5, 3), 20) - plain).numpy()
    assert len(noise) > 20_000
    assert kstest(noise, norm(scale=3 * 0.5 / 20).cdf).pvalue > 0.01
    assert (count == 0) == (float(plain.norm()) == 0)


def test_one_image_more_changes_the_gradient_by_the_clip_at_most(digits: ImageSet) -> None:
    model, pixels, masks = asked(digits, 6)
    privacy = make_privacy(0.05, 2)
    found = backward(model, pixels, masks, privacy, 20)
    for row in range(6):
        others = torch.arange(6) != row
        change = found - backward(model, pixels[others], masks[others], privacy, 20)
        assert float(change.norm()) == pytest.approx(0.05 / 20, rel=1e-3)  # gradients of this model are longer


def test_each_image_takes_part_by_a_coin_of_its_own() -> None:
    images, rate, steps = 50, 0.3, 4000
    coins = np.zeros((steps, images))
    for step in range(steps):
        rows = poisson_sample(images, rate, 3, step)
        assert len(set(rows.tolist())) == len(rows)
        coins[step, rows] = 1
    each = coins.sum(axis=0)
    spread = ((each - steps * rate) ** 2 / (steps * rate * (1 - rate))).sum()
    assert 20 < spread < 90  # χ² of 50 degrees of freedom, 99.9 % on either side
    sizes = np.bincount(coins.sum(axis=1).astype(int), minlength=images + 1)
    expected = binom(images, rate).pmf(np.arange(images + 1)) * steps
    common = expected > 20
    assert chisquare(sizes[common], expected[common] * sizes[common].sum() / expected[common].sum()).pvalue > 0.01
    between = np.atleast_2d(np.corrcoef(coins.T))[np.triu_indices(images, 1)]
    assert np.abs(between).max() < 5 / math.sqrt(steps)
    after = pearsonr(coins[:-1].ravel(), coins[1:].ravel()).statistic
    assert abs(after) < 4 / math.sqrt(steps * images)


def test_coins_follow_from_the_seed_and_the_step_alone() -> None:
    first = [poisson_sample(1000, 0.1, 3, step).tolist() for step in range(4)]
    assert [poisson_sample(1000, 0.1, 3, step).tolist() for step in (3, 2, 1, 0)] == first[::-1]
    others = [poisson_sample(1000, 0.1, seed, step).tolist() for seed, step in ((4, 0), (3, 4))]
    assert all(other not in first for other in others)
    assert len(poisson_sample(1000, 1.0, 3, 0)) == 1000


def of_gaussian(sigma: float, delta: float) -> float:
    """Return the exact ε of one Gaussian mechanism (Balle and Wang, arXiv 1805.06530, theorem 8), by bisection."""
    low, high = 0.0, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        spent = norm.cdf(1 / (2 * sigma) - middle * sigma) - math.exp(middle) * norm.cdf(
            -1 / (2 * sigma) - middle * sigma
        )
        low, high = (middle, high) if spent > delta else (low, middle)
    return high


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
@pytest.mark.parametrize("epochs", [1, 30])
def test_noise_of_whole_batches_keeps_to_the_exact_epsilon_of_the_gaussian_mechanism(
    epsilon: float, epochs: int
) -> None:
    privacy = calibrate(DPSGD(epsilon=epsilon), images=500, batch_size=500, steps=epochs)
    exact = of_gaussian(privacy.noise_multiplier / math.sqrt(epochs), privacy.delta)
    assert 0.8 * epsilon < exact <= epsilon
    assert epsilon - 0.02 < privacy.epsilon <= epsilon


@pytest.mark.filterwarnings("ignore:Optimal order")  # within the other accountant
def test_noise_of_drawn_batches_keeps_to_the_epsilon_of_another_accountant() -> None:
    privacy = calibrate(DPSGD(epsilon=1.0), images=400, batch_size=100, steps=2000)
    accountant = PRVAccountant()
    accountant.history = [(privacy.noise_multiplier, 0.25, 2000)]
    assert 0.85 < accountant.get_epsilon(privacy.delta) <= 1


def run(images: ImageSet, work: Path, **changes: Any) -> tuple[MaskedImageModel, Training]:
    recipe = make_recipe(**changes)
    work.mkdir(exist_ok=True)
    model = untrained(images, spec_for(images, recipe), recipe, 3)
    return model, Trainer(recipe, context_in(work)).fit(model, images, 3, work)


def test_each_step_of_a_training_has_fresh_noise_of_the_recorded_size(digits: ImageSet, tmp_path: Path) -> None:
    taken: list[Tensor] = []

    def hook(optimizer: Optimizer, *_: object) -> None:
        groups = [value for group in optimizer.param_groups for value in group["params"]]
        taken.append(torch.cat([value.grad.flatten() for value in groups]))

    handle = register_optimizer_step_pre_hook(hook)
    try:
        _, training = run(digits, tmp_path / "work", dp_sgd={"epsilon": 0.5, "clip": 0.3})
    finally:
        handle.remove()
    assert training.privacy is not None
    steps = torch.stack(taken).numpy()  # all but noise: the images' part is no longer than about the clip
    assert len(steps) == training.privacy.steps == 8
    np.testing.assert_allclose(steps.std(axis=1), training.privacy.noise_multiplier * 0.3 / 16, rtol=0.01)
    between = np.atleast_2d(np.corrcoef(steps))[np.triu_indices(8, 1)]
    assert np.abs(between).max() < 5 / math.sqrt(steps.shape[1])


def same(first: MaskedImageModel, second: MaskedImageModel) -> bool:
    others = second.state_dict()
    return all(torch.equal(value, others[name]) for name, value in first.state_dict().items())


def test_training_that_was_interrupted_goes_on_to_the_same_weights(
    counted_steps: CountedSteps, digits: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = digits.take(np.arange(20))
    often_empty = {"batch_size": 1, "epochs": 1, "augmentation": "crop", "dp_sgd": {"epsilon": 2.0}}
    assert min(len(poisson_sample(20, 1 / 20, 3, step)) for step in range(20)) == 0
    undisturbed, _ = run(images, tmp_path / "undisturbed", **often_empty)
    monkeypatch.setattr(loop, "_SAVE_EVERY", -1.0)
    for step in (8, 5):
        with counted_steps(interrupt_at=step), pytest.raises(KeyboardInterrupt):
            run(images, tmp_path / "interrupted", **often_empty)
    torch.manual_seed(8)  # nothing may follow from the global state
    with counted_steps() as count:
        resumed, _ = run(images, tmp_path / "interrupted", **often_empty)
    assert count == [20 - 7 - 4]
    assert same(resumed, undisturbed)
    other, _ = run(images, tmp_path / "other", **(often_empty | {"dp_sgd": {"epsilon": 1.0}}))
    assert not same(other, undisturbed)


def test_training_with_little_noise_learns(digits: ImageSet, tmp_path: Path) -> None:
    recipe = {"dp_sgd": {"epsilon": 1e4}, "epochs": 15, "base_learning_rate": 0.03}
    model, training = run(digits, tmp_path / "work", **recipe)
    masks = torch.from_numpy(model.spec.scoring_masks(digits.ids, 4, seed=1))
    pixels = torch.from_numpy(np.array(digits.pixels))
    start = untrained(digits, model.spec, training.recipe, 3).eval()
    with torch.inference_mode():
        assert model.distances(pixels, masks).mean() < 0.8 * start.distances(pixels, masks).mean()


def test_training_that_is_left_early_spends_less_with_the_noise_of_the_whole(digits: ImageSet, tmp_path: Path) -> None:
    _, whole = run(digits, tmp_path / "whole", epochs=3)
    _, left = run(digits, tmp_path / "left", epochs=3, stop_epoch=1)
    assert whole.privacy is not None
    assert left.privacy is not None
    assert (whole.privacy.steps, left.privacy.steps) == (12, 4)
    assert left.privacy.noise_multiplier == whole.privacy.noise_multiplier
    assert left.privacy.epsilon < 0.8 * whole.privacy.epsilon


def test_nothing_beside_the_weights_is_made_of_the_images(digits: ImageSet, tmp_path: Path) -> None:
    darker = digits.take(np.flatnonzero(digits.pixels.mean(axis=(1, 2, 3)) < digits.pixels.mean()))
    assert spec_for(digits, make_recipe()) == spec_for(darker, make_recipe())
    plain = make_recipe().undefended
    assert spec_for(digits, plain) != spec_for(darker, plain)
    _, training = run(digits, tmp_path / "work")
    assert training.losses == ()


def test_decoder_that_an_adversary_fits_is_not_private(digits: ImageSet, tmp_path: Path) -> None:
    recipe = make_recipe()
    model = untrained(digits, spec_for(digits, recipe), recipe, 0)
    assert isinstance(model, MAE)
    settings = DecoderSettings(source="fitted", epochs=1, batch_size=64)
    native.save(tmp_path / "encoder", model)
    path = fitted_decoder(tmp_path / "encoder", digits, recipe, settings, context_in(tmp_path))
    training = native.load_training(path)
    assert training is not None
    assert (training.privacy, len(training.losses)) == (None, 1)


def test_what_does_not_go_with_privacy_says_why(digits: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="tokenizer of beit is made of the images without privacy"):
        make_recipe(preset="beit-nano")
    for other in ("cross_fitting", "deduplicate"):
        with pytest.raises(ValidationError, match="dp_sgd bounds what an image does through its own gradients"):
            make_recipe(defences={"dp_sgd": {"epsilon": 8.0}, other: {}})
    with pytest.raises(MimiaError, match=r"dp_sgd\.delta is 0\.02, .* one of 64 images .*: set it below 0\.016"):
        run(digits, tmp_path / "delta", dp_sgd={"epsilon": 8.0, "delta": 0.02})
    with pytest.raises(
        MimiaError, match=r"No noise keeps 2 steps to an ε of 0\.001: raise recipe\.defences\.dp_sgd\.epsilon"
    ):
        run(digits, tmp_path / "epsilon", dp_sgd={"epsilon": 0.001}, batch_size=64)


def test_training_is_in_full_precision_whatever_the_other_steps_run_in(digits: ImageSet, tmp_path: Path) -> None:
    recipe = make_recipe()
    half = untrained(digits, spec_for(digits, recipe), recipe, 3)
    Trainer(recipe, context_in(tmp_path, precision="bf16")).fit(half, digits, 3, tmp_path)
    full, _ = run(digits, tmp_path / "full")
    for found, expected in zip(half.parameters(), full.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_training_that_diverges_says_so(digits: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(
        MimiaError,
        match=r"diverged, its loss became .*: lower recipe\.base_learning_rate or recipe\.defences\.dp_sgd\.clip",
    ):
        run(digits, tmp_path / "work", base_learning_rate=1e30)


def test_command_trains_with_privacy_and_the_checkpoint_tells_it(tmp_path: Path) -> None:
    settings = {
        "recipe.preset": "mae-nano",
        "recipe.defences.dp_sgd.epsilon": 2,
        "recipe.epochs": 3,
        "recipe.batch_size": 10,
        "split.n_members": 40,
        "compute.threads": 1,
    }
    flags = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    out = tmp_path / "checkpoint"
    command = ["pretrain", "--data", "digits", "--out", str(out), "--store", str(tmp_path / "store")]
    result = CliRunner().invoke(app, [*command, "--device", "cpu", *flags])
    assert result.exit_code == 0, result.output
    training = native.load_training(out)
    assert training is not None
    assert training.privacy is not None
    assert 1.9 < training.privacy.epsilon <= 2
    assert (training.privacy.sample_rate, training.privacy.steps) == (0.25, 12)
    with (out / "trained_on.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 40
    lines = CliRunner().invoke(app, ["inspect", str(out)]).output.splitlines()
    (line,) = [line for line in lines if line.startswith("privacy")]
    assert f"DP-SGD: ε = {training.privacy.epsilon:.2f} at δ = 1e-05" in line
