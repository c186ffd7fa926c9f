from pathlib import Path

import numpy as np
import pytest
import torch

from mimia.config.recipes import Recipe
from mimia.data.imageset import ImageSet
from mimia.pretraining.defences import DPSGD, EMA, CrossFitting, EarlyStopping
from mimia.pretraining.interface import pretrain
from mimia.runtime.errors import MimiaError

RECIPE = Recipe.model_validate({"preset": "mae-nano", "epochs": 2, "batch_size": 10})


@pytest.fixture
def digits(digits: ImageSet) -> ImageSet:
    return digits.take(np.arange(40))


def test_model_is_trained_once_for_a_recipe_a_defence_and_a_seed(digits: ImageSet, tmp_path: Path) -> None:
    images, others = digits.take(np.arange(20)), digits.take(np.arange(20, 40))
    stopping = EarlyStopping(patience=1)
    models = [
        pretrain(images, RECIPE, store=tmp_path),
        pretrain(images, RECIPE, seed=1, store=tmp_path),
        pretrain(images, RECIPE, defence=EMA(decay=0.5), store=tmp_path),
        pretrain(images, RECIPE, defence=stopping, validation=others, store=tmp_path),
    ]
    assert len(list((tmp_path / "models").iterdir())) == 4
    first, *rest = (next(iter(model.state_dict().values())) for model in models)
    assert not any(torch.equal(first, other) for other in rest[:2])
    assert torch.equal(next(iter(pretrain(images, RECIPE, store=tmp_path).state_dict().values())), first)
    assert len(list((tmp_path / "models").iterdir())) == 4


def test_what_cannot_be_trained_says_why(digits: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(MimiaError, match="there is no recipe 'mae': choose one of mae-nano"):
        pretrain(digits, "mae", store=tmp_path)
    with pytest.raises(MimiaError, match="early_stopping needs validation images"):
        pretrain(digits, RECIPE, defence=EarlyStopping(patience=1), store=tmp_path)
    private = RECIPE.with_defence(DPSGD(epsilon=8))
    with pytest.raises(MimiaError, match="dp_sgd bounds what an image does"):
        pretrain(digits, private, defence=CrossFitting(), store=tmp_path)
