import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mimia.config.recipes import Recipe
from mimia.models.base import ModelSpec
from mimia.models.mae import MAE, SIZES
from mimia.pretraining.schedule import learning_rate, make_optimizer

SPEC = ModelSpec(
    image_size=8,
    channels=1,
    patch_size=2,
    mask_ratio=0.75,
    target_space="normalised",
    mean=(0.0,),
    std=(1.0,),
)


def recipe(**changes: float | tuple[float, float]) -> Recipe:
    return Recipe.model_validate({"preset": "mae-nano", "base_learning_rate": 1e-3, "batch_size": 512} | changes)


def test_rate_rises_from_zero_to_its_peak_and_falls_to_zero() -> None:
    rates = [learning_rate(step, 100, 512, recipe(warmup=0.2)) for step in range(100)]
    peak = 1e-3 * 512 / 256
    assert rates[0] == 0
    assert rates[10] == pytest.approx(peak / 2)
    assert max(rates) == rates[20] == pytest.approx(peak)
    assert rates[60] == pytest.approx(peak / 2)
    assert rates[99] == pytest.approx(peak * math.sin(math.pi / 160) ** 2)
    assert rates == sorted(rates[:20]) + sorted(rates[20:], reverse=True)


def test_rate_without_warmup_starts_at_its_peak() -> None:
    assert learning_rate(0, 10, 512, recipe(warmup=0)) == pytest.approx(2e-3)


@given(st.integers(1, 60), st.integers(1, 30), st.integers(0, 59), st.data())
@settings(max_examples=50, deadline=None)
def test_rate_is_that_of_the_official_code(epochs: int, steps_per_epoch: int, warm: int, data: st.DataObject) -> None:
    warmup_epochs = min(warm, epochs - 1)
    step = data.draw(st.integers(0, epochs * steps_per_epoch - 1))
    epoch = step / steps_per_epoch  # adjust_learning_rate(optimizer, data_iter_step / len(data_loader) + epoch, args)
    if epoch < warmup_epochs:
        expected = 2e-3 * epoch / warmup_epochs
    else:
        expected = 2e-3 * 0.5 * (1 + math.cos(math.pi * (epoch - warmup_epochs) / (epochs - warmup_epochs)))
    found = learning_rate(step, epochs * steps_per_epoch, 512, recipe(warmup=warmup_epochs / epochs))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_step_without_gradients_shrinks_matrices_and_tokens_and_nothing_else() -> None:
    model = MAE(SPEC, SIZES["nano"], torch.Generator().manual_seed(0))
    with torch.no_grad():
        for value in model.parameters():
            value.add_(1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = make_optimizer(model, recipe(weight_decay=0.5))
    for value in model.parameters():
        value.grad = torch.zeros_like(value)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    optimizer.step()
    for name, value in model.state_dict().items():
        decayed = value.ndim > 1 and "pos_embed" not in name
        torch.testing.assert_close(value, before[name] * (1 - 0.1 * 0.5) if decayed else before[name])
    assert {"cls_token", "mask_token"} <= before.keys()


def test_positions_are_not_trained_and_all_else_is() -> None:
    model = MAE(SPEC, SIZES["nano"])
    optimizer = make_optimizer(model, recipe(betas=(0.8, 0.9)))
    trained = {id(value) for group in optimizer.param_groups for value in group["params"]}
    fixed = {name for name, value in model.named_parameters() if id(value) not in trained}
    assert fixed == {"pos_embed", "decoder_pos_embed"}
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.9)}
