from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch import Tensor

from mimia.data.imageset import ImageSet
from mimia.models.base import ModelSpec
from mimia.runtime.arrays import Floats
from mimia.signals.base import QueryConfig
from mimia.signals.crop_similarity import random_crops_of
from mimia.signals.partcrop import PartCropResponses, divergences
from mimia.signals.queried import QueriedModel

MakeQuery = Callable[..., tuple[QueriedModel, QueryConfig, ImageSet]]
COUNT = 128


def random_responses(*shape: int, scale: float = 1.0) -> Tensor:
    values = scale * torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.log_softmax(values, dim=-1)


def sorted_density(count: int, seed: int) -> Floats:
    """Return the density that `divergences` compares with: what is subtracted does not depend on the response."""
    flat = torch.full((count,), -float(np.log(count)), dtype=torch.float64)
    weights = []
    for place in range(count):  # the divergence is linear in the sorted logarithms
        raised = flat.clone()
        raised[place:] += 1
        weights.append(float(divergences(flat, seed)[1] - divergences(raised, seed)[1]))
    density: Floats = np.array(weights) - np.append(weights[1:], 0)
    return density


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("count", [4, 16, 49])
def test_divergences_are_those_of_kullback_and_leibler(count: int, scale: float) -> None:
    responses = random_responses(3, 5, count, scale=scale)
    uniform, normal = divergences(responses, seed=0)
    density = sorted_density(count, seed=0)
    assert uniform.shape == normal.shape == (3, 5)
    for place in np.ndindex(3, 5):
        response = responses[place].exp().numpy()
        assert float(uniform[place]) == pytest.approx(entropy(np.full(count, 1 / count), response), rel=1e-6)
        assert float(normal[place]) == pytest.approx(entropy(density, np.sort(response)), rel=1e-6, abs=1e-9)


def test_density_is_a_sorted_normal_one_that_follows_from_the_seed() -> None:
    density = sorted_density(40, seed=0)
    assert density.sum() == pytest.approx(1)
    assert (np.diff(density) > 0).all()
    # exp(−z²/2) is at most 1, and z² of a normal z is below 1 for 68 of 100
    assert 0.5 < (density > np.exp(-0.5) * density.max()).mean() < 0.85
    np.testing.assert_allclose(sorted_density(40, seed=0), density)
    assert not np.allclose(sorted_density(40, seed=1), density)


def test_uniform_response_has_no_divergence_from_the_uniform_one_and_a_peak_a_large_one() -> None:
    flat = torch.zeros(16).log_softmax(dim=-1)
    peak = torch.tensor([1000.0] + [0.0] * 15).log_softmax(dim=-1)  # of which 15 probabilities are 0 in float32
    assert float(divergences(flat, 0)[0]) == pytest.approx(0, abs=1e-6)
    assert 900 < float(divergences(peak, 0)[0]) < 1000
    assert all(bool(value.isfinite()) for value in divergences(peak, 0))


def slow_canvas(crop: Floats, spec: ModelSpec) -> tuple[Floats, list[int]]:
    """Show a crop at half its size in the middle of an image, and say which patches it covers."""
    size, (grid, _) = spec.patch_size, spec.grid
    side = max(1, grid // 2)
    first = (grid - side) // 2
    canvas = np.zeros_like(crop)
    ratio = grid * size // (side * size)
    assert ratio * side == grid
    for channel, y, x in np.ndindex(len(crop), side * size, side * size):
        block = crop[channel, ratio * y : ratio * (y + 1), ratio * x : ratio * (x + 1)]
        canvas[channel, first * size + y, first * size + x] = np.rint(block.mean(dtype=np.float64))
    covered = [row * grid + column for row in range(first, first + side) for column in range(first, first + side)]
    return canvas, covered


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("family", ["mae", "simmim", "swin", "beit"])
def test_parts_are_the_sorted_divergences_of_responses_to_crops(
    make_query: MakeQuery, family: str, channels: int
) -> None:
    queried, query, images = make_query(family, channels)
    spec, model = queried.model.spec, queried.model
    found = PartCropResponses().compute(queried, images.pixels[[3]], images.ids[[3]], query)[0]
    crops = random_crops_of(images.pixels[[3]], images.ids[[3]], COUNT, (0.08, 0.2), seed=1)[0]
    nothing = torch.zeros(1, 1, spec.tokens, dtype=torch.bool)
    with torch.inference_mode():
        patches = model.tokens(torch.from_numpy(images.pixels[[3]]), nothing)[0, 0].double().numpy()
    uniform, normal = [], []
    density = sorted_density(len(patches), seed=1)
    for crop in crops:
        canvas, covered = slow_canvas(crop, spec)
        mask = torch.ones(1, 1, spec.tokens, dtype=torch.bool)
        mask[:, :, covered] = False
        with torch.inference_mode():
            part = model.tokens(torch.from_numpy(canvas)[None], mask)[0, 0].double().numpy().mean(axis=0)
        answers = patches @ part
        response = np.exp(answers - answers.max())
        response = np.maximum(response / response.sum(), 1e-300)
        uniform.append(float(entropy(np.full(len(patches), 1 / len(patches)), response)))
        normal.append(float(entropy(density, np.sort(response))))
    expected = [*sorted(uniform), *sorted(normal)]
    assert found.shape == (2 * COUNT,)
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=1e-4)


@pytest.mark.parametrize("family", ["mae", "swin"])
def test_members_and_others_are_cropped_alike(make_query: MakeQuery, family: str) -> None:
    """The crops of an image are a function of the seed and its id, alone or among others."""
    queried, query, images = make_query(family)
    shadow, _, _ = make_query(family, seed=1)
    rows = np.array([4, 1, 4])
    found, other = (
        PartCropResponses().compute(each, images.pixels[rows], images.ids[rows], query) for each in (queried, shadow)
    )
    np.testing.assert_allclose(found[0], found[2], rtol=1e-5, atol=1e-6)
    alone = PartCropResponses().compute(queried, images.pixels[[1]], images.ids[[1]], query)
    np.testing.assert_allclose(alone[0], found[1], rtol=1e-3, atol=1e-5)
    assert not np.allclose(other, found, rtol=1e-2)


@pytest.mark.parametrize("colour", [0, 255])
@pytest.mark.parametrize("family", ["mae", "simmim", "swin", "beit"])
def test_image_of_one_colour_is_finite(make_query: MakeQuery, family: str, colour: int) -> None:
    queried, query, _ = make_query(family)
    pixels = np.full((2, 1, 8, 8), colour, dtype=np.uint8)
    assert np.isfinite(PartCropResponses().compute(queried, pixels, np.array(["a", "b"]), query)).all()
