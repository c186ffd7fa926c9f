"""The steps that `audit` and `infer` share: from settings to scores, and what both write into a report."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from mimia.arrays import Bools, Floats
from mimia.attacks.base import Scores
from mimia.attacks.registry import ATTACKS, make_attack
from mimia.compute import hardware, versions
from mimia.config import Recipe, Settings
from mimia.config_file import to_toml
from mimia.encoders.base import ModelSpec
from mimia.encoders.checkpoints import native
from mimia.errors import MimiaError
from mimia.images.imageset import ImageSet
from mimia.images.load import LoadedImages, load_images
from mimia.pretraining.models import pretrained, pretrained_shadows, spec_for
from mimia.report.gallery import make_gallery
from mimia.report.schema import Histogram, Model, Run
from mimia.signals.base import Shadows, Signals
from mimia.signals.distances import score_images
from mimia.splits import Role, Split
from mimia.store import Store

_BINS = 40
_FEWEST = 5  # images of a side: the blind baseline needs some in both of its halves


@dataclass(frozen=True)
class Bench:
    """What a run works with.

    Attributes:
        settings: Of the run.
        store: Where results are kept.
        loaded: All images.
        target: Checkpoint directory, or None if the target is to be trained here.
        started: When the run began, for its duration.
    """

    settings: Settings
    store: Store
    loaded: LoadedImages
    target: Path | None
    started: float = field(default_factory=time.monotonic)

    @property
    def images(self) -> ImageSet:
        """All images."""
        return self.loaded.images


@dataclass(frozen=True)
class Measured:
    """What models say of the images of a split.

    Attributes:
        checkpoints: Target first, then the shadows.
        target: Signals of the target, (1, images, draws).
        shadows: Signals of the shadows, with their membership.
    """

    checkpoints: tuple[Path, ...]
    target: Signals
    shadows: Shadows


def prepare(settings: Settings, sources: Sequence[str]) -> Bench:
    """Check the settings, open the target's description, and decode the images.

    Raises:
        MimiaError: An attack, a checkpoint or a source is not there, an attack needs more shadows, or the target takes
            images of another size.
    """
    started = time.monotonic()
    for name in settings.attacks.names:
        needed = make_attack(name).needs.shadows
        if needed > settings.shadows.count:
            raise MimiaError(
                f"The attack {name!r} needs {needed} shadow models and has {settings.shadows.count}: raise "
                "shadows.count, or leave the attack out of attacks.names."
            )
    if len(set(settings.attacks.names)) != max(1, len(settings.attacks.names)):
        raise MimiaError(
            f"attacks.names must have at least one attack, and each once: choose from {', '.join(ATTACKS)}."
        )
    store = Store(settings.store)
    wanted = settings.data.image_size
    if settings.target is None:
        return Bench(settings, store, load_images(sources, store, wanted), None, started)
    target = Path(settings.target).expanduser()
    spec = native.load_config(target).spec
    loaded = load_images(sources, store, wanted, spec.channels, size_if_mixed=spec.image_size)
    size = loaded.images.pixels.shape[-1]
    if size != spec.image_size:
        raise MimiaError(
            f"The target takes images of {spec.image_size}×{spec.image_size} pixels, and these have {size}×{size}: "
            f"pass --image-size {spec.image_size} to scale them, if the target's training images were scaled so too."
        )
    return Bench(settings, store, loaded, target, started)


def refuse_too_few(split: Split, *roles: Role) -> None:
    """Raise before anything is trained if a side is too small to be judged.

    Raises:
        MimiaError: Fewer than five images have one of the roles.
    """
    names = {"member": "members", "nonmember": "non-members", "candidate": "candidates", "holdout": "holdout images"}
    for role in roles:
        count = int(split.of(role).sum())
        if count < _FEWEST:
            raise MimiaError(
                f"At least {_FEWEST} {names[role]} are needed to judge by, and this split has {count}: give more "
                "images, or other numbers under [split]."
            )


def measure(bench: Bench, split: Split) -> Measured:
    """Pre-train what is not in the store yet, and score all images of the split by all models."""
    settings, images = bench.settings, bench.images
    if bench.target is None:
        members = images.take(split.rows[split.of("member")])
        recipe, spec = settings.recipe, spec_for(members, settings.recipe)
        target = pretrained(members, spec, recipe, recipe.seed, settings.compute, bench.store, "target")
    else:
        target = bench.target
        recipe, spec = _recipe_of(target, settings)
    shadows = pretrained_shadows(images, split, spec, recipe, settings.compute, bench.store)
    checkpoints = (target, *shadows)
    names = ["target", *(_shadow_name(number) for number in range(len(shadows)))]
    signals = score_images(checkpoints, images, split.rows, settings.signals, settings.compute, bench.store, names)
    return Measured(checkpoints, signals.of_model(0), Shadows(signals.without_model(0), split.membership))


def attack_images(settings: Settings, split: Split, measured: Measured) -> list[Scores]:
    """Fit each attack on the reference pool, and score all images but the shadows' own."""
    pool, judged = split.of("shadow", "holdout"), ~split.of("shadow")
    return [
        make_attack(name)
        .fit(measured.shadows.of_images(pool))
        .score(measured.target.of_images(judged), measured.shadows.of_images(judged))
        for name in settings.attacks.names
    ]


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
    target = native.load(measured.checkpoints[0])
    labels = {
        "members": "member",
        "non-members": "nonmember",
        "candidates": "candidate",
        "images of shadows": "shadow",
        "holdout": "holdout",
    }
    counts = {label: int((split.roles == role).sum()) for label, role in labels.items()}
    _, channels, height, width = images.pixels.shape
    return Run(
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=f"mimia {command} --config settings.toml",
        access="decoder (D1)",
        settings=settings.model_dump(mode="json"),
        settings_toml=to_toml(settings),
        models=tuple(
            _describe("target" if index == 0 else _shadow_name(index - 1), checkpoint)
            for index, checkpoint in enumerate(measured.checkpoints)
        ),
        image_shape=(channels, height, width),
        counts={label: count for label, count in counts.items() if count},
        duplicates=dict(split.duplicates),
        left_out=bench.loaded.left_out,
        split=split.fingerprint,
        masks=measured.target.masks,
        attacks_not_run=tuple(name for name in ATTACKS if name not in settings.attacks.names),
        histograms=tuple(histograms),
        gallery=make_gallery(target, exhibits, groups, scores, settings.signals),
        versions=versions(),
        hardware=hardware(settings.compute),
        seconds=time.monotonic() - bench.started,
    )


def _recipe_of(target: Path, settings: Settings) -> tuple[Recipe, ModelSpec]:
    """Give the target's own recipe where its directory tells it, so that the shadows are trained as it was."""
    training = native.load_training(target)
    spec = native.load_config(target).spec
    return (training.recipe if training else settings.recipe), spec


def _shadow_name(number: int) -> str:
    return f"shadow {number + 1}"


def _describe(name: str, checkpoint: Path) -> Model:
    training = native.load_training(checkpoint)
    identity = native.model_id(checkpoint)
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
    )
