"""Weights into a model, strictly: every parameter is there, none is left over, and all are finite."""

import math
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

from mimia.runtime.errors import MimiaError

_Model = TypeVar("_Model", bound=nn.Module)


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
    expected = model.state_dict()
    for name in sorted(expected.keys() ^ weights.keys()):
        state = "lacks" if name in expected else "has the unexpected"
        raise MimiaError(f"{source} {state} parameter {name}.")
    for name, value in weights.items():
        wanted = expected[name]
        if value.shape != wanted.shape:
            raise MimiaError(
                f"{source}: {name} has the shape {tuple(value.shape)}, but {sized_by} asks for {tuple(wanted.shape)}."
            )
        if value.dtype != wanted.dtype or value.layout != wanted.layout:
            raise MimiaError(f"{source}: {name} is of type {value.dtype}, not {wanted.dtype}.")
        # The extremes need no memory, as a mask of finite values would, and a NaN wins over all of them.
        if not all(math.isfinite(extreme) for extreme in value.aminmax()):
            raise MimiaError(f"{source}: {name} holds numbers that are not finite.")
    model.load_state_dict(weights, assign=True)
    return model.eval()
