"""What the target is good for, beside what a model without training and the pixels themselves are."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from mimia.arrays import Floats, Ids
from mimia.bench import Bench
from mimia.evaluation.estimate import Estimate
from mimia.evaluation.utility import Utility, classify, explained_share
from mimia.images.imageset import ImageSet
from mimia.measuring import UNTRAINED, Measured
from mimia.recipes import usual_mask_ratio
from mimia.signals.kinds import Subject
from mimia.signals.sanity import errors_beside_ignorance
from mimia.splits import Split

PIXELS = "pixels"
_CHUNK = 256
_NO_LABELS = Estimate(None, note="no labels")
_ONE_CLASS = Estimate(None, note="one class alone")


def downstream_use(bench: Bench, measured: Measured, split: Split) -> dict[str, Utility]:
    """Measure what the features of the target, of an untrained model and the pixels are good for.

    Reconstructions are asked for at the mask ratio that is usual for the family, so that targets compare that were
    trained at different ones. Where a source tells no classes, they are all that is measured.
    """
    rows = split.apart.probe
    if len(rows) == 0:
        return {}
    images, labels = bench.images.take(rows), bench.loaded.labels[rows]
    sources = {"target": measured.trained["target"] or bench.embedder, UNTRAINED: measured.blank}
    found = {
        name: _use_of(Subject(name, source, bench.settings.compute), images, labels, bench)
        for name, source in sources.items()
        if source is not None
    }
    pixels = images.pixels.reshape(len(images), -1).astype(np.float64)
    return found | {PIXELS: _read(pixels, labels, bench)}


def _use_of(subject: Subject, images: ImageSet, labels: Ids, bench: Bench) -> Utility:
    chunks = [images.pixels[start : start + _CHUNK] for start in range(0, len(images), _CHUNK)]
    found = _read(np.concatenate([subject.embed(chunk) for chunk in chunks]), labels, bench)
    if not isinstance(subject.source, Path) or not subject.model.has_decoder:
        return found
    ratio = usual_mask_ratio(bench.recipe)
    errors = errors_beside_ignorance(subject.model, images, bench.settings.compute, ratio)
    return replace(found, explained=explained_share(*errors, bench.settings.evaluation.seed))


def _read(features: Floats, labels: Ids, bench: Bench) -> Utility:
    learning = np.arange(len(labels)) < len(labels) // 2  # their order was drawn
    if not labels.all():
        return Utility(_NO_LABELS, _NO_LABELS)
    if len(np.unique(labels[learning])) == 1:  # a folder of images in a folder, say
        return Utility(_ONE_CLASS, _ONE_CLASS)
    return classify(features, labels, learning, bench.settings.evaluation.seed)
