"""Models of images whose colours are in another order: their weights are put into the order of mimia's, RGB."""

import re
from dataclasses import replace

from torch import Tensor

from mimia.models.checkpoints.parsed import ParsedCheckpoint

_INPUTS = re.compile(r"(patch_embed\.proj|patch_embeddings\.projection)\.weight$")  # (D, C, p, p)
_PIXELS_FIRST = re.compile(r"decoder_pred\.(weight|bias)$")  # rows in the order (p, q, c)
_CHANNELS_FIRST = re.compile(r"(^|\.)decoder\.0\.(weight|bias)$")  # rows in the order (c, p, q)


def in_rgb(parsed: ParsedCheckpoint) -> ParsedCheckpoint:
    """Return a checkpoint as one of RGB images, if it is known to take images whose colours are in reverse order."""
    order = parsed.facts.get("channel_order")
    return reversed_colours(parsed) if order is not None and order.value == "bgr" else parsed


def reversed_colours(parsed: ParsedCheckpoint) -> ParsedCheckpoint:
    """Return a checkpoint whose model takes and predicts colours in the reverse order."""
    spec = parsed.spec
    state = {name: _reversed(name, value, spec.channels) for name, value in parsed.state.items()}
    return replace(parsed, state=state, spec=spec.model_copy(update={"mean": spec.mean[::-1], "std": spec.std[::-1]}))


def _reversed(name: str, value: Tensor, channels: int) -> Tensor:
    if _INPUTS.search(name):
        return value.flip(1)
    if _PIXELS_FIRST.search(name):
        return value.view(-1, channels, *value.shape[1:]).flip(1).reshape(value.shape)
    if _CHANNELS_FIRST.search(name):
        return value.view(channels, -1, *value.shape[1:]).flip(0).reshape(value.shape)
    return value
