"""Reconstruction distances of many images under many masks, computed once and kept in the store.

Images are scored as training showed them, without augmentation, and members and non-members go through this one
path.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from mimia.arrays import Floats, Ids, Indices, Pixels, fingerprint, fingerprint_of_ids
from mimia.compute import accelerator
from mimia.config import ComputeSettings, SignalSettings
from mimia.encoders.base import ModelSpec
from mimia.encoders.checkpoints import native
from mimia.errors import MimiaError
from mimia.images.imageset import ImageSet
from mimia.signals.base import Signals
from mimia.signals.batches import read_batches, write_batches
from mimia.store import Store


def score_images(
    checkpoints: Sequence[Path],
    images: ImageSet,
    rows: Indices,
    settings: SignalSettings,
    compute: ComputeSettings,
    store: Store,
    names: Sequence[str],
) -> Signals:
    """Measure how well models reconstruct images, each under the same masks.

    Args:
        checkpoints: Checkpoint directories of the models.
        images: Where the images are.
        rows: Which of them are scored.
        settings: Number and seed of the masks, batch size.
        compute: Device and precision.
        store: Keeps the distances of each model.
        names: What the progress bar calls the models.

    Raises:
        MimiaError: A model takes other images, or its distances are not finite.
    """
    ids = images.ids[rows]
    configs = [native.load_config(checkpoint) for checkpoint in checkpoints]
    for config, name in zip(configs, names, strict=True):
        shape = (config.spec.channels, config.spec.image_size, config.spec.image_size)
        if images.pixels.shape[1:] != shape:
            raise MimiaError(
                f"The {name} takes images of the shape {shape} (channels, height, width), and these have "
                f"{images.pixels.shape[1:]}: bring them to the size that it was trained on."
            )
    masks = {_mask_fingerprint(config.spec, settings) for config in configs}
    if len(masks) > 1:
        raise MimiaError(
            "The target and the shadows are masked differently: train the shadows with the target's recipe."
        )
    values, models = [], []
    for checkpoint, config, name in zip(checkpoints, configs, names, strict=True):
        model = native.model_id(checkpoint)
        key = {
            "model": model,
            "config": config.model_dump(mode="json"),  # pixel statistics and target space are not in the weights
            "images": fingerprint_of_ids(ids),
            "masks": [*masks],
            "draws": settings.draws,
            "precision": compute.precision,
        }
        build = partial(_score, checkpoint, images, rows, settings, compute, name)
        values.append(read_batches(store.make("distances", key, build)))
        models.append(model)
        if not np.isfinite(values[-1]).all():
            raise MimiaError(f"The {name} ({checkpoint}) gives distances that are not finite.")
    return Signals(np.stack(values), tuple(models), ids, masks.pop())


def _mask_fingerprint(spec: ModelSpec, settings: SignalSettings) -> str:
    how = spec.model_dump(include={"masking", "mask_ratio", "cell"})
    return fingerprint({"seed": settings.seed, "grid": spec.grid} | how)


def _score(
    checkpoint: Path,
    images: ImageSet,
    rows: Indices,
    settings: SignalSettings,
    compute: ComputeSettings,
    name: str,
    work: Path,
) -> None:
    device = accelerator(compute).device
    model = native.load(checkpoint).to(device)

    def measure(pixels: Pixels, ids: Ids) -> Floats:
        masks = torch.from_numpy(model.spec.scoring_masks(ids, settings.draws, settings.seed))
        with torch.inference_mode(), accelerator(compute).autocast():
            distances = model.distances(torch.from_numpy(pixels).to(device), masks.to(device))
        measured: Floats = distances.float().cpu().numpy()
        return measured

    write_batches(measure, images, rows, settings, name, work)
