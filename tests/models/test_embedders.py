import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch

from mimia.models.base import ModelSpec
from mimia.models.embedders import embedder_of, open_embedder
from mimia.models.mae import MAE, SIZES
from mimia.runtime.arrays import Floats, Pixels
from mimia.runtime.errors import MimiaError

Serve = Callable[..., AbstractContextManager[str]]
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8), dtype=np.uint8)


def brightness(pixels: Pixels) -> Floats:
    """Embed an image by the mean of each channel."""
    vectors: Floats = pixels.mean(axis=(2, 3))
    return vectors


def npy(values: Floats) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def test_endpoint_gives_what_its_function_gives(serve: Serve) -> None:
    with serve(lambda pixels: npy(brightness(pixels))) as url:
        found = open_embedder(url)(IMAGES)
    np.testing.assert_allclose(found, brightness(IMAGES))


def test_function_is_found_by_its_module_and_name() -> None:
    embed = open_embedder("mimia.validity.blind_baseline:pixel_features")
    assert embed(IMAGES).shape[0] == len(IMAGES)


def test_function_is_taken_as_it_is_and_its_vectors_are_checked() -> None:
    np.testing.assert_array_equal(open_embedder(brightness)(IMAGES), brightness(IMAGES))
    wrong: dict[str, Any] = {
        "shape": lambda pixels: brightness(pixels)[1:],
        "type": lambda _: [[1], [2], [3], [4], [5]],
    }
    for function in wrong.values():
        with pytest.raises(MimiaError, match=r"<lambda> returned an array of the shape .* one row of floating-point"):
            open_embedder(function)(IMAGES)
    with pytest.raises(MimiaError, match="<lambda> returned numbers that are not finite"):
        open_embedder(lambda pixels: np.full((len(pixels), 2), np.inf))(IMAGES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (3, "A int is no function from images to vectors"),
        ("no.such.module:function", "cannot be imported"),
        ("mimia.validity.blind_baseline:no_such_function", "cannot be imported"),
        ("mimia.validity.blind_baseline:np", "is no function"),
        ("mimia.validity.blind_baseline", "is no function"),
    ],
)
def test_what_is_no_function_is_refused(text: Any, message: str) -> None:
    with pytest.raises(MimiaError, match=message):
        open_embedder(text)


def test_endpoint_that_is_not_there_is_told(serve: Serve) -> None:
    with serve(lambda pixels: npy(brightness(pixels))) as url:
        pass
    with pytest.raises(MimiaError, match="does not answer"):
        open_embedder(url)(IMAGES)


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (lambda _: b"hello", 200, r"no \.npy file"),
        (lambda _: b"", 200, r"no \.npy file"),
        (lambda pixels: npy(brightness(pixels)), 500, "does not answer"),
        (lambda pixels: npy(brightness(pixels)[1:]), 200, "one row of floating-point numbers an image"),
        (lambda pixels: npy(brightness(pixels)[0]), 200, "one row of floating-point numbers an image"),
        (lambda pixels: npy(np.full((len(pixels), 2), np.nan)), 200, "not finite"),
    ],
)
def test_answer_that_is_no_embedding_is_refused(
    serve: Serve, answer: Callable[[Pixels], bytes], status: int, message: str
) -> None:
    with serve(answer, status) as url, pytest.raises(MimiaError, match=message):
        open_embedder(url)(IMAGES)


def test_model_is_embedded_by_the_mean_of_its_tokens_with_nothing_masked() -> None:
    spec = ModelSpec(image_size=8, channels=3, patch_size=2, mask_ratio=0.75, target_space="normalised")
    model = MAE(spec, SIZES["nano"], torch.Generator().manual_seed(0)).eval()
    found = embedder_of(model)(IMAGES)
    with torch.inference_mode():
        x = model.patch_embed(spec.normalise(torch.from_numpy(IMAGES))) + model.pos_embed[:, 1:]
        x = torch.cat([(model.cls_token + model.pos_embed[:, :1]).expand(len(x), -1, -1), x], dim=1)
        for block in model.blocks:
            x = block(x)
        expected = model.norm(x)[:, 1:].mean(dim=1)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)
