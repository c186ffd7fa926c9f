"""All families: from an architecture to a model, and from a recipe to an architecture."""

from contextlib import nullcontext
from typing import Annotated, TypeAlias

import torch
from pydantic import Field

from mimia.encoders import mae, simmim
from mimia.encoders.base import ModelSpec, Reconstructor
from mimia.encoders.beit import Beit, BeitArchitecture, beit_architecture
from mimia.encoders.mae import Mae, MaeArchitecture
from mimia.encoders.simmim import SimMim, SimMimArchitecture
from mimia.encoders.tokenizer import TokenizerArchitecture
from mimia.encoders.wrapped import Wrapped, WrappedArchitecture, swin_architecture
from mimia.recipes import Recipe

Architecture: TypeAlias = Annotated[
    MaeArchitecture | SimMimArchitecture | WrappedArchitecture | BeitArchitecture, Field(discriminator="family")
]


def build(spec: ModelSpec, architecture: Architecture, generator: torch.Generator | None = None) -> Reconstructor:
    """Make a model.

    Args:
        spec: Images, masking and target space.
        architecture: Family and sizes.
        generator: Source of the initial weights; without it the weights are left for a checkpoint to fill, and take no
            memory where the family allows it.
    """
    # Models of transformers are not made without memory: some of their buffers are in no checkpoint.
    on_meta = generator is None and isinstance(architecture, MaeArchitecture | SimMimArchitecture)
    # torch fills each layer from the global random state before its weights are replaced: that is put back.
    with torch.random.fork_rng(devices=()), torch.device("meta") if on_meta else nullcontext():
        match architecture:
            case MaeArchitecture():
                return Mae(spec, architecture, generator)
            case SimMimArchitecture():
                return SimMim(spec, architecture, generator)
            case WrappedArchitecture():
                return Wrapped(spec, architecture, generator)
            case BeitArchitecture():
                return Beit(spec, architecture, generator)


def architecture_for(recipe: Recipe, spec: ModelSpec, tokenizer: TokenizerArchitecture | None = None) -> Architecture:
    """Give the architecture that a recipe names, for the images of a spec.

    Args:
        recipe: Family and size.
        spec: Images, masking and target space.
        tokenizer: What BEiT predicts the tokens of; default: the codebook that the recipe makes.

    Raises:
        MimiaError: The family does not have this size, or not for these images.
    """
    match recipe.family:
        case "mae":
            return mae.SIZES[recipe.size]
        case "simmim":
            return simmim.SIZES[recipe.size]
        case "swin":
            return swin_architecture(recipe.size, spec)
        case "beit":
            assert recipe.vocabulary is not None  # by the recipe's own check
            return beit_architecture(recipe.size, tokenizer or TokenizerArchitecture(vocabulary=recipe.vocabulary))
