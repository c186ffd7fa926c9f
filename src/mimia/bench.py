"""The first steps of an audit and an inference: from settings to models, signals and scores."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mimia.attacks.base import Scores
from mimia.attacks.registry import ATTACKS, make_attack
from mimia.compute import accelerator
from mimia.config import DecoderSource, Settings
from mimia.encoders.base import ModelSpec
from mimia.encoders.checkpoints import native
from mimia.encoders.checkpoints.opening import Opened, open_checkpoint
from mimia.encoders.embedders import Embedder, embedder_of, open_embedder
from mimia.errors import MimiaError
from mimia.images.imageset import ImageSet
from mimia.images.load import LoadedImages, load_images
from mimia.pretraining.adopted import adopted
from mimia.pretraining.decoder import with_decoders
from mimia.pretraining.models import given_tokenizer, pretrained, pretrained_shadows, spec_for, tokenizer_of
from mimia.recipes import RECIPES, Family, Recipe
from mimia.signals.base import Shadows, Signals
from mimia.signals.distances import score_images
from mimia.signals.sanity import check_reconstruction
from mimia.signals.similarities import score_views
from mimia.splits import Role, Split
from mimia.store import Store

_FAMILIES: dict[Family, str] = {"mae": "mae", "simmim": "simmim", "swin": "transformers", "beit": "beit"}
_FEWEST = 5  # images of a side: the blind baseline needs some in both of its halves
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
        started: When the run began, for its duration.
    """

    settings: Settings
    store: Store
    loaded: LoadedImages
    opened: Opened | None = None
    embedder: Embedder | None = None
    decoder: DecoderSource = "own"
    started: float = field(default_factory=time.monotonic)

    @property
    def images(self) -> ImageSet:
        """All images."""
        return self.loaded.images

    @property
    def fits_decoders(self) -> bool:
        """Whether images are needed to fit decoders on, or to align latents on."""
        return self.decoder in ("fitted", "aligned")


@dataclass(frozen=True)
class Measured:
    """What models say of the images of a split.

    Attributes:
        trained: Checkpoint directories as they were trained, the target's first; None for one that is a function.
        read: The target with the decoder by which it was read; None if it is a function.
        target: Signals of the target, (1, images, draws).
        shadows: Signals of the shadows, with their membership.
    """

    trained: tuple[Path | None, ...]
    read: Path | None
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
    if settings.embeddings is not None:
        embedder = open_embedder(settings.embeddings)
        return Bench(settings, store, load_images(sources, store, wanted), embedder=embedder, started=started)
    if settings.target is None:
        decoder = settings.decoder.source or "own"
        return Bench(settings, store, load_images(sources, store, wanted), decoder=decoder, started=started)
    opened = open_checkpoint(settings.target, settings.checkpoint)
    decoder = settings.decoder.source or ("own" if opened.access == "decoder" else "fitted")
    if decoder == "own" and opened.access == "encoder":
        raise MimiaError(
            f"{settings.target} has no decoder of its own: leave out decoder.source (--decoder), and one is fitted."
        )
    _refuse_other_family(opened, settings)
    spec = opened.model.spec
    loaded = load_images(sources, store, wanted, spec.channels, size_if_mixed=spec.image_size)
    size = loaded.images.pixels.shape[-1]
    if size != spec.image_size:
        raise MimiaError(
            f"The target takes images of {spec.image_size}×{spec.image_size} pixels, and these have {size}×{size}: "
            f"pass --image-size {spec.image_size} to scale them, if the target's training images were scaled so too."
        )
    return Bench(settings, store, loaded, opened, decoder=decoder, started=started)


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
    settings, images, store = bench.settings, bench.images, bench.store
    if bench.embedder is not None:
        return _measure_views(bench, bench.embedder, split)
    if bench.opened is None:
        members = images.take(split.rows[split.of("member")])
        recipe, spec = settings.recipe, spec_for(members, settings.recipe)
        tokenizer = given_tokenizer(settings, spec)
        target = pretrained(members, spec, recipe, recipe.seed, settings.compute, store, "target", tokenizer)
    else:
        target = adopted(bench.opened, store)
        recipe, spec = _recipe_of(target, settings)
        if bench.decoder == "own" and native.load_training(target) is None:
            ordinary = images.take(split.rows[split.of("holdout")][:_ORDINARY])
            check_reconstruction(native.load(target), ordinary, settings.compute)
    shadows = pretrained_shadows(images, split, spec, recipe, settings.compute, store, tokenizer_of(target))
    trained = (target, *shadows)
    read = trained
    if bench.decoder != "own":
        fitting = images.take(split.decoder_rows)
        decoding = settings.decoder.model_copy(update={"source": bench.decoder})
        read = (*with_decoders(trained, fitting, recipe, decoding, settings.compute, store),)
    signals = score_images(
        read, images, split.rows, settings.signals, settings.compute, store, model_names(len(shadows))
    )
    return Measured(trained, read[0], signals.of_model(0), Shadows(signals.without_model(0), split.membership))


def _measure_views(bench: Bench, target: Embedder, split: Split) -> Measured:
    settings, images = bench.settings, bench.images
    spec = spec_for(images.take(split.rows[split.of("shadow")]), settings.recipe)
    shadows = pretrained_shadows(images, split, spec, settings.recipe, settings.compute, bench.store)
    device = accelerator(settings.compute).device
    embedders = [target, *(embedder_of(native.load(shadow).to(device)) for shadow in shadows)]
    named = dict(zip(model_names(len(shadows)), embedders, strict=True))
    signals = score_views(named, images, split.rows, spec.patch_size, settings.signals, bench.store)
    return Measured((None, *shadows), None, signals.of_model(0), Shadows(signals.without_model(0), split.membership))


def model_names(shadows: int) -> list[str]:
    """Give what a reader calls the models: the target, then the shadows.

    >>> model_names(2)
    ['target', 'shadow 1', 'shadow 2']
    """
    return ["target", *(f"shadow {number + 1}" for number in range(shadows))]


def attack_images(settings: Settings, split: Split, measured: Measured) -> list[Scores]:
    """Fit each attack on the reference pool, and score all images but the shadows' own."""
    pool, judged = split.of("shadow", "holdout"), ~split.of("shadow")
    return [
        make_attack(name)
        .fit(measured.shadows.of_images(pool))
        .score(measured.target.of_images(judged), measured.shadows.of_images(judged))
        for name in settings.attacks.names
    ]


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
