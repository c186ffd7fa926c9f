from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mimia.config.recipes import Recipe
from mimia.data.imageset import ImageSet
from mimia.models.base import MaskedImageModel
from mimia.models.per_sample_gradients import norms, per_image_gradients
from mimia.pretraining.pool import untrained
from mimia.pretraining.specs import spec_for

every_family = pytest.mark.parametrize("family", ["mae", "simmim", "swin", "beit"])


@pytest.fixture(scope="module")
def digits(digits: ImageSet) -> ImageSet:
    return digits.take(np.arange(7))


def asked(family: str, images: ImageSet) -> tuple[MaskedImageModel, Tensor, Tensor]:
    """Give a model in training, images and a mask for each."""
    recipe = Recipe.model_validate({"preset": f"{family}-nano"})
    model = untrained(images, spec_for(images, recipe), recipe, 0).train()
    masks = model.spec.training_masks(len(images), torch.Generator().manual_seed(1))
    return model, torch.from_numpy(np.array(images.pixels)), masks


@every_family
def test_gradients_are_those_of_batches_of_one(family: str, digits: ImageSet) -> None:
    model, pixels, masks = asked(family, digits)
    model.get_parameter(next(name for name, _ in model.named_parameters())).requires_grad_(False)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    ((losses, gradients),) = per_image_gradients(model, pixels, masks)
    assert gradients.keys() == trained.keys()
    for row in range(len(pixels)):
        loss = model.loss(pixels[row : row + 1], masks[row : row + 1])
        slow = torch.autograd.grad(loss, list(trained.values()), materialize_grads=True)
        torch.testing.assert_close(losses[row], loss, rtol=1e-5, atol=1e-6)
        flat = torch.cat([value.flatten() for value in slow])
        found = torch.cat([value[row].flatten() for value in gradients.values()])
        assert float((found - flat).norm()) < 1e-5 * float(flat.norm())
        torch.testing.assert_close(norms(gradients)[row].double(), flat.double().norm(), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("held", "parts"), [(0, [1] * 7), (3.5, [3, 3, 1]), (100, [7])])
def test_images_come_in_parts_and_in_their_order(held: float, parts: list[int], digits: ImageSet) -> None:
    model, pixels, masks = asked("mae", digits)
    size = sum(value.numel() for value in model.parameters() if value.requires_grad)
    found = list(per_image_gradients(model, pixels, masks, int(held * size)))
    assert [len(losses) for losses, _ in found] == parts
    together: Any = next(per_image_gradients(model, pixels, masks))
    torch.testing.assert_close(torch.cat([losses for losses, _ in found]), together[0])
    torch.testing.assert_close(torch.cat([norms(gradients) for _, gradients in found]), norms(together[1]))


def test_no_image_has_no_gradient(digits: ImageSet) -> None:
    model, pixels, masks = asked("mae", digits)
    assert list(per_image_gradients(model, pixels[:0], masks[:0])) == []
