"""The first step of an audit and an inference: from settings to what the run works with."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from mimia.attacks.base import Attack
from mimia.attacks.selection import Offer, select
from mimia.config import DecoderSource, Settings
from mimia.encoders.checkpoints import native
from mimia.encoders.checkpoints.opening import Opened, open_checkpoint
from mimia.encoders.embedders import Embedder, open_embedder
from mimia.errors import MimiaError
from mimia.images.imageset import ImageSet
from mimia.images.load import LoadedImages, load_images
from mimia.recipes import RECIPES, Family, Recipe
from mimia.signals.base import AccessLevel
from mimia.signals.measures import refuse_unmeasurable
from mimia.splits import Role, Split, Wanted
from mimia.store import Store

_FAMILIES: dict[Family, str] = {"mae": "mae", "simmim": "simmim", "swin": "transformers", "beit": "beit"}
_FEWEST = 5  # images of a side: the blind baseline needs some in both of its halves


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
        return wanted_by(self.settings, self.attacks.values(), self.decoder, self.recipe)

    @property
    def recipe(self) -> Recipe:
        """How the target was trained where its directory tells it, or else is trained or taken to be trained."""
        own = self.opened.own if self.opened is not None else None
        training = native.load_training(own) if own is not None else None
        return training.recipe if training is not None else self.settings.recipe


def wanted_by(settings: Settings, attacks: Collection[Attack], decoder: DecoderSource, recipe: Recipe) -> Wanted:
    """Say what a run of some attacks on a target of some recipe needs of its split."""
    return Wanted(
        shadows=settings.shadows.count,
        online=settings.shadows.online if any(attack.needs.online for attack in attacks) else 0,
        decoders=decoder in ("fitted", "aligned"),
        known=any(attack.needs.known for attack in attacks),
        validation=recipe.patience is not None,
    )


def prepare(settings: Settings, sources: Sequence[str]) -> Bench:
    """Check the settings, open the target's description, and decode the images.

    Raises:
        MimiaError: An attack, a checkpoint or a source is not there, an attack needs more shadows, or the target takes
            images of another size, or has nothing that the distance could be measured of.
    """
    started = time.monotonic()
    store = Store(settings.store)
    wanted = settings.data.image_size
    if settings.embeddings is not None:
        attacks, not_run = attacks_of(settings, None)
        embedder = open_embedder(settings.embeddings)
        loaded = load_images(sources, store, wanted)
        return Bench(settings, store, loaded, None, embedder, "own", attacks, not_run, started)
    if settings.target is None:
        decoder = settings.decoder.source or "own"
        attacks, not_run = attacks_of(settings, decoder)
        loaded = load_images(sources, store, wanted)
        return Bench(settings, store, loaded, None, None, decoder, attacks, not_run, started)
    opened = open_checkpoint(settings.target, settings.checkpoint)
    decoder = settings.decoder.source or ("own" if opened.access == "decoder" else "fitted")
    if decoder == "own" and opened.access == "encoder":
        raise MimiaError(
            f"{settings.target} has no decoder of its own: leave out decoder.source (--decoder), and one is fitted."
        )
    attacks, not_run = attacks_of(settings, decoder)
    _refuse_other_family(opened, settings)
    spec = opened.model.spec
    refuse_unmeasurable(spec, settings.signals.distance)
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


def attacks_of(settings: Settings, decoder: DecoderSource | None) -> tuple[dict[str, Attack], dict[str, str]]:
    """Select the attacks of a run with this decoder, and say why each other is left out; None of a function to vectors.

    Raises:
        MimiaError: An attack that is named cannot be run.
    """
    access = "embeddings" if decoder is None else _access(decoder)
    offer = Offer(access, settings.shadows.count, settings.shadows.online, fitting=decoder == "fitted")
    return select(settings.attacks.names, offer)


def refuse_too_few(split: Split, *roles: Role) -> None:
    """Raise before anything is trained if a side is too small to be judged.

    Raises:
        MimiaError: Fewer than five images have one of the roles.
    """
    names = {"member": "members", "nonmember": "non-members", "candidate": "candidates", "holdout": "holdout images"}
    counts = {names[role]: int(split.of(role).sum()) for role in roles}
    if len(split.apart.known):
        counts["known non-members"] = len(split.apart.known)
    for name, count in counts.items():
        if count < _FEWEST:
            raise MimiaError(
                f"At least {_FEWEST} {name} are needed to judge by, and this split has {count}: give more images, or "
                "other numbers under [split]."
            )


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
