"""What every run writes into its report, beside its own results."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from mimia.arrays import Bools, Floats
from mimia.attacks.base import Scores
from mimia.bench import Bench
from mimia.compute import hardware, versions
from mimia.config import DecoderSource
from mimia.config_file import to_toml
from mimia.encoders.checkpoints import native
from mimia.measuring import Measured
from mimia.report.gallery import make_gallery
from mimia.report.schema import Histogram, Model, NotRun, Run
from mimia.splits import Split

_BINS = 40
_ACCESS: dict[DecoderSource, str] = {
    "own": "decoder (D1: the target's own decoder)",
    "shadow": "encoder (D2: a shadow's decoder)",
    "aligned": "encoder (D2: a shadow's decoder, behind a linear map of the latents)",
    "fitted": "encoder (D3: a decoder fitted to the frozen encoder)",
}


def histogram(scores: Scores, groups: dict[str, Bools]) -> Histogram:
    """Count an attack's scores; the threshold attack's are shown as the distances that they are."""
    is_distance = scores.attack == "threshold"
    sign = -1 if is_distance else 1
    values: Floats = sign * scores.values
    low, high = np.quantile(values, [0.001, 0.999])  # single far ones go into the outer bins
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    return Histogram(
        attack=scores.attack,
        quantity="distance" if is_distance else f"score of {scores.attack}",
        edges=tuple(edges.tolist()),
        counts={
            group: tuple(np.histogram(values[rows].clip(edges[0], edges[-1]), edges)[0].tolist())
            for group, rows in groups.items()
        },
        threshold=sign * scores.threshold,
    )


def record_run(
    bench: Bench,
    command: str,
    split: Split,
    measured: Measured,
    histograms: Sequence[Histogram],
    shown: Sequence[int],
    groups: Sequence[str],
    scores: Floats,
) -> Run:
    """Write down what every run records.

    Args:
        bench: What it worked with.
        command: Subcommand of the command line.
        split: Roles of the images.
        measured: Models and signals.
        histograms: Distributions of the scores.
        shown: Places in the split of the images for the gallery.
        groups: What the gallery calls each of them.
        scores: Their scores by the strongest attack.
    """
    settings, images = bench.settings, bench.images
    exhibits = images.take(split.rows[list(shown)])
    labels = {
        "members": "member",
        "non-members": "nonmember",
        "candidates": "candidate",
        "images of shadows": "shadow",
        "holdout": "holdout",
    }
    counts = {label: int((split.roles == role).sum()) for label, role in labels.items()}
    counts["known non-members"] = len(split.apart.known)
    _, channels, height, width = images.pixels.shape
    return Run(
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=f"mimia {command} --config settings.toml",
        access=_ACCESS[bench.decoder] if bench.embedder is None else "embeddings",
        settings=settings.model_dump(mode="json"),
        settings_toml=to_toml(settings),
        models=tuple(
            _describe(name, checkpoint, identity)
            for (name, checkpoint), identity in zip(measured.trained.items(), _identities(bench, measured), strict=True)
        ),
        assumed=bench.opened.assumed if bench.opened else (),
        image_shape=(channels, height, width),
        counts={label: count for label, count in counts.items() if count},
        duplicates=dict(split.duplicates),
        left_out=bench.loaded.left_out,
        split=split.fingerprint,
        masks=measured.evidence.target.masks,
        attacks_not_run=tuple(NotRun(attack=name, reason=reason) for name, reason in bench.not_run.items()),
        histograms=tuple(histograms),
        gallery=make_gallery(native.load(measured.read), exhibits, groups, scores, settings.signals)
        if measured.read is not None
        else (),
        versions=versions(),
        hardware=hardware(settings.compute),
        seconds=time.monotonic() - bench.started,
    )


def _identities(bench: Bench, measured: Measured) -> list[str]:
    """Name models by the weights of their files; a function, by its answers."""
    target, *others = measured.trained.values()
    if bench.opened is not None:
        first = bench.opened.id
    else:
        first = native.model_id(target) if target is not None else measured.evidence.target.models[0]
    return [first, *(native.model_id(path) for path in others if path is not None)]


def _describe(name: str, checkpoint: Path | None, identity: str) -> Model:
    training = native.load_training(checkpoint) if checkpoint is not None else None
    if training is None:
        return Model(name=name, id=identity)
    return Model(
        name=name,
        id=identity,
        images=training.images,
        seed=training.seed,
        losses=training.losses,
        seconds=training.seconds,
        hardware=training.hardware,
        privacy=training.privacy,
    )
