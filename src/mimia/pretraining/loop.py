"""Pre-training of a MIM model of any family: exact to resume at any step.

Weights, order, masks and augmentation of a step follow from the model's seed and the step alone, so that a training
which was killed and started again ends with the same weights as an undisturbed one.
"""

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mimia.arrays import Indices
from mimia.compute import accelerator, hardware, versions
from mimia.config import ComputeSettings
from mimia.encoders.base import Reconstructor
from mimia.encoders.checkpoints import native
from mimia.encoders.checkpoints.native import Privacy, Training
from mimia.errors import MimiaError
from mimia.images.augment import augment
from mimia.images.imageset import ImageSet
from mimia.pretraining.cross_fitting import Teachers
from mimia.pretraining.early_stopping import EarlyStopping
from mimia.pretraining.private import noisy_backward, privacy_of, taking_part
from mimia.pretraining.schedule import learning_rate, make_optimizer
from mimia.progress import progress
from mimia.recipes import Recipe
from mimia.seeds import derived_seed, torch_generator
from mimia.store import replacing

_ON_DEVICE = 4 * 2**30  # bytes of images that are kept on the device as a whole
_SAVE_EVERY = 20.0  # seconds
_WORK = "training"  # directory of a training that goes on
STATE = "training.pt"
"""File of the state of a training that was left before its end."""


def train(
    model: Reconstructor,
    images: ImageSet,
    recipe: Recipe,
    seed: int,
    compute: ComputeSettings,
    work: Path,
    description: str = "pre-training",
    teachers: Teachers | None = None,
    validation: ImageSet | None = None,
) -> Training:
    """Pre-train a model in place, or go on where an interrupted training stopped.

    Args:
        model: With its initial weights; what does not require a gradient stays as it is.
        images: What it is trained on.
        recipe: How it is trained.
        seed: Seed of this model.
        compute: Device and precision.
        work: Directory of the training's state; the same one resumes it.
        description: For the progress bar.
        teachers: From whose reconstructions it learns, instead of from the images.
        validation: By whose loss it is stopped, if the recipe says so.

    Raises:
        MimiaError: The loss is not finite any more, or the images cannot have the privacy that the recipe asks for.
    """
    device = accelerator(compute).device
    model.to(device)
    optimizer = make_optimizer(model, recipe)
    epoch_steps = steps_per_epoch(len(images), recipe)
    batch_size = len(images) // epoch_steps  # equal batches: fewer images are left out than an epoch has steps
    steps = recipe.epochs * epoch_steps
    last = (recipe.stop_epoch or recipe.epochs) * epoch_steps
    privacy = privacy_of(recipe, len(images), batch_size, steps, last)
    fetch = _fetcher(images, device)
    state_file = work / STATE
    step, losses, seconds = 0, [], 0.0
    epoch_loss = torch.zeros((), device=device)
    stopping = None
    if recipe.patience is not None:
        assert validation is not None, "early stopping takes images that are not learned from"
        stopping = EarlyStopping(recipe.patience, validation, derived_seed(seed, "validation"))
    if state_file.exists():
        state = torch.load(state_file, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, losses, seconds = state["step"], state["losses"], state["seconds"]
        epoch_loss = state["epoch_loss"]
        if stopping is not None:
            stopping.resume(state["stopping"])

    def save_state() -> None:
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": step,
            "losses": losses,
            "seconds": seconds + time.monotonic() - started,
            "epoch_loss": epoch_loss,
            "stopping": None if stopping is None else stopping.state(),
        }
        with replacing(state_file) as path:
            torch.save(state, path)

    started = saved = time.monotonic()
    model.train()
    with progress(description, last, step) as advance:
        while step < last:
            epoch, batch = divmod(step, epoch_steps)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, steps, batch_size, recipe)
            if privacy is None:
                rows = _order(len(images), seed, epoch)[batch * batch_size : (batch + 1) * batch_size]
                loss = training_step(model, optimizer, fetch(rows), rows, recipe, seed, step, compute, teachers)
            else:
                rows = taking_part(len(images), privacy.sample_rate, seed, step)
                loss = private_step(model, optimizer, fetch(rows), recipe, seed, step, privacy, batch_size)
            epoch_loss += loss
            step += 1
            if batch == epoch_steps - 1:
                losses.append(epoch_loss.item() / epoch_steps)
                epoch_loss.zero_()
                if not np.isfinite(losses[-1]):
                    raise MimiaError(
                        f"The training's loss became {losses[-1]} in epoch {epoch + 1}: lower "
                        "recipe.base_learning_rate."
                    )
                if stopping is not None and stopping.ends_after(model):
                    break
            advance(1)
            if time.monotonic() - saved > _SAVE_EVERY:  # not at an interrupt, which may fall within a step
                save_state()
                saved = time.monotonic()
    if last < steps:
        save_state()
    if stopping is not None:
        stopping.restore(model)
        privacy = privacy_of(recipe, len(images), batch_size, steps, step)
    training = Training(
        recipe=recipe,
        seed=seed,
        images=len(images),
        images_fingerprint=images.fingerprint,
        losses=tuple(losses) if privacy is None else (),
        kept_epoch=None if stopping is None else stopping.best_epoch,
        seconds=seconds + time.monotonic() - started,
        hardware=hardware(compute),
        versions=versions(),
        privacy=privacy,
    )
    model.eval()
    return training


def steps_per_epoch(images: int, recipe: Recipe) -> int:
    """Count the steps in which a training sees each image once.

    >>> steps_per_epoch(250, Recipe.model_validate({"preset": "mae-micro", "batch_size": 100}))
    3
    """
    return math.ceil(images / recipe.batch_size)


def train_and_save(
    model: Reconstructor,
    images: ImageSet,
    recipe: Recipe,
    seed: int,
    compute: ComputeSettings,
    work: Path,
    description: str,
    teachers: Teachers | None = None,
    validation: ImageSet | None = None,
) -> None:
    """Train as `train` does, and leave nothing but the checkpoint in the work directory of an artifact.

    Beside a training that was left before its end lies its state, from which a longer one can go on.
    """
    directory = work / _WORK
    directory.mkdir(exist_ok=True)
    training = train(model, images, recipe, seed, compute, directory, description, teachers, validation)
    native.save(work, model, training)
    if recipe.stop_epoch is not None and recipe.stop_epoch < recipe.epochs:
        (directory / STATE).replace(work / STATE)
    shutil.rmtree(directory)


def go_on_from(stopped: Path, work: Path) -> None:
    """Begin a training where the same one was left earlier, unless it has begun.

    Args:
        stopped: What `train_and_save` left of the shorter training.
        work: Work directory of the longer one.
    """
    begun = work / _WORK / STATE
    if not begun.exists():
        begun.parent.mkdir(exist_ok=True)
        with replacing(begun) as path:
            shutil.copyfile(stopped / STATE, path)


def training_step(
    model: Reconstructor,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    rows: Indices,
    recipe: Recipe,
    seed: int,
    step: int,
    compute: ComputeSettings,
    teachers: Teachers | None = None,
) -> Tensor:
    """Move the weights once: raw pixels on the model's device, uint8, (B, C, H, W) -> the loss before, a scalar."""
    generator = torch_generator(images.device, seed, "step", step)
    masks = model.spec.training_masks(len(images), generator)
    seen = augment(images, recipe.augmentation, generator, recipe.crop_area)
    with accelerator(compute).autocast():
        if teachers is None:
            loss = model.loss(seen, masks)
        else:
            loss = model.errors(model.reconstruct(seen, masks), teachers.pictures(rows, seen, masks), masks).mean()
    optimizer.zero_grad(set_to_none=True)
    accelerator(compute).backward(loss)
    if recipe.gradient_clip is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
    optimizer.step()
    return loss.detach()


def private_step(
    model: Reconstructor,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    recipe: Recipe,
    seed: int,
    step: int,
    privacy: Privacy,
    batch_size: int,
) -> Tensor:
    """Move the weights once as `training_step` does, with differential privacy and always in full precision.

    `batch_size` images are expected.
    """
    generator = torch_generator(images.device, seed, "step", step)
    noise = torch_generator(images.device, seed, "noise", step)
    masks = model.spec.training_masks(len(images), generator)
    augmented = augment(images, recipe.augmentation, generator, recipe.crop_area)
    loss = noisy_backward(model, augmented, masks, privacy, batch_size, noise)
    optimizer.step()
    return loss


def _order(count: int, seed: int, epoch: int) -> Indices:
    return np.random.default_rng(derived_seed(seed, "order", epoch)).permutation(count)


def _fetcher(images: ImageSet, device: torch.device) -> Callable[[Indices], Tensor]:
    """Give a function from rows to pixels on the device."""
    if images.pixels.nbytes <= _ON_DEVICE:
        data = torch.from_numpy(np.array(images.pixels)).to(device)
        return lambda rows: data[torch.from_numpy(rows).to(device)]
    return lambda rows: torch.from_numpy(images.pixels[rows]).to(device)
