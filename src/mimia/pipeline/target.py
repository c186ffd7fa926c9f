"""The audited model, behind one interface whatever form it has: a checkpoint, a function to vectors, or to be trained.

A `Target` is what is known before the images are split; `ready` makes a `ReadyTarget` of it, which answers queries.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from mimia.config.recipes import Recipe
from mimia.config.settings import CheckpointSettings, DecoderSource, Settings
from mimia.config.sizes import height_and_width, sides
from mimia.data.imageset import ImageSet
from mimia.data.splits import Split
from mimia.models.base import Architecture, ModelSpec
from mimia.models.checkpoints import native
from mimia.models.checkpoints.identification import MOST_IMAGES, identify
from mimia.models.checkpoints.loading import LoadedCheckpoint, load_checkpoint
from mimia.models.checkpoints.provenance import Fact
from mimia.models.embedders import Embedder, open_embedder
from mimia.models.registry import families_of, family_named
from mimia.models.tokenizer import Tokenizer
from mimia.models.vectors import check_variety
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.pool import given_tokenizer, pretrained, tokenizer_of
from mimia.pretraining.specs import spec_for
from mimia.pretraining.start import open_start
from mimia.pretraining.to_native import to_native
from mimia.runtime.errors import MimiaError, first_mistake
from mimia.runtime.store import Store
from mimia.signals.arrays import AccessLevel
from mimia.signals.distances import check_distance
from mimia.signals.reconstruction_check import check_reconstruction

_REFERENCES = (
    "if the target was continued from a public checkpoint, pass that one with --references: it shows far more than "
    "shadows do, and nothing has to be trained"
)
_OF_TRAINING = frozenset({"epochs", "base_learning_rate", "augmentation"})
_CHECKED = 128  # holdout images that a checkpoint has to reconstruct better than the mean colour does


@dataclass(frozen=True)
class ReadyTarget:
    """A target that can be queried, and what its shadows imitate.

    Attributes:
        source: Checkpoint directory, or function from images to vectors.
        recipe: How it was trained.
        spec: Images, masking and target space.
        id: Name by its weights; None for a function, which is named by its answers.
        training_size: Number of its training images, where that is known.
        architecture: Its sizes; None for a function.
        tokenizer: Tokenizer of a BEiT.
        unstated: Keys of the recipe that decide its training and that are those of a preset, as nobody stated them.
        facts: What is known of other people's checkpoint, by name, and where from.
        assumed: What such a checkpoint does not say and was assumed, one sentence each.
        notes: What else a reader has to know of its loading, one sentence each.
    """

    source: Path | Embedder
    recipe: Recipe
    spec: ModelSpec
    id: str | None = None
    training_size: int | None = None
    architecture: Architecture | None = None
    tokenizer: Tokenizer | None = None
    unstated: frozenset[str] = frozenset()
    facts: Mapping[str, Fact] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def checkpoints(self) -> dict[str, Path]:
        """Return the target's checkpoint directory by its name in reports; nothing of a function."""
        return {"target": self.source} if isinstance(self.source, Path) else {}


class Target(ABC):
    """The audited model.

    Attributes:
        decoder: Whose decoder reconstructs images.
        recipe: How it was trained, as far as it is known, or is trained.
        image_size: Size of the images that it takes, if it takes one size.
        channels: Number of channels that it takes, if it takes one number.
    """

    decoder: DecoderSource
    recipe: Recipe
    image_size: int | tuple[int, int] | None = None
    channels: int | None = None

    @property
    def access(self) -> AccessLevel:
        """Return the access level that the adversary has."""
        return "decoder" if self.decoder == "own" else "encoder"

    def check_images(self, images: ImageSet) -> None:
        """Raise if the target does not take the images."""
        if self.image_size is None:
            return
        wanted, found = (
            "×".join(map(str, each)) for each in (height_and_width(self.image_size), images.pixels.shape[2:])
        )
        if wanted != found:
            raise MimiaError(
                f"The target takes images of {wanted} pixels, and these have {found}: set data.image_size to "
                f"{sides(self.image_size)} (--image-size) to scale them, if those of its training were scaled so too."
            )

    @abstractmethod
    def ready(self, images: ImageSet, split: Split, settings: Settings, store: Store) -> ReadyTarget:
        """Return the target in a form that answers queries; train it first if it is to be trained here."""


@dataclass
class TrainedTarget(Target):
    """A model that is trained here, on the members of the split."""

    recipe: Recipe
    decoder: DecoderSource

    def ready(self, images: ImageSet, split: Split, settings: Settings, store: Store) -> ReadyTarget:
        """Train the target on the members, unless the store has it."""
        recipe, members = self.recipe, images.take(split.evaluated.members.rows)
        validation = images.take(split.auxiliary.validation)
        context = TrainingContext(settings.compute, store, validation=validation, description="target")
        context = open_start(recipe, members, context, settings.checkpoint)
        spec = spec_for(members, recipe, context.start)
        check_distance(spec, settings.signals.distance)
        if context.start is None:
            context = replace(context, tokenizer=given_tokenizer(settings, spec))
        checkpoint = pretrained(members, spec, recipe, recipe.seed, context)
        return _ready(checkpoint, recipe, spec)


@dataclass
class CheckpointTarget(Target):
    """A checkpoint, whoever trained it."""

    loaded: LoadedCheckpoint
    recipe: Recipe
    decoder: DecoderSource
    image_size: int | tuple[int, int] | None = field(init=False)
    channels: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.image_size, self.channels = self.loaded.model.spec.image_size, self.loaded.model.spec.channels

    def ready(self, images: ImageSet, split: Split, settings: Settings, store: Store) -> ReadyTarget:
        """Find out by the pixels what the checkpoint does not say, and bring it to mimia's own format.

        Raises:
            MimiaError: It is other people's, and the pixels do not say what nothing else does, or it reconstructs
                images worse than their mean colour does.
        """
        self.loaded = identify(self.loaded, identifying(images, split, settings.evaluation.seed), settings.compute)
        loaded = self.loaded
        checkpoint = to_native(loaded, store)
        spec = loaded.model.spec
        recorded = native.load_training(checkpoint) is not None
        if self.decoder == "own" and not recorded:
            ordinary = images.take(split.evaluated.holdout.rows[:_CHECKED])
            check_reconstruction(native.load(checkpoint), ordinary, settings.compute)
        recipe = self.recipe
        if loaded.parsed is not None and "patch_normalised" in family_named(recipe.family).recipe_keys:
            recipe = recipe.model_copy(update={"patch_normalised": spec.target_space == "patch-normalised"})
        ready = _ready(checkpoint, recipe, spec, loaded.id)
        stated = {*settings.recipe.model_fields_set, *(loaded.parsed.recipe if loaded.parsed is not None else ())}
        unstated = frozenset() if recorded or "preset" in stated else _OF_TRAINING - stated
        notes = loaded.notes if recorded or settings.references else (*loaded.notes, _REFERENCES)
        return replace(ready, unstated=unstated, facts=loaded.facts, assumed=loaded.assumed, notes=notes)


_PROBES = 8  # images that a function is asked about first, twice
_REPEATABLE = 0.05  # difference of two answers, relative to their range


@dataclass
class FunctionTarget(Target):
    """A function from images to vectors, in this process or behind an endpoint."""

    embedder: Embedder
    recipe: Recipe
    decoder: DecoderSource = "own"

    @property
    def access(self) -> AccessLevel:
        """Return the access level that the adversary has."""
        return "embeddings"

    def ready(self, images: ImageSet, split: Split, settings: Settings, store: Store) -> ReadyTarget:
        """Return the function with the spec that the recipe makes of the shadows' images.

        Raises:
            MimiaError: It does not answer, says nothing, or answers the same images otherwise each time: asked before
                any shadow is trained.
        """
        answer, again = (np.asarray(self.embedder(images.pixels[:_PROBES])) for _ in range(2))
        check_variety(answer, "The target, a function to vectors, gives vectors that are")
        if answer.shape != again.shape or np.abs(answer - again).max() > _REPEATABLE * np.ptp(answer):
            raise MimiaError(
                "The target, a function to vectors, gives other vectors for the same images when it is asked again: "
                "switch off dropout, augmentation and noise."
            )
        return ReadyTarget(self.embedder, self.recipe, spec_for(images.take(split.shadow_pool.rows), self.recipe))


def open_target(settings: Settings, given: object = None) -> Target:
    """Return the target: what is given, what the settings name, or one that is to be trained.

    Args:
        settings: Settings of the run; they name also what is given.
        given: A model or function in memory.

    Raises:
        MimiaError: The checkpoint or function is not there, has no decoder where its own is asked for, has nothing that
            the distance could be measured of, or is of another family than the recipe of its shadows.
    """
    if settings.embeddings is not None:
        return FunctionTarget(open_embedder(given if callable(given) else settings.embeddings), settings.recipe)
    if settings.target is None:
        return TrainedTarget(settings.recipe, settings.decoder.source or "own")
    loaded = load_checkpoint(given or settings.target, _with_stated_space(settings))
    decoder = settings.decoder.source or loaded.usual_decoder
    if decoder == "own" and loaded.access == "encoder":
        raise MimiaError(
            f"{settings.target} has no decoder of its own: leave out decoder.source (--decoder), and one is fitted."
        )
    training = native.load_training(loaded.own) if loaded.own is not None else None
    check_distance(loaded.model.spec, settings.signals.distance)
    recipe = _recipe_like(loaded, settings.recipe) if training is None else training.recipe
    return CheckpointTarget(loaded, recipe, decoder)


def _with_stated_space(settings: Settings) -> CheckpointSettings:
    """Return what the settings say of the checkpoint; a recipe that says what it predicts says it of the target."""
    if settings.checkpoint.target_space is not None or "patch_normalised" not in settings.recipe.model_fields_set:
        return settings.checkpoint
    space = "patch-normalised" if settings.recipe.patch_normalised else "normalised"
    return settings.checkpoint.model_copy(update={"target_space": space})


def _recipe_like(loaded: LoadedCheckpoint, given: Recipe) -> Recipe:
    """Return the recipe of the shadows: as the checkpoint's file says, if no recipe is named.

    Raises:
        MimiaError: What the file says makes no recipe, or the recipe is of another family.
    """
    families = list(families_of(loaded.model.architecture.family))
    facts: dict[str, Any] = {} if loaded.parsed is None else dict(loaded.parsed.recipe)
    preset = given.preset if given.family in families else f"{families[0]}-micro"
    try:
        recipe = given.imitating(facts, preset)
    except ValidationError as error:
        raise MimiaError(
            f"What the checkpoint says of its training makes no recipe ({first_mistake(error)}): pass --recipe."
        ) from error
    _refuse_other_family(loaded, recipe)
    return recipe


def _ready(checkpoint: Path, recipe: Recipe, spec: ModelSpec, name: str | None = None) -> ReadyTarget:
    training = native.load_training(checkpoint)
    return ReadyTarget(
        checkpoint,
        recipe,
        spec,
        name or native.model_id(checkpoint),
        None if training is None else training.images,
        native.load_config(checkpoint).architecture,
        tokenizer_of(checkpoint),
    )


def identifying(images: ImageSet, split: Split, seed: int) -> ImageSet:
    """Return the images by which is found out what checkpoints do not say: of all that are evaluated, at random."""
    order = np.random.default_rng(seed).permutation(len(split.evaluated))
    return images.take(split.evaluated.rows[order[:MOST_IMAGES]])


def _refuse_other_family(loaded: LoadedCheckpoint, recipe: Recipe) -> None:
    """Raise if shadows would be trained by another method than the target: their distances do not compare."""
    families = list(families_of(loaded.model.architecture.family))
    if recipe.family not in families:
        fitting = [preset for family in families for preset in family_named(family).presets]
        raise MimiaError(
            f"The target ({loaded.layout}) is of another family than the recipe {recipe.preset}, by which its "
            f"shadows are to be trained: pass --recipe with one of {', '.join(fitting)}."
        )
