"""Models in the store: the same settings never train twice, another setting never reuses."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mimia.config.recipes import Recipe
from mimia.config.settings import Settings
from mimia.data.imageset import ImageSet
from mimia.data.splits import Split
from mimia.models.base import Architecture, MaskedImageModel, ModelSpec
from mimia.models.checkpoints import native
from mimia.models.checkpoints.codebook import open_tokenizer
from mimia.models.registry import architecture_for, build, family_named
from mimia.models.tokenizer import Tokenizer, TokenModel, fit_patch_tokenizer
from mimia.pretraining.context import TrainingContext, steps_per_epoch
from mimia.pretraining.trainer import Trainer, go_on_from
from mimia.runtime.arrays import Indices
from mimia.runtime.errors import MimiaError
from mimia.runtime.executors import EXECUTORS
from mimia.runtime.seeds import derived_seed, torch_generator
from mimia.runtime.store import Store

_LOOP = 2  # raised when a change of the training makes other weights of the same settings


def pretrained(images: ImageSet, spec: ModelSpec, recipe: Recipe, seed: int, context: TrainingContext) -> Path:
    """Return the checkpoint directory of a model; pre-train it first if the store does not have it.

    Args:
        images: Training images.
        spec: Image size, masking, pixel statistics and target space.
        recipe: How the model is trained.
        seed: Seed of this model.
        context: What it shares with other trainings.

    Raises:
        MimiaError: The family does not predict what the spec says, or not with this size or for these images.
    """
    tokens = spec.target_space == "tokens"
    if tokens != family_named(recipe.family).predicts_tokens:
        raise MimiaError(
            f"Shadows of the family {recipe.family} do not predict {'visual tokens' if tokens else 'pixels'}, as the "
            "target does: name a recipe of its family with --recipe."
        )
    for defence in recipe.defences.values():
        images = defence.hooks().select_images(images)
    tokenizer, validation = context.tokenizer, context.validation
    settings = {
        "spec": spec.model_dump(mode="json"),
        "architecture": _architecture(spec, recipe, context).model_dump(mode="json"),
        "recipe": recipe.identity,
        "seed": seed,
        "images": images.fingerprint,
        "precision": context.compute.precision,
        "loop": _LOOP,
    }
    if tokenizer is not None:
        settings["tokenizer"] = tokenizer.fingerprint
    if context.start is not None:
        settings["start"] = native.model_id(context.start)
    if recipe.needs_validation and validation is not None:
        settings["validation"] = validation.fingerprint

    def build(work: Path) -> None:
        earlier = _stopped_earlier(settings, recipe, context.store)
        if earlier is not None:
            go_on_from(earlier, work)
        model = untrained(images, spec, recipe, seed, context)
        if context.start is not None:
            model.load_state_dict(native.load(context.start).state_dict())
        Trainer(recipe, context).fit_and_save(model, images, seed, work)

    return context.store.make("models", settings, build)


def _stopped_earlier(settings: Mapping[str, Any], recipe: Recipe, store: Store) -> Path | None:
    """Return the longest of the same trainings that was left earlier."""
    for epoch in range((recipe.stop_epoch or recipe.epochs) - 1, 0, -1):
        shorter = recipe.model_copy(update={"stop_epoch": epoch})
        found = store.find("models", {**settings, "recipe": shorter.identity})
        if found is not None:
            return found
    return None


def untrained(
    images: ImageSet, spec: ModelSpec, recipe: Recipe, seed: int, context: TrainingContext | None = None
) -> MaskedImageModel:
    """Return a model with random weights; the arguments are those of `pretrained`."""
    tokenizer = None if context is None else context.tokenizer
    model = build(spec, _architecture(spec, recipe, context), torch_generator("cpu", seed, "weights"))
    if isinstance(model, TokenModel):
        vocabulary = model.tokenizer.architecture.vocabulary
        model.tokenizer = tokenizer or fit_patch_tokenizer(
            images.pixels, spec, vocabulary, derived_seed(seed, "tokenizer")
        )
    return model


def initial(images: ImageSet, spec: ModelSpec, recipe: Recipe, seed: int, context: TrainingContext) -> Path:
    """Return the checkpoint directory of an untrained model; the arguments are those of `pretrained`."""
    tokenizer = context.tokenizer
    settings = {
        "untrained": spec.model_dump(mode="json"),
        "architecture": _architecture(spec, recipe, context).model_dump(mode="json"),
        "seed": seed,
        "images": images.fingerprint if family_named(recipe.family).predicts_tokens else "",  # they make its tokenizer
        "tokenizer": "" if tokenizer is None else tokenizer.fingerprint,
    }

    def save(work: Path) -> None:
        native.save(work, untrained(images, spec, recipe, seed, context))

    return context.store.make("models", settings, save)


def pretrained_shadows(
    images: ImageSet, split: Split, spec: ModelSpec, recipe: Recipe, context: TrainingContext
) -> list[Path]:
    """Pre-train the shadows of a split as the target was, each on its own half of the pool.

    Shadows of a BEiT need the target's tokenizer (`tokenizer_of`): cross-entropies of other tokens do not compare.
    """
    return _on_each(
        "shadow", [split.shadow_pool.rows[seen] for seen in split.shadow_pool.membership], images, spec, recipe, context
    )


def pretrained_online(
    images: ImageSet, split: Split, spec: ModelSpec, recipe: Recipe, members: int, context: TrainingContext
) -> list[Path]:
    """Pre-train the models of the online attacks, each on its own half of the images that are evaluated.

    They have more images than the target, whose number is ``members``, and as many steps.
    """
    recipe = as_long(recipe, members, max(1, len(split.evaluated) // 2))
    return _on_each(
        "online", [split.evaluated.rows[seen] for seen in split.evaluated.online], images, spec, recipe, context
    )


def as_long(recipe: Recipe, members: int, images: int) -> Recipe:
    """Return a recipe with as many steps on some number of images as the given one has on the members."""
    shorter = steps_per_epoch(members, recipe) / steps_per_epoch(images, recipe)
    changes = {"epochs": max(1, round(recipe.epochs * shorter))}
    if recipe.stop_epoch is not None:
        changes["stop_epoch"] = max(1, round(recipe.stop_epoch * shorter))
    return recipe.model_copy(update=changes)


def _on_each(
    role: str, halves: Sequence[Indices], images: ImageSet, spec: ModelSpec, recipe: Recipe, context: TrainingContext
) -> list[Path]:
    def train(number: int) -> Path:
        named = replace(context, description=f"{role} {number + 1} of {len(halves)}")
        return pretrained(images.take(halves[number]), spec, recipe, derived_seed(recipe.seed, role, number), named)

    return EXECUTORS.find(context.compute.executor)().map(train, range(len(halves)))


def tokenizer_of(checkpoint: Path) -> Tokenizer | None:
    """Return the tokenizer of a model that predicts tokens, or None of any other."""
    if native.load_config(checkpoint).spec.target_space != "tokens":
        return None
    model = native.load(checkpoint)
    return model.tokenizer if isinstance(model, TokenModel) and model.has_decoder else None


def given_tokenizer(settings: Settings, spec: ModelSpec) -> Tokenizer | None:
    """Open the tokenizer that the settings name; None: it is made of the model's own images, if it has one."""
    if settings.checkpoint.tokenizer is None or not family_named(settings.recipe.family).predicts_tokens:
        return None
    return open_tokenizer(settings.checkpoint.tokenizer, spec)


def _architecture(spec: ModelSpec, recipe: Recipe, context: TrainingContext | None) -> Architecture:
    if context is not None and context.architecture is not None:
        return context.architecture
    tokenizer = None if context is None else context.tokenizer
    return architecture_for(recipe, spec, None if tokenizer is None else tokenizer.architecture)
