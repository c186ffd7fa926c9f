"""The middle of an audit and an inference: from a split to models, signals and scores."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mimia.arrays import Bools
from mimia.attacks.base import Attack, Scores
from mimia.bench import Bench
from mimia.encoders.base import ModelSpec
from mimia.encoders.checkpoints import native
from mimia.encoders.tokenizer import Tokenizer
from mimia.pretraining.adopted import adopted
from mimia.pretraining.decoder import with_decoders, with_latent_decoders
from mimia.pretraining.models import (
    given_tokenizer,
    initial,
    pretrained,
    pretrained_online,
    pretrained_shadows,
    tokenizer_of,
)
from mimia.pretraining.specs import spec_for, with_mask_ratio
from mimia.recipes import Recipe
from mimia.seeds import derived_seed
from mimia.signals.base import Evidence, Shadows
from mimia.signals.kinds import Asking, Subject
from mimia.signals.measures import refuse_unmeasurable
from mimia.signals.sanity import check_reconstruction
from mimia.signals.scoring import score_images
from mimia.splits import Role, Split

if TYPE_CHECKING:
    from mimia.encoders.embedders import Embedder

UNTRAINED = "untrained model"
CONTROLS = 500
"""Images of a side that the untrained model is asked about."""
_ORDINARY = 128  # images that a target of other people's has to reconstruct better than the mean colour does


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
        blank: Directory of a model of the shadows' kind before its training; None if the target is a function.
        read: The target with the decoder by which it was read; None if it is a function.
        pool: What the shadows say of the reference pool.
        evidence: What target and shadows say of the images that are judged, and of those that are known to be no
            members.
        online: The same with the models of the online attacks, if there are any.
        untrained: The same with an untrained model in the target's place; None if the target is a function, of which
            there is no untrained copy, or if online attacks alone are run.
    """

    trained: Mapping[str, Path | None]
    blank: Path | None
    read: Path | None
    pool: Shadows
    evidence: Evidence
    online: Evidence | None
    untrained: Untrained | None


def measure(bench: Bench, split: Split) -> Measured:
    """Pre-train what is not in the store yet, and ask all models about all images of the split."""
    settings, images, store = bench.settings, bench.images, bench.store
    target, recipe, spec = _target(bench, split)
    # What the auditor takes for the target's training: shadows are trained so, and all models are asked so.
    spec = with_mask_ratio(spec, settings.shadows.mask_ratio or spec.mask_ratio)
    recipe = settings.shadows.imitating(recipe).model_copy(update={"mask_ratio": spec.mask_ratio})
    tokenizer = None if target is None else tokenizer_of(target)
    members = _training_size(target, split)
    validation = images.take(split.apart.validation)
    shared = (settings.compute, store, tokenizer, validation)
    shadows = _numbered("shadow", pretrained_shadows(images, split, spec, recipe, *shared))
    online = _numbered("online", pretrained_online(images, split, spec, recipe, members, *shared))
    own = {} if target is None else {"target": target}
    blank = {} if target is None else {UNTRAINED: _blank(bench, split, spec, recipe, tokenizer)}
    subjects = _subjects(bench, split, recipe, own | shadows | blank, online, list(shadows.values()))
    judged = subjects["target"].source

    asking = Asking(settings.signals, recipe, settings.compute, spec)
    offline = [subjects[name] for name in ("target", *shadows)]
    # The shadows' own images apart, so that they are asked about once, whatever sides are judged by them.
    of_shadows = _ask(bench, asking, offline, split, split.of("shadow"))
    asked = _ask(bench, asking, offline, split, split.judged)
    holdout = asked.references.of_images(split.of("holdout")[split.judged])
    seeing = [subjects[name] for name in ("target", *online)]
    return Measured(
        trained={"target": target, **shadows, **online},
        blank=blank.get(UNTRAINED),
        read=judged if isinstance(judged, Path) else None,
        pool=of_shadows.references.joined(holdout, asked.target.values),
        evidence=asked,
        online=_ask(bench, asking, seeing, split, split.judged, online=True) if online else None,
        untrained=_ask_untrained(bench, asking, subjects[UNTRAINED], split, asked) if blank else None,
    )


def _subjects(
    bench: Bench,
    split: Split,
    recipe: Recipe,
    offline: Mapping[str, Path],
    online: Mapping[str, Path],
    lenders: Sequence[Path],
) -> dict[str, Subject]:
    """Bring models to what can be asked: with decoders that are not their own, and with some of latents, if needed."""
    settings, store = bench.settings, bench.store
    fitting = bench.images.take(split.apart.decoder)
    read, latents = {**offline, **online}, {}
    if bench.decoder != "own":
        decoding = settings.decoder.model_copy(update={"source": bench.decoder})
        read = with_decoders(read, lenders, fitting, recipe, decoding, settings.compute, store)
    if any("latents" in attack.needs.signals for attack in bench.attacks.values()):
        latents = with_latent_decoders(offline, fitting, recipe, settings.decoder, settings.compute, store)
    sources: Mapping[str, Path | Embedder] = read if bench.embedder is None else {"target": bench.embedder, **read}
    return {name: Subject(name, source, settings.compute, latents.get(name)) for name, source in sources.items()}


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
        refuse_unmeasurable(spec, settings.signals.distance)
        tokenizer, validation = given_tokenizer(settings, spec), images.take(split.apart.validation)
        target = pretrained(
            members, spec, recipe, recipe.seed, settings.compute, store, "target", tokenizer, validation
        )
        return target, recipe, spec
    target = adopted(bench.opened, store)
    if bench.decoder == "own" and native.load_training(target) is None:
        ordinary = images.take(split.rows[split.of("holdout")][:_ORDINARY])
        check_reconstruction(native.load(target), ordinary, settings.compute)
    return target, bench.recipe, native.load_config(target).spec


def _training_size(target: Path | None, split: Split) -> int:
    """Count the images that the target was trained on, or those of a shadow where nobody knows."""
    training = None if target is None else native.load_training(target)
    return int(split.membership[0].sum()) if training is None else training.images


def _ask(
    bench: Bench, asking: Asking, subjects: Sequence[Subject], split: Split, chosen: Bools, *, online: bool = False
) -> Evidence:
    """Ask a target and its references what the attacks of one sort need of chosen images and of known non-members."""
    kinds, learning = kinds_of(bench.attacks.values(), online)
    membership = split.online if online else split.membership
    known = None
    if learning:
        signals = score_images(learning, subjects, bench.images, split.apart.known, asking, bench.store)
        unseen = np.zeros((len(subjects) - 1, len(split.apart.known)), dtype=bool)
        known = Evidence(signals.of_model(0), Shadows(signals.without_model(0), unseen))
    signals = score_images(kinds, subjects, bench.images, split.rows[chosen], asking, bench.store)
    return Evidence(signals.of_model(0), Shadows(signals.without_model(0), membership[:, chosen]), known)


def _ask_untrained(bench: Bench, asking: Asking, subject: Subject, split: Split, asked: Evidence) -> Untrained | None:
    """Ask a model without training the same about some images of each side, and about all known non-members."""
    kinds, learning = kinds_of(bench.attacks.values(), online=False)
    if not kinds:
        return None
    generator = np.random.default_rng(bench.settings.evaluation.seed)
    sides: tuple[Role, Role] = ("candidate", "holdout") if split.of("candidate").any() else ("member", "nonmember")
    chosen = np.zeros(len(split.rows), dtype=bool)
    for side in sides:
        chosen[generator.permutation(np.flatnonzero(split.of(side)))[:CONTROLS]] = True
    known = None
    if learning:
        assert asked.known is not None
        signals = score_images(learning, [subject], bench.images, split.apart.known, asking, bench.store)
        known = Evidence(signals, asked.known.references)
    signals = score_images(kinds, [subject], bench.images, split.rows[chosen], asking, bench.store)
    among = chosen[split.judged]
    return Untrained(Evidence(signals, asked.references.of_images(among), known), among)


def kinds_of(attacks: Collection[Attack], online: bool) -> tuple[list[str], list[str]]:
    """Name the signals that the attacks of one sort need of all images, and of known non-members."""
    needs = [attack.needs for attack in attacks if attack.needs.online == online]
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
