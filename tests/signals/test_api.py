"""Signals by the Python interface."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mimia.data.imageset import ImageSet
from mimia.runtime.arrays import Floats, Pixels
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store
from mimia.signals import extract
from mimia.signals.api import Model, extract_signals
from mimia.signals.base import QueryConfig
from mimia.signals.queried import QueriedModel

MakeQuery = Callable[..., tuple[QueriedModel, QueryConfig, ImageSet]]
CPU = ComputeSettings(device="cpu", threads=1)


def flat(pixels: Pixels) -> Floats:
    return pixels.reshape(len(pixels), -1).astype(np.float32)


def test_models_in_memory_and_checkpoints_have_the_signals_of_the_engine(make_query: MakeQuery, store: Store) -> None:
    queried, query, images = make_query("mae")
    few, names = images.take(np.arange(6)), ["reconstruction", "gradients", "embeddings"]
    assert isinstance(queried.source, Path)
    models: list[Model] = [queried.model, queried.source, str(queried.source)]
    found = extract_signals(models, few, names, n_masks=4, seed=1, compute=CPU)
    expected = extract.extract_signals(names, [queried], few, np.arange(6), query, store)
    assert found.images.tolist() == few.ids.tolist()
    assert found.query_id == expected.query_id
    assert found.models == expected.models * 3
    for name in names:
        for values in found[name]:
            np.testing.assert_allclose(values, expected[name][0], rtol=1e-5, atol=1e-6)


def test_functions_to_vectors_have_embeddings_alone(make_query: MakeQuery) -> None:
    queried, _, images = make_query("mae")
    few = images.take(np.arange(3))
    found = extract_signals([flat], few, ["embeddings", "view_similarity"], n_masks=5, compute=CPU)
    np.testing.assert_array_equal(found["embeddings"][0], flat(few.pixels))
    assert found["view_similarity"].shape == (1, 3, 5)
    with pytest.raises(MimiaError, match="'reconstruction' needs a model's encoder, and a function has vectors alone"):
        extract_signals([queried.model, flat], few, ["reconstruction"], compute=CPU)


def test_signals_that_a_model_does_not_have_are_refused(make_query: MakeQuery, tmp_path: Path) -> None:
    queried, _, images = make_query("mae")
    few = images.take(np.arange(3))
    with pytest.raises(MimiaError, match="There is no signal 'guess': choose one of reconstruction, "):
        extract_signals([queried.model], few, ["guess"], compute=CPU)
    with pytest.raises(MimiaError, match="'latents' needs a decoder that is fitted here"):
        extract_signals([queried.model], few, ["latents"], compute=CPU)
    with pytest.raises(MimiaError, match="nowhere"):
        extract_signals([tmp_path / "nowhere"], few, ["embeddings"], compute=CPU)
