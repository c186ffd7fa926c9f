"""What the target is good for, beside what a model without training and the pixels themselves are."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from mimia.arrays import Bools, Ids
from mimia.bench import Bench
from mimia.errors import MimiaError
from mimia.evaluation.utility import Utility, classify, explained_share
from mimia.images.imageset import ImageSet
from mimia.measuring import UNTRAINED, Measured
from mimia.recipes import usual_mask_ratio
from mimia.signals.kinds import Subject
from mimia.signals.sanity import errors_beside_ignorance
from mimia.splits import Split

PIXELS = "pixels"
_CHUNK = 256


def refuse_unlabelled(bench: Bench, split: Split) -> None:
    """Raise before anything is trained if images have no label by which the target's use is to be measured.

    Raises:
        MimiaError: Some have none.
    """
    if not bench.loaded.labels[split.apart.probe].all():
        raise MimiaError(
            "The use of a model is measured by images with labels, and the source of these does not tell all: put each "
            "class into a folder of its own, name the column of the parquet file 'label', or leave out split.n_probe."
        )


def downstream_use(bench: Bench, measured: Measured, split: Split) -> dict[str, Utility]:
    """Measure what the features of the target, of an untrained model and the pixels are good for.

    Reconstructions are asked for at the mask ratio that is usual for the family, so that targets compare that were
    trained at different ones.
    """
    rows = split.apart.probe
    if len(rows) == 0:
        return {}
    labels = bench.loaded.labels[rows]
    images, seed = bench.images.take(rows), bench.settings.evaluation.seed
    learning = np.arange(len(rows)) < len(rows) // 2  # their order was drawn
    sources = {"target": measured.trained["target"] or bench.embedder, UNTRAINED: measured.blank}
    found = {
        name: _use_of(Subject(name, source, bench.settings.compute), images, labels, learning, bench)
        for name, source in sources.items()
        if source is not None
    }
    pixels = images.pixels.reshape(len(images), -1).astype(np.float64)
    return found | {PIXELS: classify(pixels, labels, learning, seed)}


def _use_of(subject: Subject, images: ImageSet, labels: Ids, learning: Bools, bench: Bench) -> Utility:
    seed = bench.settings.evaluation.seed
    chunks = [images.pixels[start : start + _CHUNK] for start in range(0, len(images), _CHUNK)]
    found = classify(np.concatenate([subject.embed(chunk) for chunk in chunks]), labels, learning, seed)
    if not isinstance(subject.source, Path) or not subject.model.has_decoder:
        return found
    ratio = usual_mask_ratio(bench.recipe)
    errors = errors_beside_ignorance(subject.model, images, bench.settings.compute, ratio)
    return replace(found, explained=explained_share(*errors, seed))
