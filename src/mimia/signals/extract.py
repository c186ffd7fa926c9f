"""Extract signals of many images by many models, each computed once and kept in the store.

Members and non-members, target and shadows take this one path.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimia.data.imageset import ImageSet
from mimia.models.checkpoints import native
from mimia.models.vectors import check_variety
from mimia.runtime.arrays import Floats, Ids, Indices, Pixels, fingerprint, fingerprint_of_ids
from mimia.runtime.errors import MimiaError
from mimia.runtime.rehearsal import EstimatedWork, Rehearsal
from mimia.runtime.store import Store
from mimia.signals.arrays import Signals
from mimia.signals.base import QueryConfig
from mimia.signals.cache import read_batches, write_batches, write_first_batch
from mimia.signals.queried import QueriedModel
from mimia.signals.registry import SIGNALS

_PROBES = 8  # images by whose vectors a function is named


def extract_signals(
    names: Sequence[str],
    queried_models: Sequence[QueriedModel],
    images: ImageSet,
    rows: Indices,
    query: QueryConfig,
    store: Store,
) -> Signals:
    """Compute signals of all models on all images.

    Args:
        names: Names of signals in the registry.
        queried_models: The models.
        images: All images.
        rows: Rows of the images to query.
        query: The query, equal for all models.
        store: Keeps the numbers of each model and signal.

    Raises:
        MimiaError: A model takes other images, is masked otherwise, or gives numbers that are not finite.
    """
    for queried in queried_models:
        _check_model(queried, images, query)
    values: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    models = []
    for queried in queried_models:
        identity = _identity(queried, images, rows)
        models.append(identity["model"])
        for name in names:
            key = _artifact_key(name, queried, query) | identity | {"images": fingerprint_of_ids(images.ids[rows])}
            build = partial(_SignalOfModel(name, queried, query).write, images, rows, store)
            values[name].append(read_batches(store.make("signals", key, build)))
            if not isinstance(queried.source, Path) and not isinstance(store, Rehearsal):
                check_variety(values[name][-1], f"The {queried.name}, a function to vectors, gives {name} that are")
        queried.release()
    query_id = fingerprint({name: SIGNALS[name]().cache_key(query) for name in names})
    stacked = {name: _stack(of_models) for name, of_models in values.items()}
    return Signals(stacked, tuple(models), images.ids[rows], query_id)


def _artifact_key(name: str, queried: QueriedModel, query: QueryConfig) -> dict[str, Any]:
    signal = SIGNALS[name]()
    own: dict[str, Any] = {"signal": name, "query": signal.cache_key(query), "precision": query.compute.precision}
    return own | {**signal.weights(queried)}


@dataclass(frozen=True)
class _SignalOfModel:
    """One signal of one model."""

    name: str
    queried: QueriedModel
    query: QueryConfig

    def compute(self, pixels: Pixels, ids: Ids) -> Floats:
        signal = SIGNALS[self.name]()
        values = signal.compute(self.queried, pixels, ids, self.query)
        expected = (len(ids), signal.length(self.query) or values.shape[-1])
        if values.shape != expected:
            raise ValueError(
                f"the signal {self.name} gave an array of the shape {values.shape} and declares {expected}"
            )
        _check_finite(values, self.name, self.queried)
        return values

    def write(self, images: ImageSet, rows: Indices, store: Store, work: Path) -> None:
        """Compute it into the work directory of its artifact; in a rehearsal, the first batch alone."""
        batch = max(1, self.query.settings.batch_size // SIGNALS[self.name]().forward_passes(self.query))
        what = f"{self.name}: {self.queried.name}"
        if isinstance(store, Rehearsal):
            repeated = isinstance(self.queried.source, Path)  # a function may cost money each time
            seconds = write_first_batch(self.compute, images, rows, batch, work, repeated=repeated)
            store.work.append(EstimatedWork("query", what, len(rows), seconds))
        else:
            write_batches(self.compute, images, rows, batch, what, work)


def _stack(of_models: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Stack models; shorter vectors are filled with zeros, as a function may give others than the shadows."""
    longest = max(values.shape[1] for values in of_models)
    return np.stack([np.pad(values, ((0, 0), (0, longest - values.shape[1]))) for values in of_models])


def _check_finite(values: Floats, name: str, queried: QueriedModel) -> None:
    with np.errstate(over="ignore"):
        finite = np.isfinite(values.astype(np.float32)).all()  # as they are kept
    if not finite:
        called = str(queried.source) if isinstance(queried.source, Path) else "a function to vectors"
        raise MimiaError(f"The {queried.name} ({called}) gives {name} that are not finite.")


def _check_model(queried: QueriedModel, images: ImageSet, query: QueryConfig) -> None:
    """Raise if a checkpoint takes other images, or is masked otherwise than the query."""
    if not isinstance(queried.source, Path):
        return
    spec = native.load_config(queried.source).spec
    if images.pixels.shape[1:] != spec.shape:
        raise MimiaError(
            f"The {queried.name} takes images of the shape {spec.shape} (channels, height, width), and these have "
            f"{images.pixels.shape[1:]}: bring them to the size that it was trained on."
        )
    masking = {"masking", "cell", "patch_size"}
    if spec.model_dump(include=masking) != query.spec.model_dump(include=masking):
        raise MimiaError(
            "The target and the shadows are masked differently: train the shadows with the target's recipe."
        )


def _identity(queried: QueriedModel, images: ImageSet, rows: Indices) -> dict[str, str]:
    """Return the id of a checkpoint's weights and configuration, or of a function's vectors for a few of the images."""
    if isinstance(queried.source, Path):
        config = native.load_config(queried.source)  # pixel statistics and target space are not in the weights
        return {"model": native.model_id(queried.source), "config": fingerprint(config.model_dump(mode="json"))}
    answer = np.ascontiguousarray(queried.embed(images.pixels[rows[:_PROBES]]))
    check_variety(answer, f"The {queried.name}, a function to vectors, gives vectors that are")
    return {"model": hashlib.sha256(answer.tobytes()).hexdigest()}
