"""Models that somebody else trained and that saw none of the images, to compare the target with."""

from collections.abc import Mapping
from pathlib import Path

from mimia.config.settings import Settings
from mimia.data.imageset import ImageSet
from mimia.models.base import MaskedImageModel
from mimia.models.checkpoints.identification import identify
from mimia.models.checkpoints.loading import LoadedCheckpoint, ModelSource, load_checkpoint
from mimia.pipeline.target import ReadyTarget
from mimia.pretraining.pool import tokenizer_of
from mimia.pretraining.to_native import to_native
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store
from mimia.signals.arrays import AccessLevel

_OF_IMAGES = ("image_size", "channels")
_OF_ERRORS = ("patch_size", "target_space")
"""What the specs of target and reference have in common where their errors are compared."""


def open_references(
    settings: Settings, given: Mapping[str, ModelSource], access: AccessLevel
) -> dict[str, LoadedCheckpoint]:
    """Return the references by their names in reports.

    What the settings say of the target's checkpoint is taken to hold for them too, except which weights to take.

    Args:
        settings: Settings of the run; they name the references.
        given: Models in memory, by what the settings call them.
        access: What the adversary has of the target.

    Raises:
        MimiaError: A checkpoint is not there, cannot be read, or has no decoder where the target's own is used.
    """
    stated = settings.checkpoint.model_copy(update={"weights": None})
    found = {}
    for number, name in enumerate(settings.references, start=1):
        loaded = load_checkpoint(given.get(name, name), stated)
        if access == "decoder" and loaded.access == "encoder":
            raise MimiaError(
                f"The reference {name} has no decoder, and the target is audited with its own: leave it out, or set "
                "decoder.source to fitted (--decoder)."
            )
        found[f"reference {number}"] = loaded
    return found


def ready_references(
    references: Mapping[str, LoadedCheckpoint], target: ReadyTarget, images: ImageSet, settings: Settings, store: Store
) -> dict[str, Path]:
    """Return the references in mimia's own format, by name.

    Args:
        references: As opened.
        target: What they are compared with.
        images: Images by which is found out what a checkpoint does not say.
        settings: Settings of the run.
        store: Where they are kept.

    Raises:
        MimiaError: The pixels do not say what a checkpoint does not, two models are the same, or a reference does not
            fit the target.
    """
    ready: dict[str, Path] = {}
    names = {target.id: "the target"}
    for (name, loaded), given in zip(references.items(), settings.references, strict=True):
        loaded = identify(loaded, images, settings.compute)
        if loaded.id in names:
            raise MimiaError(f"The reference {given} is {names[loaded.id]} itself: pass a model of other weights.")
        names[loaded.id] = name
        _refuse_unfit(given, loaded.model, target)
        ready[name] = to_native(loaded, store)
        own = tokenizer_of(ready[name])
        if target.tokenizer is not None and own is not None and own.fingerprint != target.tokenizer.fingerprint:
            raise MimiaError(
                f"The reference {given} predicts tokens of another tokenizer than the target: leave it out."
            )
    return ready


def _refuse_unfit(name: str, model: MaskedImageModel, target: ReadyTarget) -> None:
    compared = {"family": (model.architecture.family, target.architecture.family)} if target.architecture else {}
    for field in _OF_IMAGES if target.architecture is None else (*_OF_IMAGES, *_OF_ERRORS):
        compared[field] = getattr(model.spec, field), getattr(target.spec, field)
    for what, (own, wanted) in compared.items():
        if own != wanted:
            raise MimiaError(
                f"The reference {name} does not compare with the target: its {what.replace('_', ' ')} is {own}, and "
                f"the target's is {wanted}. If a file does not say it and it was taken wrongly, state it under "
                "[checkpoint]; otherwise leave this reference out."
            )
