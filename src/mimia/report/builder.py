"""What the report of every run records, besides its own results."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from mimia.attacks.base import Scores
from mimia.config.settings import DecoderSource, Settings
from mimia.config.toml import to_toml
from mimia.data.account import SourceAccount
from mimia.data.imageset import ImageSet
from mimia.data.splits import Split
from mimia.models.checkpoints import native
from mimia.models.embedders import Embedder
from mimia.pipeline.check import NearDuplicates
from mimia.pipeline.collect import CollectedSignals
from mimia.pipeline.context import AuditContext
from mimia.pipeline.outcome import Outcome
from mimia.report.schema import Exhibit, Histogram, ImageSource, Model, NearDuplicatePictures, NotRun, Run
from mimia.report.sections.gallery.pictures import make_gallery, to_data_uri
from mimia.runtime.arrays import Bools, Floats, Indices
from mimia.runtime.compute import hardware, versions
from mimia.validity.absence import AbsenceCriterion

_BINS = 40
_PAIRS = 6  # of near-duplicates that are shown
_ACCESS: dict[DecoderSource, str] = {
    "own": "decoder (D1: the target's own decoder)",
    "shadow": "encoder (D2: a shadow's decoder)",
    "aligned": "encoder (D2: a shadow's decoder, behind a linear map of the latents)",
    "fitted": "encoder (D3: a decoder fitted to the frozen encoder)",
}


def histogram(scores: Scores, groups: Mapping[str, Bools]) -> Histogram:
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


@dataclass(frozen=True)
class Shown:
    """The images of the gallery.

    Attributes:
        rows: Rows of the image set, (images,).
        groups: What the gallery calls each of them.
        scores: Their scores by the deciding attack, (images,).
    """

    rows: Indices
    groups: Sequence[str]
    scores: Floats


def record_run(outcome: Outcome, command: str, groups: Mapping[str, Bools], shown: Shown) -> Run:
    """Return what the report of every run records.

    Args:
        outcome: The finished run.
        command: Subcommand of the command line that repeats it.
        groups: Which of the evaluated images belong to each group of the histograms.
        shown: Images of the gallery.
    """
    context, split, signals = outcome.context, outcome.split, outcome.signals
    settings, target = _as_run(outcome), context.target
    _, channels, height, width = context.images.pixels.shape
    return Run(
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=f"mimia {command} --config settings.toml",
        access="embeddings" if target.access == "embeddings" else _ACCESS[target.decoder],
        settings=settings.model_dump(mode="json"),
        settings_toml=to_toml(settings),
        models=tuple(_models(signals)),
        assumed=signals.models.target.assumed,
        notes=signals.models.target.notes + signals.models.notes,
        image_shape=(channels, height, width),
        counts=_counts(split),
        duplicates=dict(split.duplicates),
        sources=tuple(_source(account) for account in context.loaded.accounts),
        left_out=tuple(entry for account in context.loaded.accounts for entry in account.left_out),
        split=split.fingerprint,
        query_id=signals.inputs.target.query_id,
        attacks_not_run=tuple(NotRun(attack=name, reason=reason) for name, reason in context.not_run.items()),
        histograms=tuple(histogram(each, groups) for each in outcome.scores),
        gallery=_gallery(context, signals.queried_target, shown),
        versions=versions(),
        hardware=hardware(settings.compute),
        seconds=time.monotonic() - context.started,
    )


def _as_run(outcome: Outcome) -> Settings:
    """Return the settings with what a checkpoint's file said of the recipe, and what was chosen of the shadows."""
    settings, models = outcome.context.settings, outcome.signals.models
    shadows = settings.shadows.model_copy(update=dict(models.chosen))
    recipe = models.target.recipe if models.target.facts else settings.recipe
    return settings.model_copy(update={"recipe": recipe, "shadows": shadows})


def absence_criterion(outcome: Outcome) -> AbsenceCriterion:
    """Return what “no leak found” asks for in a run."""
    settings = outcome.context.settings.evaluation
    models = outcome.signals.models
    return AbsenceCriterion(settings.margin_auc, settings.margin_tpr, models.target.assumed, len(models.shadows))


def near_duplicate_pictures(images: ImageSet, near_duplicates: NearDuplicates) -> tuple[NearDuplicatePictures, ...]:
    """Return pictures of the pairs that are most alike."""
    rows = np.array(near_duplicates.pairs[:_PAIRS], dtype=np.intp).ravel()
    chosen = images.take(rows)
    shown = [(str(name), to_data_uri(pixels)) for name, pixels in zip(chosen.names, chosen.pixels, strict=True)]
    return tuple(
        NearDuplicatePictures(names=(first[0], second[0]), pictures=(first[1], second[1]))
        for first, second in zip(shown[::2], shown[1::2], strict=True)
    )


def _source(account: SourceAccount) -> ImageSource:
    return ImageSource(
        name=account.name, found=account.found, used=account.used, left_out=account.reasons, notes=account.notes
    )


def _counts(split: Split) -> dict[str, int]:
    evaluated = split.evaluated
    counts = {
        "members": len(evaluated.members),
        "non-members": len(evaluated.nonmembers),
        "candidates": len(evaluated.candidates),
        "images of shadows": len(split.shadow_pool),
        "holdout": len(evaluated.holdout),
        "population": len(split.auxiliary.population),
    }
    return {group: count for group, count in counts.items() if count}


def _gallery(context: AuditContext, queried: Path | Embedder, shown: Shown) -> tuple[Exhibit, ...]:
    if not isinstance(queried, Path):
        return ()
    images = context.images.take(shown.rows)
    return make_gallery(native.load(queried), images, shown.groups, shown.scores, context.settings.signals)


def _models(signals: CollectedSignals) -> Iterator[Model]:
    """Describe the models of a run, named by their weights; a function, by its answers."""
    models = signals.models
    if not models.target.checkpoints:
        yield Model(name="target", id=signals.inputs.target.models[0])
    for name, checkpoint in {**models.target.checkpoints, **models.compared, **models.online}.items():
        known = models.target.id if name == "target" else None
        yield _describe(name, checkpoint, known or native.model_id(checkpoint))


def _describe(name: str, checkpoint: Path, identity: str) -> Model:
    training = native.load_training(checkpoint)
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
