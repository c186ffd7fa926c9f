"""The first steps of an audit and an inference: from settings to models, signals and scores."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mimia.arrays import Bools
from mimia.attacks.base import Attack, Scores
from mimia.attacks.selection import Offer, select
from mimia.config import DecoderSource, Settings
from mimia.encoders.base import ModelSpec
from mimia.encoders.checkpoints import native
from mimia.encoders.checkpoints.opening import Opened, open_checkpoint
from mimia.encoders.embedders import Embedder, open_embedder
from mimia.encoders.tokenizer import Tokenizer
from mimia.errors import MimiaError
from mimia.images.imageset import ImageSet
from mimia.images.load import LoadedImages, load_images
from mimia.pretraining.adopted import adopted
from mimia.pretraining.decoder import with_decoders
from mimia.pretraining.models import (
    given_tokenizer,
    initial,
    pretrained,
    pretrained_online,
    pretrained_shadows,
    spec_for,
    tokenizer_of,
)
from mimia.recipes import RECIPES, Family, Recipe
from mimia.seeds import derived_seed
from mimia.signals.base import AccessLevel, Evidence, Shadows
from mimia.signals.kinds import Asking, Subject
from mimia.signals.sanity import check_reconstruction
from mimia.signals.scoring import score_images
from mimia.splits import Role, Split, Wanted
from mimia.store import Store

_FAMILIES: dict[Family, str] = {"mae": "mae", "simmim": "simmim", "swin": "transformers", "beit": "beit"}
_FEWEST = 5  # images of a side: the blind baseline needs some in both of its halves
UNTRAINED = "untrained model"
_CONTROLS = 500  # images of a side that the untrained model is asked about
_ORDINARY = 128  # images that a target of other people's has to reconstruct better than the mean colour does


@dataclass(frozen=True)
class Bench:
    """What a run works with.

    Attributes:
        settings: Of the run.
        store: Where results are kept.
        loaded: All images.
        opened: The target, or None if it is to be trained here or is a function to vectors.
        embedder: The target as a function from images to vectors, or None if there is more of it.
        decoder: Whose decoder reconstructs.
        attacks: What is run, by name.
        not_run: Why each other attack is not.
        started: When the run began, for its duration.
    """

    settings: Settings
    store: Store
    loaded: LoadedImages
    opened: Opened | None
    embedder: Embedder | None
    decoder: DecoderSource
    attacks: Mapping[str, Attack]
    not_run: Mapping[str, str]
    started: float = field(default_factory=time.monotonic)

    @property
    def images(self) -> ImageSet:
        """All images."""
        return self.loaded.images

    @property
    def access(self) -> AccessLevel:
        """Access level to the target."""
        return "embeddings" if self.embedder is not None else _access(self.decoder)

    @property
    def wanted(self) -> Wanted:
        """What the run needs of its split."""
        return Wanted(
            shadows=self.settings.shadows.count,
            online=self.settings.shadows.online if any(attack.needs.online for attack in self.attacks.values()) else 0,
            decoders=self.decoder in ("fitted", "aligned"),
            known=any(attack.needs.known for attack in self.attacks.values()),
        )


@dataclass(frozen=True)
class Untrained:
    """What a model without training says in the target's place, which cannot be membership.

    Attributes:
        evidence: On some of the images, with the shadows as references.
        chosen: Which of the judged images these are, (judged,).
    """

    evidence: Evidence
    chosen: Bools


@dataclass(frozen=True)
class Measured:
    """What models say of the images of a split.

    Attributes:
        trained: Checkpoint directories as they were trained, by what a reader calls the models, the target first; None
            for one that is a function.
        read: The target with the decoder by which it was read; None if it is a function.
        pool: What the shadows say of the reference pool.
        evidence: What target and shadows say of the images that are judged, and of those that are known to be no
            members.
        online: The same with the models of the online attacks, if there are any.
        untrained: The same with an untrained model in the target's place; None if the target is a function, of which
            there is no untrained copy, or if online attacks alone are run.
    """

    trained: Mapping[str, Path | None]
    read: Path | None
    pool: Shadows
    evidence: Evidence
    online: Evidence | None
    untrained: Untrained | None


def prepare(settings: Settings, sources: Sequence[str]) -> Bench:
    """Check the settings, open the target's description, and decode the images.

    Raises:
        MimiaError: An attack, a checkpoint or a source is not there, an attack needs more shadows, or the target takes
            images of another size.
    """
    started = time.monotonic()
    store = Store(settings.store)
    wanted = settings.data.image_size
    if settings.embeddings is not None:
        attacks, not_run = _attacks(settings, "embeddings")
        embedder = open_embedder(settings.embeddings)
        loaded = load_images(sources, store, wanted)
        return Bench(settings, store, loaded, None, embedder, "own", attacks, not_run, started)
    if settings.target is None:
        decoder = settings.decoder.source or "own"
        attacks, not_run = _attacks(settings, _access(decoder))
        loaded = load_images(sources, store, wanted)
        return Bench(settings, store, loaded, None, None, decoder, attacks, not_run, started)
    opened = open_checkpoint(settings.target, settings.checkpoint)
    decoder = settings.decoder.source or ("own" if opened.access == "decoder" else "fitted")
    if decoder == "own" and opened.access == "encoder":
        raise MimiaError(
            f"{settings.target} has no decoder of its own: leave out decoder.source (--decoder), and one is fitted."
        )
    attacks, not_run = _attacks(settings, _access(decoder))
    _refuse_other_family(opened, settings)
    spec = opened.model.spec
    loaded = load_images(sources, store, wanted, spec.channels, size_if_mixed=spec.image_size)
    size = loaded.images.pixels.shape[-1]
    if size != spec.image_size:
        raise MimiaError(
            f"The target takes images of {spec.image_size}×{spec.image_size} pixels, and these have {size}×{size}: "
            f"pass --image-size {spec.image_size} to scale them, if the target's training images were scaled so too."
        )
    return Bench(settings, store, loaded, opened, None, decoder, attacks, not_run, started)


def _access(decoder: DecoderSource) -> AccessLevel:
    return "decoder" if decoder == "own" else "encoder"


def _attacks(settings: Settings, access: AccessLevel) -> tuple[dict[str, Attack], dict[str, str]]:
    return select(settings.attacks.names, Offer(access, settings.shadows.count, settings.shadows.online))


def refuse_too_few(split: Split, *roles: Role) -> None:
    """Raise before anything is trained if a side is too small to be judged.

    Raises:
        MimiaError: Fewer than five images have one of the roles.
    """
    names = {"member": "members", "nonmember": "non-members", "candidate": "candidates", "holdout": "holdout images"}
    counts = {names[role]: int(split.of(role).sum()) for role in roles}
    if len(split.known_rows):
        counts["known non-members"] = len(split.known_rows)
    for name, count in counts.items():
        if count < _FEWEST:
            raise MimiaError(
                f"At least {_FEWEST} {name} are needed to judge by, and this split has {count}: give more images, or "
                "other numbers under [split]."
            )


def measure(bench: Bench, split: Split) -> Measured:
    """Pre-train what is not in the store yet, and ask all models about all images of the split."""
    settings, images, store = bench.settings, bench.images, bench.store
    target, recipe, spec = _target(bench, split)
    tokenizer = None if target is None else tokenizer_of(target)
    members = _training_size(target, split)
    shadows = _numbered("shadow", pretrained_shadows(images, split, spec, recipe, settings.compute, store, tokenizer))
    online = _numbered(
        "online", pretrained_online(images, split, spec, recipe, members, settings.compute, store, tokenizer)
    )
    own = {} if target is None else {"target": target}
    blank = {} if target is None else {UNTRAINED: _blank(bench, split, spec, recipe, tokenizer)}
    read = own | shadows | online | blank
    if bench.decoder != "own":
        fitting = images.take(split.decoder_rows)
        decoding = settings.decoder.model_copy(update={"source": bench.decoder})
        read = with_decoders(read, list(shadows.values()), fitting, recipe, decoding, settings.compute, store)
    sources: Mapping[str, Path | Embedder] = read if bench.embedder is None else {"target": bench.embedder, **read}
    subjects = {name: Subject(name, source, settings.compute) for name, source in sources.items()}

    asking = Asking(settings.signals, recipe, settings.compute, spec)
    asked = _ask(bench, asking, [subjects[name] for name in ("target", *shadows)], split, split.membership)
    return Measured(
        trained={"target": target, **shadows, **online},
        read=read.get("target"),
        pool=asked.references.of_images(split.of("shadow", "holdout")),
        evidence=asked.of_images(split.judged),
        online=_ask(
            bench, asking, [subjects[name] for name in ("target", *online)], split, split.online, online=True
        ).of_images(split.judged)
        if online
        else None,
        untrained=_ask_untrained(bench, asking, subjects[UNTRAINED], split, asked) if blank else None,
    )


def _numbered(role: str, checkpoints: Sequence[Path]) -> dict[str, Path]:
    """Give what a reader calls each model: ``shadow 1`` and so on."""
    return {f"{role} {number}": checkpoint for number, checkpoint in enumerate(checkpoints, start=1)}


def _blank(bench: Bench, split: Split, spec: ModelSpec, recipe: Recipe, tokenizer: Tokenizer | None) -> Path:
    """Give a model of the shadows' kind before its training."""
    half = bench.images.take(split.rows[split.membership[0]])
    return initial(half, spec, recipe, derived_seed(recipe.seed, UNTRAINED), bench.store, tokenizer)


def _target(bench: Bench, split: Split) -> tuple[Path | None, Recipe, ModelSpec]:
    """Give the target's directory, unless it is a function, and what the shadows are trained by."""
    settings, images, store = bench.settings, bench.images, bench.store
    if bench.embedder is not None:
        return None, settings.recipe, spec_for(images.take(split.rows[split.of("shadow")]), settings.recipe)
    if bench.opened is None:
        members = images.take(split.rows[split.of("member")])
        recipe, spec = settings.recipe, spec_for(members, settings.recipe)
        tokenizer = given_tokenizer(settings, spec)
        return (
            pretrained(members, spec, recipe, recipe.seed, settings.compute, store, "target", tokenizer),
            recipe,
            spec,
        )
    target = adopted(bench.opened, store)
    if bench.decoder == "own" and native.load_training(target) is None:
        ordinary = images.take(split.rows[split.of("holdout")][:_ORDINARY])
        check_reconstruction(native.load(target), ordinary, settings.compute)
    return (target, *_recipe_of(target, settings))


def _training_size(target: Path | None, split: Split) -> int:
    """Count the images that the target was trained on, or those of a shadow where nobody knows."""
    training = None if target is None else native.load_training(target)
    return int(split.membership[0].sum()) if training is None else training.images


def _ask(
    bench: Bench,
    asking: Asking,
    subjects: Sequence[Subject],
    split: Split,
    membership: Bools,
    *,
    online: bool = False,
) -> Evidence:
    """Ask a target and its references all that the attacks of one sort need, of the split and of known non-members."""
    kinds, learning = _kinds(bench, online)
    known = None
    if learning:
        signals = score_images(learning, subjects, bench.images, split.known_rows, asking, bench.store)
        unseen = np.zeros((len(subjects) - 1, len(split.known_rows)), dtype=bool)
        known = Evidence(signals.of_model(0), Shadows(signals.without_model(0), unseen))
    signals = score_images(kinds, subjects, bench.images, split.rows, asking, bench.store)
    return Evidence(signals.of_model(0), Shadows(signals.without_model(0), membership), known)


def _ask_untrained(bench: Bench, asking: Asking, subject: Subject, split: Split, asked: Evidence) -> Untrained | None:
    """Ask a model without training the same about some images of each side, and about all known non-members."""
    kinds, learning = _kinds(bench, online=False)
    if not kinds:
        return None
    generator = np.random.default_rng(bench.settings.evaluation.seed)
    sides: tuple[Role, Role] = ("candidate", "holdout") if split.of("candidate").any() else ("member", "nonmember")
    chosen = np.zeros(len(split.rows), dtype=bool)
    for side in sides:
        chosen[generator.permutation(np.flatnonzero(split.of(side)))[:_CONTROLS]] = True
    known = None
    if learning:
        assert asked.known is not None
        signals = score_images(learning, [subject], bench.images, split.known_rows, asking, bench.store)
        known = Evidence(signals, asked.known.references)
    signals = score_images(kinds, [subject], bench.images, split.rows[chosen], asking, bench.store)
    return Untrained(Evidence(signals, asked.references.of_images(chosen), known), chosen[split.judged])


def _kinds(bench: Bench, online: bool) -> tuple[list[str], list[str]]:
    """Name the signals that the attacks of one sort need of all images, and of known non-members."""
    needs = [attack.needs for attack in bench.attacks.values() if attack.needs.online == online]
    wanted = {kind for each in needs for kind in each.signals}
    return sorted(wanted), sorted({kind for each in needs if each.known for kind in each.signals})


def attack_images(bench: Bench, measured: Measured) -> list[Scores]:
    """Fit each attack, and score all images that are judged."""
    return [_attack(attack, measured) for attack in bench.attacks.values()]


def _attack(attack: Attack, measured: Measured) -> Scores:
    if attack.needs.online:  # its models know which of the very images that are judged they saw
        assert measured.online is not None
        evidence, shadows = measured.online, measured.online.references
    else:
        evidence, shadows = measured.evidence, measured.pool
    known = evidence.known.references if attack.needs.known and evidence.known is not None else None
    return attack.fit(shadows, known).score(evidence)


def _recipe_of(target: Path, settings: Settings) -> tuple[Recipe, ModelSpec]:
    """Give the target's own recipe where its directory tells it, so that the shadows are trained as it was."""
    training = native.load_training(target)
    spec = native.load_config(target).spec
    return (training.recipe if training else settings.recipe), spec


def _refuse_other_family(opened: Opened, settings: Settings) -> None:
    """Refuse shadows that would be trained by another method than the target: their distances do not compare."""
    if opened.own is not None and native.load_training(opened.own) is not None:
        return  # it tells the recipe
    family = opened.model.architecture.model_dump()["family"]
    if _FAMILIES[settings.recipe.family] != family:
        fitting = [name for name, recipe in RECIPES.items() if _FAMILIES[recipe.get("family", "mae")] == family]
        raise MimiaError(
            f"The target ({opened.layout}) is of another family than the recipe {settings.recipe.preset}, by which its "
            f"shadows are to be trained: pass --recipe with one of {', '.join(fitting)}."
        )
