from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mimia.config.recipes import Recipe
from mimia.data.imageset import ImageSet
from mimia.models.base import MaskedImageModel
from mimia.models.checkpoints import native
from mimia.models.mae import MAE
from mimia.models.relative_error import reconstruction_errors
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.pool import pretrained
from mimia.pretraining.specs import spec_for
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store
from mimia.signals.reconstruction_check import check_reconstruction

COMPUTE = ComputeSettings(device="cpu", threads=1)
Changed = Callable[..., MaskedImageModel]


@pytest.fixture(scope="module")
def trained(digits: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = digits.take(np.arange(100, 200))
    recipe = Recipe.model_validate({"preset": "mae-nano", "epochs": 60})
    context = TrainingContext(COMPUTE, Store(tmp_path_factory.mktemp("store")))
    return pretrained(images, spec_for(images, recipe), recipe, 0, context)


def with_spec(checkpoint: Path, **changes: object) -> MAE:
    model = native.load(checkpoint)
    assert isinstance(model, MAE)
    model.spec = model.spec.model_copy(update=changes)
    return model


def test_model_in_its_own_space_is_better_than_the_mean_colour(trained: Path, digits: ImageSet) -> None:
    others = digits.take(np.arange(200, 232))
    model = with_spec(trained)
    masks = torch.from_numpy(model.spec.scoring_masks(others.ids, 1, 0))
    pixels = torch.from_numpy(others.pixels)
    with torch.inference_mode():
        target = model.target(pixels)
        centred = target - target.mean(dim=(0, 1))
        blind = [float(centred[row][masks[row, 0]].square().mean()) for row in range(len(others))]
        own = model.distances(pixels, masks).mean()
    assert reconstruction_errors(model, others, COMPUTE).relative == pytest.approx(
        float(own) / np.mean(blind), rel=1e-5
    )
    check_reconstruction(model, others, COMPUTE)


@pytest.mark.parametrize(
    "changes",
    [{"target_space": "patch-normalised"}, {"mean": (0.9,), "std": (0.1,)}, {"mean": (-3.0,)}],
    ids=["space", "image_features", "mean"],
)
def test_wrong_pixel_space_is_noticed(trained: Path, digits: ImageSet, changes: dict[str, object]) -> None:
    model = with_spec(trained, **changes)
    with pytest.raises(MimiaError, match=r"worse than the mean colour .* checkpoint\.target_space"):
        check_reconstruction(model, digits.take(np.arange(200, 232)), COMPUTE)


def test_decoder_of_another_training_is_noticed(trained: Path, digits: ImageSet) -> None:
    model = with_spec(trained)
    with torch.no_grad():
        model.decoder_embed.weight.copy_(model.decoder_embed.weight.flip(0) * 3)
    with pytest.raises(MimiaError, match="worse than the mean colour"):
        check_reconstruction(model, digits.take(np.arange(200, 232)), COMPUTE)
