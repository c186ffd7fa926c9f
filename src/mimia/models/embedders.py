"""Functions from images to vectors: all that an attacker has at the access level *embeddings*."""

from collections.abc import Callable
from importlib import import_module
from typing import TypeAlias

import torch

from mimia.models.base import MaskedImageModel
from mimia.models.endpoint import Endpoint
from mimia.models.vectors import check_vectors
from mimia.runtime.arrays import Floats, Pixels
from mimia.runtime.errors import MimiaError
from mimia.runtime.text import shortened

Embedder: TypeAlias = Callable[[Pixels], Floats]
"""Raw pixels, uint8, (B, C, H, W) -> vectors, (B, D)."""


def embedder_of(model: MaskedImageModel) -> Embedder:
    """Return a function to the mean of the model's tokens with nothing masked, (B, D)."""

    def embed(pixels: Pixels) -> Floats:
        device = next(model.parameters()).device
        nothing = torch.zeros(len(pixels), 1, model.spec.tokens, dtype=torch.bool, device=device)
        with torch.inference_mode():
            tokens = model.tokens(torch.from_numpy(pixels).to(device), nothing)
            vectors: Floats = tokens[:, 0].float().mean(dim=1).cpu().numpy()
        return vectors

    return embed


def open_embedder(source: str | Embedder) -> Embedder:
    """Return a function from images to vectors that checks what it returns.

    Args:
        source: A function; ``package.module:function``; or the address of an HTTP endpoint that takes a POST of the
            images as a ``.npy`` file (uint8, (B, C, H, W)) and answers with one of the vectors (float, (B, D)).

    Raises:
        MimiaError: There is no such function. The embedder raises it if an endpoint does not answer, and if the vectors
            are not one finite row of floating-point numbers for each image, of one length.
    """
    if not isinstance(source, str):
        if not callable(source):
            raise MimiaError(f"A {type(source).__name__} is no function from images to vectors: pass one, or its name.")
        function, name = source, getattr(source, "__name__", type(source).__name__)
    elif source.lower().startswith(("http://", "https://")):
        endpoint = Endpoint(source)
        function, name = endpoint, endpoint.name
    else:
        function, name = _imported(source), shortened(source)

    width: int | None = None

    def embed(pixels: Pixels) -> Floats:
        nonlocal width
        vectors = check_vectors(function(pixels), len(pixels), width, name)
        width = vectors.shape[1]
        return vectors

    return embed


def _imported(text: str) -> Embedder:
    module, colon, name = text.partition(":")
    try:
        function = getattr(import_module(module), name) if colon else None
    except Exception as error:  # of the module too, which runs when it is imported
        raise MimiaError(
            f"{shortened(text)} cannot be imported ({shortened(str(error))}): pass package.module:function."
        ) from error
    if not callable(function):
        raise MimiaError(
            f"{shortened(text)} is no function: pass package.module:function, or the address of an endpoint."
        )
    found: Embedder = function
    return found
