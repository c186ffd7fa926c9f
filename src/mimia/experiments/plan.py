"""What audits of experiments take, from their settings alone: trainings, scoring, and how long these are here.

No image is opened. What two audits share is the same value, and is counted once, as the store keeps it once.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mimia.audit import sources_of
from mimia.bench import attacks_of, wanted_by
from mimia.config import SignalSettings, read_settings
from mimia.errors import MimiaError
from mimia.experiments.grid import IMAGE_SIZES, Cell, Profile
from mimia.experiments.registry import EXPERIMENTS
from mimia.experiments.results import has_result
from mimia.experiments.speed import Machine, Shape
from mimia.measuring import CONTROLS, kinds_of
from mimia.pretraining.loop import steps_per_epoch
from mimia.pretraining.models import as_long
from mimia.recipes import Recipe
from mimia.splits import reference_sizes
from mimia.store import Store

Role = Literal["target", "shadow", "online", "teacher", "decoder", "latent decoder", "untrained"]
"""What a model is in an audit; a decoder is fitted to one of the others, and a cross-fitted one has teachers."""

_DIGITS = "digits"
_MODELS = {"target", "shadow", "online", "teacher"}


@dataclass(frozen=True)
class Training:
    """A model, by all that decides over its weights: equal ones are trained once.

    Attributes:
        role: What it is in an audit.
        number: Among those of its role.
        drawn: Sources, numbers and seed by which its images are drawn, and what they decide over else.
        images: How many it is trained on.
        shape: Of each.
        recipe: How it is trained, without the name of a preset.
    """

    role: Role
    number: int
    drawn: tuple[Any, ...]
    images: int
    shape: Shape
    recipe: Recipe

    @property
    def steps(self) -> int:
        """Steps until it is left."""
        return (self.recipe.stop_epoch or self.recipe.epochs) * steps_per_epoch(self.images, self.recipe)

    @property
    def whole(self) -> "Training":
        """The same training, if it is not left early."""
        return replace(self, recipe=self.recipe.model_copy(update={"stop_epoch": None}))


@dataclass(frozen=True)
class Scoring:
    """One kind of question to a model about some images.

    Attributes:
        model: Which is asked.
        kind: Of the signals.
        asked: Recipe of the models that are asked so, with the size of this one.
        signals: Number of draws.
        drawn: Whose decoder it has; sources, numbers and seed by which the images are drawn.
        images: How many.
    """

    model: Training
    kind: str
    asked: Recipe
    signals: SignalSettings
    drawn: tuple[Any, ...]
    images: int


Work = frozenset[Training | Scoring]
"""What an audit takes."""


def work_of(cell: Cell) -> Work | None:
    """Give what an audit takes, or None if its settings do not tell, or are wrong."""
    try:
        settings = read_settings(None, cell.settings)
        sources = sources_of(settings)
        decoder = settings.decoder.source or "own"
        attacks = attacks_of(settings, decoder)[0].values()
    except MimiaError:  # which is told when it is run
        return None
    split = settings.split
    sizes = {IMAGE_SIZES.get(Path(source).name) for source in sources.values()}
    size = settings.data.image_size or (sizes.pop() if len(sizes) == 1 else None)
    wanted = wanted_by(settings, attacks, decoder, settings.recipe)
    fitting = (split.n_decoder or 0) if wanted.decoders else 0
    if size is None or split.n_members is None or split.n_nonmembers is None or (wanted.decoders and not fitting):
        return None
    half, holdout, known = reference_sizes(split, split.n_members, wanted)
    judged = split.n_members + split.n_nonmembers + holdout
    shape = (1 if {*sources.values()} == {_DIGITS} else 3, size, size)

    own, pool = (
        next((side, sources[side]) for side in sides if side in sources)
        for sides in (("source", "members"), ("reference", "nonmembers", "source"))
    )
    stopped_by = split.n_validation if wanted.validation else None
    of_target = (own, split.seed, split.n_members, settings.data.near_duplicates, stopped_by)
    of_shadows = (*of_target, pool, half)
    of_judged = (*of_shadows, sources.get("nonmembers"), split.n_nonmembers, holdout)
    of_known = (*of_judged, fitting, known)

    recipe = settings.recipe.model_copy(update={"preset": ""})
    imitated = settings.shadows.imitating(recipe)
    of_online = as_long(imitated, split.n_members, judged // 2)
    target = Training("target", 0, of_target, split.n_members, shape, recipe)
    untrained = Training("untrained", 0, of_target, 0, shape, imitated)
    shadows = [Training("shadow", number, of_shadows, half, shape, imitated) for number in range(wanted.shadows)]
    online = [Training("online", number, of_judged, judged // 2, shape, of_online) for number in range(wanted.online)]
    offline = [target, *shadows]

    kinds, learning = kinds_of(attacks, online=False)
    online_kinds, online_learning = kinds_of(attacks, online=True)
    controls = sum(min(CONTROLS, count) for count in (split.n_members, split.n_nonmembers))
    scoring = {
        Scoring(
            model,
            kind,
            imitated.model_copy(update={"size": model.recipe.size}),
            settings.signals,
            (decoder, *drawn),  # a model with another decoder is another model
            images,
        )
        for models, names, drawn, images in (
            (offline, kinds, of_shadows, 2 * half),
            (offline, kinds, of_judged, judged),
            ([*offline, untrained], learning, of_known, known),
            ([untrained], kinds, of_judged, controls),
            ([target, *online], online_kinds, of_judged, judged),
            ([target, *online], online_learning, of_known, known),
        )
        for model in models
        for kind in names
    }
    encoders: dict[Role, list[Training]] = {
        "decoder": [*offline, *online, untrained] if decoder == "fitted" else [],
        "latent decoder": [*offline, untrained] if "latents" in kinds else [],
    }
    # A step is about as long as one of the whole model.
    fit = settings.decoder.model_dump(include={"epochs", "batch_size"})
    fitted = {
        Training(role, 0, (model, fitting), fitting, shape, model.recipe.undefended.model_copy(update=fit))
        for role, models in encoders.items()
        for model in models
    }
    teachers = {  # those of one pair are among those of more
        Training(
            "teacher",
            number,
            (model.role, model.number, *model.drawn),
            model.images // 2,
            shape,
            as_long(model.recipe.undefended, model.images, model.images // 2),
        )
        for model in (*offline, *online)
        for number in range(2 * model.recipe.cross_fits)
    }
    return frozenset({target, *shadows, *online, *teachers, *fitted, *scoring})


def trainings(works: Iterable[Work | None]) -> set[Training]:
    """Give the different models of audits, without decoders."""
    pieces = {piece for work in works for piece in work or ()}
    return {piece for piece in pieces if isinstance(piece, Training) and piece.role in _MODELS}


def seconds_of(works: Sequence[Work | None], there: Iterable[Work | None], machine: Machine) -> list[float | None]:
    """Estimate how long audits take, one after the other: what an earlier one did takes no time.

    Args:
        works: What each takes.
        there: What is done already.
        machine: On which they are run.

    Returns:
        Seconds of each, and None of one of which too little is known.
    """
    done = {piece for work in there for piece in work or ()}
    estimates: list[float | None] = []
    for work in works:
        try:
            pieces = None if work is None else [_seconds(piece, done, machine) for piece in work - done]
            estimates.append(None if pieces is None else math.fsum(pieces))  # exact, so in any order the same
        except Exception:  # whatever it is, a recipe that does not fit or a lack of memory, is told at the run
            estimates.append(None)
        done |= work or set()
    return estimates


def _seconds(piece: Training | Scoring, done: Collection[Training | Scoring], machine: Machine) -> float:
    if isinstance(piece, Scoring):
        return piece.images * machine.seconds_an_image(piece.kind, piece.asked, piece.model.shape, piece.signals)
    stopped = (each for each in done if isinstance(each, Training) and each.recipe.stop_epoch is not None)
    gone_on_from = (each.steps for each in stopped if each.steps < piece.steps and each.whole == piece.whole)
    steps = piece.steps - max(gone_on_from, default=0)
    batch = piece.images // steps_per_epoch(piece.images, piece.recipe)
    return steps * machine.seconds_a_step(piece.recipe, piece.shape, batch)


def overview(profile: Profile, data: Path, results: Path, common: Mapping[str, Any]) -> list[dict[str, str]]:
    """Tell what each experiment takes, a row an experiment, and the last for all of them.

    Args:
        profile: How large.
        data: Folder of the data files, which need not be there.
        results: Folder of all results; what has one takes no time.
        common: Settings of store and compute.
    """
    settings = read_settings(None, common)
    machine = Machine(settings.compute, Store(settings.store))
    works: dict[str, list[Work | None]] = {}
    done: dict[str, list[bool]] = {}
    for name, experiment in EXPERIMENTS.items():
        cells = experiment.cells(profile, data)
        works[name] = [work_of(cell) for cell in cells]
        done[name] = [is_done(cell, results / profile / name / f"{cell.name}.json") for cell in cells]
    there = [work for name in works for work, is_there in zip(works[name], done[name], strict=True) if is_there]

    def row(experiment: str, names: Iterable[str], question: str) -> dict[str, str]:
        taken = [(work, is_there) for name in names for work, is_there in zip(works[name], done[name], strict=True)]
        left = seconds_of([work for work, is_there in taken if not is_there], there, machine)
        return {
            "experiment": experiment,
            "audits": str(len(taken)),
            "done": str(len(taken) - len(left)),
            "trainings": str(len(trainings(work for work, _ in taken))),
            "time here": about(left),
            "question": question,
        }

    rows = [row(name, [name], experiment.question) for name, experiment in EXPERIMENTS.items()]
    return [*rows, row("all", EXPERIMENTS, "Trainings that experiments share are counted once.")]


def missing_data(profile: Profile, data: Path) -> list[Path]:
    """Give the data files that experiments name, and that are not there."""
    cells = [cell for experiment in EXPERIMENTS.values() for cell in experiment.cells(profile, data)]
    named = {Path(source) for cell in cells for source in sources_of(read_settings(None, cell.settings)).values()}
    return sorted(path for path in named - {Path(_DIGITS)} if not path.exists())


def about(seconds: Iterable[float | None]) -> str:
    """Tell a sum of times to a reader, roughly; it is unknown if one of them is.

    >>> about([100.0, 7100.0]), about([600.0, None]), about([])
    ('about 2 h', '?', 'none')
    """
    together = 0.0
    for each in seconds:
        if each is None:
            return "?"
        together += each
    minutes = math.ceil(together / 60)
    if minutes < 120:
        return f"about {minutes} min" if minutes else "none"
    return f"about {round(minutes / 60)} h"


def is_done(cell: Cell, path: Path) -> bool:
    """Tell whether an audit has a result that can be read."""
    try:
        return has_result(cell, path)
    except (MimiaError, OSError):  # which is told when it is run
        return False
