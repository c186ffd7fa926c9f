"""What the target is good for, beside what a model without training and the pixels themselves are."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mimia.config.recipes import usual_mask_ratio
from mimia.data.imageset import ImageSet
from mimia.data.splits import Split
from mimia.evaluation.downstream import Utility, classify, explained_proportion
from mimia.evaluation.intervals import Estimate
from mimia.models.relative_error import reconstruction_errors
from mimia.pipeline.collect import CollectedSignals
from mimia.pipeline.context import AuditContext
from mimia.runtime.arrays import Floats, Ids
from mimia.signals.queried import QueriedModel

if TYPE_CHECKING:
    from mimia.models.embedders import Embedder

PIXELS = "pixels"
_CHUNK = 256
_NO_LABELS = Estimate(None, note="no labels")
_ONE_CLASS = Estimate(None, note="one class alone")


def downstream_use(context: AuditContext, split: Split, signals: CollectedSignals) -> dict[str, Utility]:
    """Measure what the features of the target, of an untrained model and the pixels are good for.

    Reconstructions are asked for at the mask ratio that is usual for the family, so that targets compare that were
    trained at different ones. Where a source tells no classes, they are all that is measured.
    """
    rows = split.auxiliary.probe
    if len(rows) == 0:
        return {}
    images, labels = context.images.take(rows), context.loaded.labels[rows]
    sources: dict[str, Path | Embedder] = {"target": signals.models.target.source, **signals.models.untrained}
    found = {
        name: _use_of(QueriedModel(name, source, context.settings.compute), images, labels, context)
        for name, source in sources.items()
    }
    pixels = images.pixels.reshape(len(images), -1).astype(np.float64)
    return found | {PIXELS: _read(pixels, labels, context)}


def _use_of(queried: QueriedModel, images: ImageSet, labels: Ids, context: AuditContext) -> Utility:
    chunks = [images.pixels[start : start + _CHUNK] for start in range(0, len(images), _CHUNK)]
    found = _read(np.concatenate([queried.embed(chunk) for chunk in chunks]), labels, context)
    if not isinstance(queried.source, Path) or not queried.model.has_decoder:
        return found
    ratio = usual_mask_ratio(context.target.recipe)
    errors = reconstruction_errors(queried.model, images, context.settings.compute, mask_ratio=ratio)
    return replace(
        found, explained=explained_proportion(errors.own, errors.uninformed, context.settings.evaluation.seed)
    )


def _read(features: Floats, labels: Ids, context: AuditContext) -> Utility:
    learning = np.arange(len(labels)) < len(labels) // 2  # their order was drawn
    if not labels.all():
        return Utility(_NO_LABELS, _NO_LABELS)
    if len(np.unique(labels[learning])) == 1:  # a folder of images in a folder, say
        return Utility(_ONE_CLASS, _ONE_CLASS)
    return classify(features, labels, learning, context.settings.evaluation.seed)
