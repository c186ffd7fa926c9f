from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from mimia.data.imageset import ImageSet
from mimia.data.pixel_features import pixel_features
from mimia.models.base import ModelSpec
from mimia.models.masking import complementary_masks
from mimia.runtime.arrays import Bools, Floats, Pixels
from mimia.runtime.compute import ComputeSettings
from mimia.signals.base import QueryConfig
from mimia.signals.image_features import ImageFeatures
from mimia.signals.patch_predictability import PatchPredictability, untrained_network
from mimia.signals.queried import QueriedModel

MakeQuery = Callable[..., tuple[QueriedModel, QueryConfig, ImageSet]]
NOBODY = QueriedModel("nobody", lambda _: np.zeros((0, 0), dtype=np.float32), ComputeSettings(device="cpu", threads=1))


def make_spec(spec: ModelSpec, **changes: object) -> ModelSpec:
    return ModelSpec.model_validate(spec.model_dump() | changes)


def predictability(pixels: Pixels, ids: list[str], query: QueryConfig) -> Floats:
    return PatchPredictability().compute(NOBODY, pixels, np.array(ids), query)[:, 0]


def slow_hide(image: Pixels, hidden: Bools, size: int) -> Pixels:
    """Paint patches in the mean colour of the others: (C, H, W), (L,)."""
    grid = image.shape[-1] // size
    place = np.array([[hidden[y // size * grid + x // size] for x in range(grid * size)] for y in range(grid * size)])
    view = image.copy()
    for channel in view:
        channel[place] = round(float(channel[~place].mean()))
    return view


def slow_features(image: Pixels, hidden: Bools, patch: int, spec: ModelSpec, seed: int) -> list[float]:
    """Mean response of the network on a view in the 3 × 3 patches around one, and a constant."""
    size = spec.patch_size
    network = untrained_network(spec.channels, seed)
    with torch.inference_mode():
        response = network(spec.normalise(torch.from_numpy(slow_hide(image, hidden, size))[None]))[0].numpy()
    row, column = divmod(patch, spec.grid[1])
    rows, columns = (slice(max(0, size * (place - 1)), size * (place + 2)) for place in (row, column))
    return [*response[:, rows, columns].mean(axis=(1, 2)).tolist(), 1.0]


def slow_predictability(image: Pixels, name: str, spec: ModelSpec, seed: int) -> float:
    """Predict each patch of one image by scikit-learn's ridge regression, fitted to the patches of the other folds."""
    size = spec.patch_size
    folds = ~complementary_masks(np.array([name]), 4, spec.tokens, spec.tokens // 4, seed)[0]
    features = np.array(
        [slow_features(image, folds[folds[:, patch]][0], patch, spec, seed) for patch in range(spec.tokens)]
    )
    normalised = spec.normalise(torch.from_numpy(image)[None])[0].numpy()
    patches = np.array(
        [
            normalised[:, size * row : size * (row + 1), size * column : size * (column + 1)].ravel()
            for row, column in np.ndindex(spec.grid)
        ]
    )
    errors: list[float] = []
    for fold in folds:
        outside = features[~fold]
        ridge = 0.1 * float((outside**2).sum(axis=0).mean())
        model = Ridge(alpha=ridge, fit_intercept=False).fit(outside, patches[~fold])
        predicted = model.predict(features[fold]).reshape(-1, patches.shape[1])
        errors += ((predicted - patches[fold]) ** 2).mean(axis=1).tolist()
    return sum(errors) / len(errors)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("patch_size", [1, 2, 4])  # 64, 16 and 4 patches
def test_predictability_is_the_error_of_ridge_regressions_on_what_surrounds_hidden_patches(
    make_query: MakeQuery, channels: int, patch_size: int
) -> None:
    _, query, images = make_query("mae", channels)
    query = replace(query, spec=make_spec(query.spec, patch_size=patch_size))
    rows = np.arange(3)
    found = predictability(images.pixels[rows], images.ids[rows].tolist(), query)
    expected = [slow_predictability(images.pixels[[row]][0], images.ids[row], query.spec, seed=1) for row in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_no_patch_helps_to_predict_itself(make_query: MakeQuery) -> None:
    """Patches of random colours are predicted no better than by the mean colour."""
    _, query, _ = make_query("mae")
    generator = np.random.default_rng(0)
    levels = generator.integers(0, 256, (200, 1, 4, 4), dtype=np.uint8)
    pixels = levels.repeat(2, axis=2).repeat(2, axis=3)  # each patch has a colour of its own
    found = predictability(pixels, [f"image {number}" for number in range(200)], query)
    variance = (levels / 255 / np.array(query.spec.std)[0]).var(axis=(1, 2, 3))
    assert found.mean() > variance.mean()  # a patch that predicts itself would have almost no error


@pytest.mark.parametrize("patch_size", [1, 2, 4])
@pytest.mark.parametrize("colour", [0, 100, 255])
def test_image_of_one_colour_is_predicted(make_query: MakeQuery, patch_size: int, colour: int) -> None:
    _, query, _ = make_query("mae", 3)
    query = replace(query, spec=make_spec(query.spec, patch_size=patch_size))
    pixels = np.full((2, 3, 8, 8), colour, dtype=np.uint8)
    found = predictability(pixels, ["a", "b"], query)
    value = (colour / 255 - np.array(query.spec.mean)) / np.array(query.spec.std)
    assert np.isfinite(found).all()
    assert (found < 0.05 * (value**2).mean() + 1e-9).all()


def test_image_whose_parts_follow_from_each_other_is_predicted_better_than_noise(make_query: MakeQuery) -> None:
    _, query, _ = make_query("mae")
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    ramps = np.stack(
        [
            np.add.outer(30 * np.arange(8) * proportion, 30 * np.arange(8) * (1 - proportion))[None]
            for proportion in np.arange(20) / 19
        ]
    ).astype(np.uint8)
    names = [f"image {number}" for number in range(20)]
    assert predictability(ramps, names, query).max() < predictability(noise, names, query).min()


def test_grid_that_does_not_divide_into_folds_is_predicted(make_query: MakeQuery) -> None:
    """Of 25 patches one is in no fold."""
    _, query, _ = make_query("mae")
    spec = make_spec(query.spec, image_size=10)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 10, 10), dtype=np.uint8)
    found = predictability(pixels, ["a", "b"], replace(query, spec=spec))
    assert np.isfinite(found).all()
    alone = [predictability(pixels[[row]], [name], replace(query, spec=spec))[0] for row, name in enumerate("ab")]
    np.testing.assert_allclose(found, alone, rtol=1e-4)


def test_network_follows_from_the_seed_and_draws_nothing() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = untrained_network(3, seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    again, other = untrained_network(3, seed=1).state_dict(), untrained_network(3, seed=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert {name for name in first if not torch.equal(first[name], other[name])} == {"0.weight", "2.weight"}


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_are_those_of_the_pixels_whatever_the_model(make_query: MakeQuery, channels: int) -> None:
    _, query, images = make_query("mae", channels)
    pixels, ids = images.pixels[np.arange(5)], images.ids[:5]
    np.testing.assert_array_equal(ImageFeatures().compute(NOBODY, pixels, ids, query), pixel_features(pixels))
