"""Models in the store: the same settings never train twice, another setting never reuses."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mimia.arrays import Bools, Indices
from mimia.compute import accelerator
from mimia.config import ComputeSettings, Settings
from mimia.encoders.base import ModelSpec, Reconstructor
from mimia.encoders.beit import Beit, BeitArchitecture
from mimia.encoders.checkpoints import native
from mimia.encoders.checkpoints.codebook import open_tokenizer
from mimia.encoders.families import Architecture, architecture_for, build
from mimia.encoders.tokenizer import Tokenizer, fit_patch_tokenizer
from mimia.errors import MimiaError
from mimia.images.duplicates import repeated
from mimia.images.imageset import ImageSet
from mimia.pretraining.cross_fitting import Teachers, halves
from mimia.pretraining.loop import go_on_from, steps_per_epoch, train_and_save
from mimia.recipes import Recipe
from mimia.seeds import derived_seed, torch_generator
from mimia.splits import Split
from mimia.store import Store

_LOOP = 2  # raised when a change of `loop` makes other weights of the same settings


def pretrained(
    images: ImageSet,
    spec: ModelSpec,
    recipe: Recipe,
    seed: int,
    compute: ComputeSettings,
    store: Store,
    description: str = "pre-training",
    tokenizer: Tokenizer | None = None,
    validation: ImageSet | None = None,
) -> Path:
    """Give the checkpoint directory of a model; pre-train it first if the store does not have it.

    Args:
        images: What it is trained on.
        spec: Image size, masking, pixel statistics and target space.
        recipe: How it is trained.
        seed: Seed of this model.
        compute: Device and precision; the precision is part of the model's name, the device is not.
        store: Where it is kept.
        description: For the progress bar.
        tokenizer: What a BEiT predicts the tokens of, such as another model's; default: made of its own images.
        validation: By whose loss the training is stopped, if the recipe says so.

    Raises:
        MimiaError: The family does not predict what the spec says, or not with this size or for these images.
    """
    tokens = spec.target_space == "tokens"
    if tokens != (recipe.family == "beit"):
        raise MimiaError(
            f"Shadows of the family {recipe.family} do not predict {'visual tokens' if tokens else 'pixels'}, as the "
            "target does: name a recipe of its family with --recipe."
        )
    if recipe.deduplicate:
        images = images.take(np.setdiff1d(np.arange(len(images)), repeated(images.pixels)))
    settings = {
        "spec": spec.model_dump(mode="json"),
        "architecture": _architecture(spec, recipe, tokenizer).model_dump(mode="json"),
        "recipe": recipe.identity,
        "seed": seed,
        "images": images.fingerprint,
        "precision": compute.precision,
        "loop": _LOOP,
    }
    if tokenizer is not None:
        settings["tokenizer"] = tokenizer.fingerprint
    if recipe.patience is not None and validation is not None:
        settings["validation"] = validation.fingerprint

    def build(work: Path) -> None:
        earlier = _stopped_earlier(settings, recipe, store)
        if earlier is not None:
            go_on_from(earlier, work)
        model = untrained(images, spec, recipe, seed, tokenizer)
        teachers = _teachers(images, spec, recipe, seed, compute, store, description) if recipe.cross_fits else None
        train_and_save(model, images, recipe, seed, compute, work, description, teachers, validation)

    return store.make("models", settings, build)


def _teachers(
    images: ImageSet,
    spec: ModelSpec,
    recipe: Recipe,
    seed: int,
    compute: ComputeSettings,
    store: Store,
    description: str,
) -> Teachers:
    """Pre-train the models from which a cross-fitted one learns, each for as many steps."""
    seen = halves(len(images), recipe.cross_fits, np.random.default_rng(derived_seed(seed, "halves")))
    checkpoints = [
        pretrained(
            images.take(np.flatnonzero(half)),
            spec,
            as_long(recipe.undefended, len(images), int(half.sum())),
            derived_seed(seed, "teacher", number),
            compute,
            store,
            f"{description}, teacher {number + 1} of {len(seen)}",
        )
        for number, half in enumerate(seen)
    ]
    device = accelerator(compute).device
    return Teachers([native.load(checkpoint).to(device) for checkpoint in checkpoints], seen)


def _stopped_earlier(settings: Mapping[str, Any], recipe: Recipe, store: Store) -> Path | None:
    """Give the longest of the same trainings that was left earlier."""
    for epoch in range((recipe.stop_epoch or recipe.epochs) - 1, 0, -1):
        shorter = recipe.model_copy(update={"stop_epoch": epoch})
        found = store.find("models", {**settings, "recipe": shorter.identity})
        if found is not None:
            return found
    return None


def untrained(
    images: ImageSet, spec: ModelSpec, recipe: Recipe, seed: int, tokenizer: Tokenizer | None = None
) -> Reconstructor:
    """Give a model as its training begins; the arguments are those of `pretrained`."""
    model = build(spec, _architecture(spec, recipe, tokenizer), torch_generator("cpu", seed, "weights"))
    if isinstance(model, Beit):
        vocabulary = model.architecture.tokenizer.vocabulary
        model.tokenizer = tokenizer or fit_patch_tokenizer(
            images.pixels, spec, vocabulary, derived_seed(seed, "tokenizer")
        )
    return model


def initial(
    images: ImageSet, spec: ModelSpec, recipe: Recipe, seed: int, store: Store, tokenizer: Tokenizer | None = None
) -> Path:
    """Give the checkpoint directory of an untrained model; the arguments are those of `pretrained`."""
    settings = {
        "untrained": spec.model_dump(mode="json"),
        "architecture": _architecture(spec, recipe, tokenizer).model_dump(mode="json"),
        "seed": seed,
        "images": images.fingerprint if recipe.family == "beit" else "",  # its tokenizer is made of them
        "tokenizer": "" if tokenizer is None else tokenizer.fingerprint,
    }
    build = partial(_save_initial, images, spec, recipe, seed, tokenizer)
    return store.make("models", settings, build)


def pretrained_shadows(
    images: ImageSet,
    split: Split,
    spec: ModelSpec,
    recipe: Recipe,
    compute: ComputeSettings,
    store: Store,
    tokenizer: Tokenizer | None = None,
    validation: ImageSet | None = None,
) -> list[Path]:
    """Pre-train the shadows of a split as the target was, each on its own half of the pool.

    Shadows of a BEiT need the target's tokenizer (`tokenizer_of`): cross-entropies of other tokens do not compare.
    """
    return _on_halves(
        "shadow", images, split.rows, split.membership, spec, recipe, compute, store, tokenizer, validation
    )


def pretrained_online(
    images: ImageSet,
    split: Split,
    spec: ModelSpec,
    recipe: Recipe,
    members: int,
    compute: ComputeSettings,
    store: Store,
    tokenizer: Tokenizer | None = None,
    validation: ImageSet | None = None,
) -> list[Path]:
    """Pre-train the models of the online attacks, each on its own half of the images that are judged.

    They have more images than the target, whose number is ``members``, and as many steps.
    """
    recipe = as_long(recipe, members, max(1, int(split.judged.sum()) // 2))
    return _on_halves("online", images, split.rows, split.online, spec, recipe, compute, store, tokenizer, validation)


def as_long(recipe: Recipe, members: int, images: int) -> Recipe:
    """Give a recipe with as many steps on some number of images as the given one has on the members."""
    shorter = steps_per_epoch(members, recipe) / steps_per_epoch(images, recipe)
    changes = {"epochs": max(1, round(recipe.epochs * shorter))}
    if recipe.stop_epoch is not None:
        changes["stop_epoch"] = max(1, round(recipe.stop_epoch * shorter))
    return recipe.model_copy(update=changes)


def _on_halves(
    role: str,
    images: ImageSet,
    rows: Indices,
    membership: Bools,
    spec: ModelSpec,
    recipe: Recipe,
    compute: ComputeSettings,
    store: Store,
    tokenizer: Tokenizer | None,
    validation: ImageSet | None,
) -> list[Path]:
    return [
        pretrained(
            images.take(rows[seen]),
            spec,
            recipe,
            derived_seed(recipe.seed, role, number),
            compute,
            store,
            f"{role} {number + 1} of {len(membership)}",
            tokenizer,
            validation,
        )
        for number, seen in enumerate(membership)
    ]


def tokenizer_of(checkpoint: Path) -> Tokenizer | None:
    """Give the tokenizer of a BEiT that has one, and None of any other checkpoint."""
    architecture = native.load_config(checkpoint).architecture
    if not isinstance(architecture, BeitArchitecture) or not architecture.decoder:
        return None
    model = native.load(checkpoint)
    assert isinstance(model, Beit)
    return model.tokenizer


def given_tokenizer(settings: Settings, spec: ModelSpec) -> Tokenizer | None:
    """Open the tokenizer that the settings name for a BEiT; without one, it is made of the model's own images."""
    if settings.recipe.family != "beit" or settings.checkpoint.tokenizer is None:
        return None
    return open_tokenizer(settings.checkpoint.tokenizer, spec)


def _architecture(spec: ModelSpec, recipe: Recipe, tokenizer: Tokenizer | None) -> Architecture:
    return architecture_for(recipe, spec, None if tokenizer is None else tokenizer.architecture)


def _save_initial(
    images: ImageSet, spec: ModelSpec, recipe: Recipe, seed: int, tokenizer: Tokenizer | None, work: Path
) -> None:
    native.save(work, untrained(images, spec, recipe, seed, tokenizer))
