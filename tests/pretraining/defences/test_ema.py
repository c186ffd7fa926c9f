from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from mimia.config.recipes import Recipe
from mimia.data.imageset import ImageSet
from mimia.models.base import MaskedImageModel
from mimia.pretraining import trainer as loop
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.pool import untrained
from mimia.pretraining.specs import spec_for
from mimia.pretraining.trainer import Trainer
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.store import Store

CountedSteps = Callable[..., AbstractContextManager[list[int]]]
DECAY = 0.8


@pytest.fixture
def run(tmp_path: Path, digits: ImageSet) -> Callable[[str], MaskedImageModel]:
    images = digits.take(np.arange(40))
    values = {"preset": "mae-nano", "epochs": 4, "batch_size": 20, "defences": {"ema": {"decay": DECAY}}}
    recipe = Recipe.model_validate(values)

    def run(name: str) -> MaskedImageModel:
        (tmp_path / name).mkdir(exist_ok=True)
        model = untrained(images, spec_for(images, recipe), recipe, 3)
        context = TrainingContext(ComputeSettings(device="cpu", threads=1), Store(tmp_path))
        Trainer(recipe, context).fit(model, images, 3, tmp_path / name)
        return model

    return run


def test_final_weights_are_the_weighted_mean_of_those_of_all_steps(run: Callable[[str], MaskedImageModel]) -> None:
    passed: list[np.ndarray[Any, Any]] = []

    def hook(optimizer: Optimizer, *_: object) -> None:
        passed.append(optimizer.param_groups[0]["params"][0].detach().double().numpy().copy())

    handle = register_optimizer_step_post_hook(hook)
    try:
        model = run("work")
    finally:
        handle.remove()
    assert len(passed) == 8
    factors = [DECAY**7, *((1 - DECAY) * DECAY ** (7 - step) for step in range(1, 8))]
    expected = sum(factor * weights for factor, weights in zip(factors, passed, strict=True))
    found = next(value for value in model.parameters() if value.requires_grad and value.ndim > 1)
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-6)
    assert np.abs(found.detach().numpy() - passed[-1]).max() > 1e-4


def test_training_that_was_interrupted_goes_on_to_the_same_mean(
    counted_steps: CountedSteps, run: Callable[[str], MaskedImageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run("undisturbed").state_dict()
    monkeypatch.setattr(loop, "_SAVE_EVERY", -1.0)
    with counted_steps(interrupt_at=4), pytest.raises(KeyboardInterrupt):
        run("interrupted")
    with counted_steps() as count:
        resumed = run("interrupted").state_dict()
    assert count == [5]
    assert all(torch.equal(value, resumed[name]) for name, value in undisturbed.items())
