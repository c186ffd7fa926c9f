"""Weights into a model, strictly: every parameter is there, none is left over, and all are finite."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from mimia.models.base import Architecture, MaskedImageModel, ModelSpec
from mimia.models.registry import build
from mimia.models.sizes import blocks_of
from mimia.runtime.errors import MimiaError
from mimia.runtime.text import shortened

_Model = TypeVar("_Model", bound=nn.Module)
_WEIGHTS_OF_A_BLOCK = 2  # at least


def build_for(
    weights: Mapping[str, Tensor], spec: ModelSpec, architecture: Architecture, source: str, sized_by: str
) -> MaskedImageModel:
    """Return a model with the given weights, in evaluation mode; nothing is built that they would not fill.

    Args:
        weights: By the names of its parameters and buffers; they are not copied.
        spec: What the model takes and predicts.
        architecture: Its family and sizes.
        source: What errors call the place that the weights come from.
        sized_by: What errors call the place that the sizes come from.

    Raises:
        MimiaError: The sizes are not those of the weights, or as for `fill`.
    """
    refuse_more_blocks(blocks_of(architecture.model_dump()), len(weights), source, sized_by)
    check_shapes(outline(partial(build, spec, architecture), source, sized_by), weights, source, sized_by)
    return fill(build(spec, architecture), weights, source, sized_by)


def outline(make: Callable[[], _Model], source: str, sized_by: str) -> _Model:
    """Return a model on the meta device, where it takes no memory, whatever its sizes are.

    Raises:
        MimiaError: The sizes contradict each other.
    """
    try:
        with torch.device("meta"):
            return make()
    except MimiaError:
        raise
    except Exception as error:  # such sizes fail anywhere in a model
        raise MimiaError(
            f"{source} cannot be opened: {sized_by} describes a model that cannot be built ({in_short(error)})."
        ) from error


def refuse_more_blocks(blocks: int, weights: int, source: str, sized_by: str) -> None:
    """Raise if more blocks are asked for than so many weights can be of.

    Raises:
        MimiaError: There are more.
    """
    if blocks * _WEIGHTS_OF_A_BLOCK > weights:
        raise MimiaError(
            f"{source} has {weights:,} weights, too few for the {blocks:,} blocks that {sized_by} asks for: it is of "
            "another model."
        )


def check_shapes(model: nn.Module, weights: Mapping[str, Tensor], source: str, sized_by: str) -> None:
    """Raise if weights are not those of a model, which may be on the meta device.

    Raises:
        MimiaError: A parameter is missing, unexpected, or of another shape.
    """
    expected = model.state_dict()
    for name in sorted(expected.keys() ^ weights.keys()):
        state = "lacks" if name in expected else "has the unexpected"
        raise MimiaError(f"{source} {state} parameter {shortened(name)}.")
    for name, value in weights.items():
        wanted = expected[name]
        if value.shape != wanted.shape:
            raise MimiaError(
                f"{source}: {name} has the shape {tuple(value.shape)}, but {sized_by} asks for {tuple(wanted.shape)}."
            )


def fill(model: _Model, weights: Mapping[str, Tensor], source: str, sized_by: str) -> _Model:
    """Return a model with the given weights, which are not copied, in evaluation mode.

    Args:
        model: May be on the meta device.
        weights: By the names of its parameters and buffers.
        source: What errors call the place that the weights come from.
        sized_by: What errors call the place that the shapes follow from.

    Raises:
        MimiaError: A parameter is missing, unexpected, of another shape or type, or not finite.
    """
    check_shapes(model, weights, source, sized_by)
    expected = model.state_dict()
    for name, value in weights.items():
        wanted = expected[name]
        if value.dtype != wanted.dtype or value.layout != wanted.layout:
            raise MimiaError(f"{source}: {name} is of type {value.dtype}, not {wanted.dtype}.")
        # The extremes need no memory, as a mask of finite values would, and a NaN wins over all of them.
        if value.numel() and not all(math.isfinite(extreme) for extreme in value.aminmax()):
            raise MimiaError(f"{source}: {name} holds numbers that are not finite.")
    model.load_state_dict(weights, assign=True)
    return model.eval()


def in_short(error: Exception) -> str:
    """Return the first line of an error, without its middle if it is long."""
    lines = str(error).strip().splitlines()
    return shortened(lines[0].rstrip(".") if lines else type(error).__name__)
