import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from mimia.data.imageset import ImageSet
from mimia.models.base import MaskedImageModel
from mimia.models.per_sample_gradients import norms, per_image_gradients
from mimia.signals.base import QueryConfig
from mimia.signals.gradients import Gradients
from mimia.signals.queried import QueriedModel

MakeQuery = Callable[..., tuple[QueriedModel, QueryConfig, ImageSet]]
every_family = pytest.mark.parametrize("family", ["mae", "simmim", "swin", "beit"])


def slow_norm(model: MaskedImageModel, image: Tensor, masks: Tensor) -> float:
    """Norm by the ordinary backward pass, of a batch of one image: (C, H, W), (K, L)."""
    trained = [value for value in model.parameters() if value.requires_grad]
    gradients = torch.autograd.grad(model.distances(image[None], masks[None]).mean(), trained, materialize_grads=True)
    return math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients))


def gradient_norms(model: MaskedImageModel, images: Tensor, masks: Tensor, *held: int) -> Tensor:
    return torch.cat([norms(gradients) for _, gradients in per_image_gradients(model, images, masks, *held)])


@every_family
@pytest.mark.parametrize(("channels", "draws"), [(1, 12), (3, 2)])  # three masks, and one
def test_norm_is_that_of_the_gradient_of_a_batch_of_one(
    make_query: MakeQuery, family: str, channels: int, draws: int
) -> None:
    queried, query, images = make_query(family, channels)
    query = replace(query, settings=query.settings.model_copy(update={"draws": draws}))
    rows = np.arange(4)
    found = Gradients().compute(queried, images.pixels[rows], images.ids[rows], query)
    masks = torch.from_numpy(queried.model.spec.scoring_masks(images.ids[rows], max(1, draws // 4), seed=1))
    pixels = torch.from_numpy(images.pixels[rows])
    expected = [slow_norm(queried.model, *each) for each in zip(pixels, masks, strict=True)]
    assert found.shape == (4, 1)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-3)


def test_masks_of_another_ratio_than_in_training_can_be_queried(make_query: MakeQuery) -> None:
    queried, query, images = make_query("mae")
    half = query.spec.model_copy(update={"mask_ratio": 0.5})
    rows = np.arange(4)
    found = Gradients().compute(queried, images.pixels[rows], images.ids[rows], replace(query, spec=half))
    masks = torch.from_numpy(half.scoring_masks(images.ids[rows], 1, seed=1))
    pixels = torch.from_numpy(images.pixels[rows])
    expected = [slow_norm(queried.model, *each) for each in zip(pixels, masks, strict=True)]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-3)
    assert queried.model.spec.mask_ratio == 0.75


@every_family
def test_frozen_weights_do_not_count(make_query: MakeQuery, family: str) -> None:
    queried, _, images = make_query(family)
    pixels = torch.from_numpy(images.pixels[np.arange(3)])
    masks = torch.from_numpy(queried.model.spec.scoring_masks(images.ids[:3], 2, seed=0))
    whole = gradient_norms(queried.model, pixels, masks)
    for number, value in enumerate(queried.model.parameters()):
        value.requires_grad_(value.requires_grad and number % 2 == 0)
    found = gradient_norms(queried.model, pixels, masks)
    expected = [slow_norm(queried.model, *each) for each in zip(pixels, masks, strict=True)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3)
    assert bool((found < whole).all())


@contextmanager
def normalisations() -> Iterator[list[int]]:
    """Count the calls of layers that every family has."""
    count = [0]

    def hook(module: nn.Module, _: object) -> None:
        count[0] += isinstance(module, nn.LayerNorm)

    handle = register_module_forward_pre_hook(hook)
    try:
        yield count
    finally:
        handle.remove()


@every_family
def test_gradients_of_few_images_are_in_memory_at_once(make_query: MakeQuery, family: str) -> None:
    queried, _, images = make_query(family)
    pixels = torch.from_numpy(images.pixels[np.arange(5)])
    masks = torch.from_numpy(queried.model.spec.scoring_masks(images.ids[:5], 1, seed=0))
    with normalisations() as once:
        expected = gradient_norms(queried.model, pixels, masks)
    size = sum(value.numel() for value in queried.model.parameters() if value.requires_grad)
    for held, passes in ((0, 5), (2 * size, 3)):
        with normalisations() as count:
            found = gradient_norms(queried.model, pixels, masks, held)
        assert count[0] == passes * once[0]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_gradient_query_leaves_the_weights_as_they_are(make_query: MakeQuery) -> None:
    queried, query, images = make_query("mae")
    before = {name: value.clone() for name, value in queried.model.state_dict().items()}
    Gradients().compute(queried, images.pixels[np.arange(3)], images.ids[:3], query)
    for name, value in queried.model.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(value.grad is None for value in queried.model.parameters())
