"""Other people's models as directories of mimia's own format, which is the only one that is read later."""

from functools import partial
from pathlib import Path

import torch
import xxhash

from mimia.models.base import MaskedImageModel
from mimia.models.checkpoints import native
from mimia.models.checkpoints.loading import LoadedCheckpoint
from mimia.runtime.store import Store


def to_native(loaded: LoadedCheckpoint, store: Store) -> Path:
    """Return the directory of a model in mimia's own format: its own, or a copy in the store.

    A copy is named by the weights in memory too, so that no other weights are ever taken for them, whatever the files
    of a checkpoint are called.
    """
    if loaded.own is not None:
        return loaded.own
    settings = {
        "id": loaded.id,
        "weights": _checksum(loaded.model),
        "spec": loaded.model.spec.model_dump(mode="json"),
        "architecture": loaded.model.architecture.model_dump(mode="json"),
    }
    return store.make("to_native", settings, partial(_save, loaded.model))


def _checksum(model: MaskedImageModel) -> str:
    digest = xxhash.xxh3_128()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _save(model: MaskedImageModel, work: Path) -> None:
    native.save(work, model)
