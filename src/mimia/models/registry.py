"""All families: from an architecture to a model, and from a recipe to an architecture."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Annotated, TypeAlias

import torch
from pydantic import BeforeValidator, SerializeAsAny

from mimia.config.families import FAMILIES
from mimia.config.recipes import Recipe
from mimia.models.base import Architecture, MaskedImageModel, ModelSpec
from mimia.models.family import DecoderInterface, Family
from mimia.models.tokenizer import TokenizerArchitecture
from mimia.runtime.errors import MimiaError
from mimia.runtime.text import shortened


def family_named(name: str) -> Family:
    """Return the family of a recipe's key ``family``.

    Raises:
        MimiaError: There is none of this name, or a package registers something else by it.
    """
    found = FAMILIES.find(name)
    if not isinstance(found, Family):
        raise MimiaError(f"The model family {name!r} is no mimia.models.family.Family: register one by this name.")
    return found


def families_of(architecture_name: str) -> Iterator[str]:
    """Yield the names of the families with this architecture, which several can share."""
    return (name for name in FAMILIES if family_named(name).architecture_name == architecture_name)


def family_of(architecture_name: str) -> Family:
    """Return the first family with this architecture.

    Raises:
        MimiaError: There is none.
    """
    for name in families_of(architecture_name):
        return family_named(name)
    raise MimiaError(
        f"No model family has the architecture {shortened(architecture_name)!r}: install the package that registers it."
    )


def decoder_interface(model: MaskedImageModel) -> DecoderInterface:
    """Return how a decoder is put on the encoder of a model.

    Raises:
        MimiaError: Its family does not declare it.
    """
    name = model.architecture.family
    interface = family_of(name).decoder
    if interface is None:
        raise MimiaError(
            f"No decoder can be put on an encoder of the family {name}, which declares none: pass a target with its "
            "own, or choose attacks that need none (--attacks)."
        )
    return interface


def _parse_architecture(value: object) -> object:
    """Validate a saved architecture by the class of its family."""
    if not isinstance(value, dict):
        return value
    return family_of(str(value.get("family"))).architecture.model_validate(value)


AnyArchitecture: TypeAlias = Annotated[SerializeAsAny[Architecture], BeforeValidator(_parse_architecture)]
"""The architecture of any family, as a field of a pydantic model."""


def build(spec: ModelSpec, architecture: Architecture, generator: torch.Generator | None = None) -> MaskedImageModel:
    """Return a new model.

    Args:
        spec: Images, masking and target space.
        architecture: Family and sizes.
        generator: Source of the initial weights; without it the weights are left for a checkpoint to fill, and take no
            memory where the family allows it.
    """
    family = family_of(architecture.family)
    on_meta = generator is None and family.on_meta
    # torch fills each layer from the global random state before its weights are replaced: that is put back.
    with torch.random.fork_rng(devices=()), torch.device("meta") if on_meta else nullcontext():
        return family.build(spec, architecture, generator)


def architecture_for(recipe: Recipe, spec: ModelSpec, tokenizer: TokenizerArchitecture | None = None) -> Architecture:
    """Return the architecture that a recipe names, for the images of a spec.

    Args:
        recipe: Family and size.
        spec: Images, masking and target space.
        tokenizer: What the tokens are predicted of, for a family that does so; default: the codebook that the recipe
            makes.

    Raises:
        MimiaError: The family does not have this size, or not for these images.
    """
    return family_named(recipe.family).architecture_for(recipe, spec, tokenizer)


def with_decoder(architecture: Architecture, recipe: Recipe, spec: ModelSpec) -> Architecture:
    """Return the architecture of an encoder with a decoder as a recipe names it, if its family declares how.

    Args:
        architecture: With or without a decoder.
        recipe: Its size is the decoder's.
        spec: Images, masking and target space.
    """
    interface = family_of(architecture.family).decoder
    return architecture if interface is None else interface.attach(architecture, architecture_for(recipe, spec))
