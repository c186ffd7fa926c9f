"""Functions from images to vectors: all that an attacker has at the access level *embeddings*."""

import io
from collections.abc import Callable
from importlib import import_module
from typing import TypeAlias

import numpy as np
import torch

from mimia.models.base import MaskedImageModel
from mimia.runtime.arrays import Floats, Pixels
from mimia.runtime.errors import MimiaError

Embedder: TypeAlias = Callable[[Pixels], Floats]
"""Raw pixels, uint8, (B, C, H, W) -> vectors, (B, D)."""

_TIMEOUT = 120  # seconds


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
            are not one finite row of floating-point numbers for each image.
    """
    if not isinstance(source, str):
        if not callable(source):
            raise MimiaError(f"A {type(source).__name__} is no function from images to vectors: pass one, or its name.")
        function, name = source, getattr(source, "__name__", type(source).__name__)
    else:
        function, name = _endpoint(source) if source.startswith(("http://", "https://")) else _imported(source), source

    def embed(pixels: Pixels) -> Floats:
        vectors = np.asarray(function(pixels))
        if vectors.ndim != 2 or len(vectors) != len(pixels) or vectors.dtype.kind != "f":
            raise MimiaError(
                f"{name} returned an array of the shape {vectors.shape} and type {vectors.dtype} for {len(pixels)} "
                "images: it must return one row of floating-point numbers an image."
            )
        if not np.isfinite(vectors).all():
            raise MimiaError(f"{name} returned numbers that are not finite: see that it takes pixels from 0 to 255.")
        return vectors

    return embed


def _imported(text: str) -> Embedder:
    module, colon, name = text.partition(":")
    try:
        function = getattr(import_module(module), name) if colon else None
    except (ImportError, AttributeError, ValueError) as error:
        raise MimiaError(f"{text} cannot be imported ({error}): pass package.module:function.") from error
    if not callable(function):
        raise MimiaError(f"{text} is no function: pass package.module:function, or the address of an endpoint.")
    found: Embedder = function
    return found


def _endpoint(url: str) -> Embedder:
    import requests

    def embed(pixels: Pixels) -> Floats:
        body = io.BytesIO()
        np.save(body, pixels, allow_pickle=False)
        try:
            headers = {"Content-Type": "application/octet-stream"}
            response = requests.post(url, data=body.getvalue(), headers=headers, timeout=_TIMEOUT)
            response.raise_for_status()
        except requests.RequestException as error:
            raise MimiaError(f"{url} does not answer ({error}): start it, then run the same command again.") from error
        try:
            vectors: Floats = np.load(io.BytesIO(response.content), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise MimiaError(f"{url} answers with something that is no .npy file of vectors.") from error
        return vectors

    return embed
