"""Pre-training of a masked-image model of any family, exact to resume at any step.

Weights, order, masks and augmentation of a step follow from the model's seed and the step alone, so that a training
which was killed and started again ends with the same weights as an undisturbed one.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mimia.config.recipes import Recipe
from mimia.data.imageset import ImageSet
from mimia.models.base import MaskedImageModel
from mimia.models.checkpoints import native
from mimia.models.checkpoints.native import Training
from mimia.pretraining.context import TrainingContext, TrainingRun
from mimia.pretraining.divergence import DivergenceError, check_end, diverged
from mimia.pretraining.hooks import TrainerHooks
from mimia.pretraining.steps import TrainingStep
from mimia.runtime.arrays import Indices
from mimia.runtime.compute import accelerator, hardware, versions
from mimia.runtime.interruption import Stopped, saving_before_stop
from mimia.runtime.progress import progress, say
from mimia.runtime.rehearsal import EstimatedWork, Rehearsal
from mimia.runtime.sealed import discard, is_intact, sealing
from mimia.runtime.seeds import derived_seed
from mimia.runtime.timing import seconds_each

_ON_DEVICE = 4 * 2**30  # bytes of images that are kept on the device as a whole
_SAVE_EVERY = 20.0  # seconds
_WORK = "training"  # directory of a training that goes on
STATE = "training.pt"
"""File of the state of a training that was left before its end."""


class Trainer:
    """Trains models by one recipe, with the hooks of its defences.

    Args:
        recipe: How models are trained.
        context: Device, precision, store, and what else trainings share.
    """

    def __init__(self, recipe: Recipe, context: TrainingContext) -> None:
        self.recipe = recipe
        self._context = context

    def fit(self, model: MaskedImageModel, images: ImageSet, seed: int, work: Path) -> Training:
        """Train a model in place, or go on where an interrupted training stopped.

        Args:
            model: With its initial weights; parameters that do not require a gradient stay as they are.
            images: Training images.
            seed: Seed of this model.
            work: Directory of the training's state; the same one resumes it.

        Raises:
            MimiaError: The training diverged, or a defence does not work with these images.
        """
        run = TrainingRun(model, images, self.recipe, seed, self._context)
        model.to(accelerator(self._context.compute).device)
        hooks: dict[str, TrainerHooks] = {name: each.hooks() for name, each in self.recipe.defences.items()}
        for each in hooks.values():
            each.start(run)
        loop = _Loop(run, hooks, work / STATE)
        if isinstance(self._context.store, Rehearsal):
            return loop.rehearse(self._context.store)
        try:
            training = loop.train()
            check_end(run, hooks.values())
        except DivergenceError:
            discard(work / STATE)
            raise
        return training

    def fit_and_save(self, model: MaskedImageModel, images: ImageSet, seed: int, work: Path) -> None:
        """Train as `fit` does, and leave nothing but the checkpoint in the work directory of an artifact.

        Beside a training that was left before its end lies its state, from which a longer one can go on.
        """
        directory = work / _WORK
        directory.mkdir(exist_ok=True)
        native.save(work, model, self.fit(model, images, seed, directory))
        if self.recipe.stop_epoch is not None and self.recipe.stop_epoch < self.recipe.epochs:
            (directory / STATE).replace(work / STATE)
        shutil.rmtree(directory)


def go_on_from(stopped: Path, work: Path) -> None:
    """Begin a training where the same one was left earlier, unless it has begun.

    Args:
        stopped: What `Trainer.fit_and_save` left of the shorter training.
        work: Work directory of the longer one.
    """
    begun = work / _WORK / STATE
    if not is_intact(begun):
        begun.parent.mkdir(exist_ok=True)
        discard(begun)
        with sealing(begun) as path:
            shutil.copyfile(stopped / STATE, path)


class _Loop:
    """The steps of one training, from where its saved state ends."""

    def __init__(self, run: TrainingRun, hooks: Mapping[str, TrainerHooks], state_file: Path) -> None:
        self._run = run
        self._hooks = hooks
        self._state_file = state_file
        self._take_step = TrainingStep(run, hooks.values())
        self._device = next(run.model.parameters()).device
        self._fetch = _fetcher(run.images, self._device)
        self._step = 0
        self._losses: list[float] = []
        self._epoch_loss = torch.zeros((), device=self._device)
        self._seconds, self._started = 0.0, time.monotonic()
        if is_intact(state_file):
            self._resume()
        elif discard(state_file):
            say(f"The state of the interrupted training ({run.context.description}) is damaged: it begins anew.")

    def train(self) -> Training:
        run, saved = self._run, time.monotonic()
        run.model.train()
        bar = progress(run.context.description, run.last_step, self._step)
        with bar as advance, saving_before_stop() as is_to_stop:
            while self._step < run.last_step:
                rows = self._rows()
                self._epoch_loss += self._take_step(self._fetch(rows), rows, self._step)
                self._step += 1
                if self._step % run.steps_per_epoch == 0 and self._ends_after_epoch():
                    break
                advance(1)
                stops = is_to_stop()  # not at an interrupt, which may fall within a step
                if stops or time.monotonic() - saved > _SAVE_EVERY:
                    self._save()
                    saved = time.monotonic()
                if stops:
                    raise Stopped
        if run.last_step < run.steps:
            self._save()
        return self._finish()

    def rehearse(self, rehearsal: Rehearsal) -> Training:
        """Take the first steps and the end of an epoch alone, and record how long all that are left will take."""
        run, left = self._run, self._run.last_step - self._step
        run.model.train()
        self._first_step()  # prepares what the others use
        seconds = seconds_each(self._first_step)
        started = time.perf_counter()
        for each in self._hooks.values():
            each.on_epoch(1)
        seconds += (time.perf_counter() - started) / run.steps_per_epoch
        rehearsal.work.append(EstimatedWork("train", run.context.description, left, left * seconds))
        return self._finish()

    def _first_step(self) -> None:
        """Take a step on the images of the first one."""
        rows = self._rows()
        self._take_step(self._fetch(rows), rows, self._step).item()

    def _rows(self) -> Indices:
        """Return which images take part in the next step."""
        run = self._run
        epoch, batch = divmod(self._step, run.steps_per_epoch)
        order = np.random.default_rng(derived_seed(run.seed, "order", epoch)).permutation(len(run.images))
        rows: Indices = order[batch * run.batch_size : (batch + 1) * run.batch_size]
        for each in self._hooks.values():
            rows = each.select_rows(rows, self._step)
        return rows

    def _ends_after_epoch(self) -> bool:
        self._losses.append(self._epoch_loss.item() / self._run.steps_per_epoch)
        self._epoch_loss.zero_()
        epoch = len(self._losses)
        if not np.isfinite(self._losses[-1]):
            raise diverged(self._run, self._hooks.values(), f"its loss became {self._losses[-1]} in epoch {epoch}")
        ends = [each.on_epoch(epoch) for each in self._hooks.values()]
        return any(ends)

    def _finish(self) -> Training:
        run = self._run
        record: dict[str, Any] = {
            "recipe": run.recipe,
            "seed": run.seed,
            "images": len(run.images),
            "images_fingerprint": run.images.fingerprint,
            "losses": tuple(self._losses),
            "seconds": self._elapsed(),
            "hardware": hardware(run.context.compute),
            "versions": versions(),
        }
        for each in self._hooks.values():
            record |= each.finish(self._step)
        run.model.eval()
        return Training(**record)

    def _elapsed(self) -> float:
        return self._seconds + time.monotonic() - self._started

    def _save(self) -> None:
        state = {
            "model": self._run.model.state_dict(),
            "optimizer": self._take_step.optimizer.state_dict(),
            "step": self._step,
            "losses": self._losses,
            "seconds": self._elapsed(),
            "epoch_loss": self._epoch_loss,
            "hooks": {name: each.state() for name, each in self._hooks.items()},
        }
        with sealing(self._state_file) as path:
            torch.save(state, path)

    def _resume(self) -> None:
        state = torch.load(self._state_file, map_location=self._device, weights_only=True)
        self._run.model.load_state_dict(state["model"])
        self._take_step.optimizer.load_state_dict(state["optimizer"])
        self._step, self._losses, self._seconds = state["step"], state["losses"], state["seconds"]
        self._epoch_loss = state["epoch_loss"]
        for name, each in self._hooks.items():
            each.resume(state["hooks"][name])


def _fetcher(images: ImageSet, device: torch.device) -> Callable[[Indices], Tensor]:
    """Return a function from rows to raw pixels on the device."""
    if images.pixels.nbytes <= _ON_DEVICE:
        data = torch.from_numpy(np.array(images.pixels)).to(device)
        return lambda rows: data[torch.from_numpy(rows).to(device)]
    return lambda rows: torch.from_numpy(images.pixels[rows]).to(device)
