"""Signals of many images by many models, computed once and kept in the store.

Members and non-members, target and shadows go through this one path.
"""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimia.arrays import Floats, Ids, Indices, Pixels, fingerprint, fingerprint_of_ids
from mimia.encoders.checkpoints import native
from mimia.errors import MimiaError
from mimia.images.imageset import ImageSet
from mimia.signals.base import Signals
from mimia.signals.batches import read_batches, write_batches
from mimia.signals.kinds import Asking, Subject
from mimia.signals.registry import KINDS
from mimia.store import Store

_PROBES = 8  # images by whose vectors a function is named


def score_images(
    kinds: Sequence[str], subjects: Sequence[Subject], images: ImageSet, rows: Indices, asking: Asking, store: Store
) -> Signals:
    """Ask all models all questions about all images.

    Args:
        kinds: Names in the registry.
        subjects: The models.
        images: Where the images are.
        rows: Which of them are scored.
        asking: How the models are asked.
        store: Keeps the numbers of each model and kind.

    Raises:
        MimiaError: A model takes other images, is masked otherwise, or gives numbers that are not finite.
    """
    ids = images.ids[rows]
    for subject in subjects:
        _refuse_unlike(subject, images, asking)
    values: dict[str, list[NDArray[np.float32]]] = {kind: [] for kind in kinds}
    models = []
    for subject in subjects:
        identity = _identity(subject, images, rows)
        models.append(identity["model"])
        for kind in kinds:
            values[kind].append(_scored(kind, subject, identity, images, rows, asking, store))
        subject.release()
    questions = fingerprint({kind: KINDS[kind].question(asking) for kind in kinds})
    return Signals({kind: _stack(of_models) for kind, of_models in values.items()}, tuple(models), ids, questions)


def _scored(
    name: str,
    subject: Subject,
    identity: dict[str, str],
    images: ImageSet,
    rows: Indices,
    asking: Asking,
    store: Store,
) -> NDArray[np.float32]:
    kind = KINDS[name]
    key = (
        identity
        | dict(kind.weights(subject))
        | {
            "kind": name,
            "question": kind.question(asking),
            "images": fingerprint_of_ids(images.ids[rows]),
            "precision": asking.compute.precision,
        }
    )
    batch = max(1, asking.settings.batch_size // kind.passes(asking))

    def measure(pixels: Pixels, ids: Ids) -> Floats:
        return kind.measure(subject, pixels, ids, asking)

    build = partial(write_batches, measure, images, rows, batch, f"{name}: {subject.name}")
    values = read_batches(store.make("signals", key, build))
    if not np.isfinite(values).all():
        raise MimiaError(f"The {subject.name} ({_called(subject)}) gives {name} that are not finite.")
    return values


def _stack(of_models: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Put models together; a function may give shorter vectors than the shadows, or longer: zeros fill them up."""
    longest = max(values.shape[1] for values in of_models)
    return np.stack([np.pad(values, ((0, 0), (0, longest - values.shape[1]))) for values in of_models])


def _refuse_unlike(subject: Subject, images: ImageSet, asking: Asking) -> None:
    if not isinstance(subject.source, Path):
        return
    spec = native.load_config(subject.source).spec
    shape = (spec.channels, spec.image_size, spec.image_size)
    if images.pixels.shape[1:] != shape:
        raise MimiaError(
            f"The {subject.name} takes images of the shape {shape} (channels, height, width), and these have "
            f"{images.pixels.shape[1:]}: bring them to the size that it was trained on."
        )
    masking = {"masking", "cell", "patch_size"}
    if spec.model_dump(include=masking) != asking.spec.model_dump(include=masking):
        raise MimiaError(
            "The target and the shadows are masked differently: train the shadows with the target's recipe."
        )


def _identity(subject: Subject, images: ImageSet, rows: Indices) -> dict[str, str]:
    """Name a checkpoint by its weights and its configuration, a function by what it answers to a few of the images."""
    if isinstance(subject.source, Path):
        config = native.load_config(subject.source)  # pixel statistics and target space are not in the weights
        return {"model": native.model_id(subject.source), "config": fingerprint(config.model_dump(mode="json"))}
    answer = np.ascontiguousarray(subject.embed(images.pixels[rows[:_PROBES]]))
    return {"model": hashlib.sha256(answer.tobytes()).hexdigest()}


def _called(subject: Subject) -> str:
    return str(subject.source) if isinstance(subject.source, Path) else "a function to vectors"
