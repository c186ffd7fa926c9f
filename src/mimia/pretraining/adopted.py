"""Other people's models in the store, as directories of mimia: what comes after reads one format alone."""

from functools import partial
from pathlib import Path

from mimia.encoders.base import Reconstructor
from mimia.encoders.checkpoints import native
from mimia.encoders.checkpoints.opening import Opened
from mimia.store import Store


def adopted(opened: Opened, store: Store) -> Path:
    """Give the directory of a model in mimia's own format: its own, or a copy in the store."""
    if opened.own is not None:
        return opened.own
    settings = {
        "id": opened.id,
        "spec": opened.model.spec.model_dump(mode="json"),
        "architecture": opened.model.architecture.model_dump(mode="json"),
    }
    return store.make("adopted", settings, partial(_save, opened.model))


def _save(model: Reconstructor, work: Path) -> None:
    native.save(work, model)
