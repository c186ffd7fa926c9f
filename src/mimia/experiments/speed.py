"""How fast this machine trains and asks models: measured once on noise, and kept in the store."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from mimia.arrays import content_id
from mimia.compute import accelerator, hardware
from mimia.config import ComputeSettings, SignalSettings
from mimia.encoders.base import ModelSpec, Reconstructor
from mimia.encoders.checkpoints import native
from mimia.encoders.checkpoints.native import Privacy
from mimia.images.facts import FACTS
from mimia.images.imageset import ImageSet
from mimia.pretraining.cross_fitting import Teachers, halves
from mimia.pretraining.loop import private_step, training_step
from mimia.pretraining.models import untrained
from mimia.pretraining.schedule import make_optimizer
from mimia.pretraining.specs import spec_for
from mimia.progress import console
from mimia.recipes import Recipe
from mimia.signals.kinds import Asking, Subject
from mimia.signals.registry import KINDS
from mimia.store import Store

Shape = tuple[int, int, int]
"""Of an image: channels, height, width."""

_LONG_ENOUGH = 0.2  # seconds of work that are timed
_TOO_LONG = 3.0  # seconds of work, to time it whole
_FEW = 1 / 16  # of the images
_MOST_IMAGES = 16  # that a model is asked about
_SPEED = "seconds.json"
_DECIDING = {
    *("family", "size", "patch_size", "mask_ratio", "cell", "vocabulary", "patch_normalised", "augmentation"),
    *("cross_fits", "dp_epsilon"),
}


@dataclass(frozen=True)
class Machine:
    """This machine, by what it takes for a step and for an image.

    Attributes:
        compute: Device, precision and threads.
        store: Keeps what was measured, for each architecture and hardware.
    """

    compute: ComputeSettings
    store: Store

    def seconds_a_step(self, recipe: Recipe, shape: Shape, batch: int) -> float:
        """Give the time of a training step.

        Raises:
            MimiaError: The recipe does not fit images of this shape.
        """
        what = {"kind": "training", "batch": batch}
        return self._measured(what, recipe, shape, lambda: self._time_steps(recipe, shape, batch))

    def seconds_an_image(self, kind: str, recipe: Recipe, shape: Shape, signals: SignalSettings) -> float:
        """Give the time in which a model answers one kind of question about an image.

        Raises:
            MimiaError: The recipe does not fit images of this shape.
        """
        what = {"kind": kind, "signals": signals.model_dump(mode="json", exclude={"seed"})}
        return self._measured(what, recipe, shape, lambda: self._time_asking(kind, recipe, shape, signals))

    def _measured(self, what: Mapping[str, Any], recipe: Recipe, shape: Shape, measure: Callable[[], float]) -> float:
        of_recipe = recipe.model_dump(mode="json", include=_DECIDING)
        key = {"what": what, "recipe": of_recipe, "shape": shape, "hardware": hardware(self.compute)}

        def build(work: Path) -> None:
            with console.status(f"timing {what['kind']}: {recipe.family}-{recipe.size}, {shape[-1]} pixels"):
                (work / _SPEED).write_text(json.dumps(measure()))

        seconds: float = json.loads((self.store.make("speeds", key, build) / _SPEED).read_text())
        return seconds

    def _time_steps(self, recipe: Recipe, shape: Shape, batch: int) -> float:
        images, _, model = self._model(recipe, shape, batch)
        device = accelerator(self.compute).device
        model.to(device)
        optimizer, pixels = make_optimizer(model, recipe), torch.from_numpy(images.pixels).to(device)
        noise = Privacy(epsilon=1, delta=1, noise_multiplier=1, clip=recipe.dp_clip, sample_rate=1, steps=1)
        seen = halves(batch, recipe.cross_fits, np.random.default_rng(0))
        teachers = Teachers([model] * len(seen), seen) if recipe.cross_fits else None

        def step(count: int) -> None:
            shown, rows = pixels[:count], np.arange(count)
            if recipe.dp_epsilon is not None:
                loss = private_step(model, optimizer, shown, recipe, 0, 0, noise, count)
            else:
                loss = training_step(model, optimizer, shown, rows, recipe, 0, 0, self.compute, teachers)
            loss.item()  # waits for the device

        return _seconds(step, batch)

    def _time_asking(self, kind: str, recipe: Recipe, shape: Shape, signals: SignalSettings) -> float:
        images, spec, model = self._model(recipe, shape, _MOST_IMAGES, latents=kind == "latents")
        asking = Asking(signals, recipe, self.compute, spec)
        count = min(_MOST_IMAGES, max(1, signals.batch_size // KINDS[kind].passes(asking)))
        pixels, ids = images.pixels[:count], images.ids[:count]
        with TemporaryDirectory() as folder:
            native.save(Path(folder), model)
            subject = Subject("model", Path(folder), self.compute, Path(folder))
            return _seconds(lambda few: KINDS[kind].measure(subject, pixels[:few], ids[:few], asking), count) / count

    def _model(
        self, recipe: Recipe, shape: Shape, count: int, *, latents: bool = False
    ) -> tuple[ImageSet, ModelSpec, Reconstructor]:
        pixels = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
        ids = np.array([content_id(image) for image in pixels])
        images = ImageSet(pixels, ids, ids, np.zeros((count, len(FACTS))))
        spec = spec_for(images, recipe)
        trained = spec.model_copy(update={"target_space": "latents"}) if latents else spec
        return images, spec, untrained(images, trained, recipe, 0)


def _seconds(work: Callable[[int], object], images: int) -> float:
    """Time some work on images; of what takes long, one image and a few are timed, and a line through both is drawn.

    What a step costs whatever the images, as an optimizer's does, is so counted once.
    """
    few = 1 + math.ceil(images * _FEW)
    alone = _repeated(work, 1, 0.0)
    each = (_repeated(work, few, 0.0) - alone) / (few - 1)
    estimate = alone + (images - 1) * each
    return estimate if images > few and estimate > _TOO_LONG else _repeated(work, images, _LONG_ENOUGH)


def _repeated(work: Callable[[int], object], images: int, at_least: float) -> float:
    """Give the mean time of some work, repeated for so many seconds; the first time does not count."""
    work(images)
    started, times, taken = time.monotonic(), 0, 0.0
    while times == 0 or taken < at_least:
        work(images)
        times, taken = times + 1, time.monotonic() - started
    return taken / times
