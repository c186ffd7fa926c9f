"""MAEs of other grids, bands and tokens than the official one; each equals another model that it must equal."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.models.checkpoints.test_official_mae import slow_mae
from torch import Tensor

from mimia.config.settings import CheckpointSettings
from mimia.models.base import MaskedImageModel
from mimia.models.checkpoints import native
from mimia.models.checkpoints.loading import load_checkpoint
from mimia.models.mae import MAE
from mimia.models.vit import sincos_positions
from mimia.runtime.errors import MimiaError

State = dict[str, Tensor]
MakeState = Callable[..., State]
GIVEN = CheckpointSettings(heads=3, decoder_heads=4, target_space="normalised", mean=(0.5,) * 3, std=(0.25,) * 3)


def load(path: Path, state: State, given: CheckpointSettings = GIVEN) -> MAE:
    torch.save({"model": state}, path)
    model = load_checkpoint(path, given).model
    assert isinstance(model, MAE)
    return model


def images_of(model: MaskedImageModel) -> Tensor:
    return torch.randint(256, (2, *model.spec.shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def tokens(model: MaskedImageModel) -> Tensor:
    masks = model.spec.training_masks(2, torch.Generator().manual_seed(2))
    with torch.inference_mode():
        return model.tokens(images_of(model), masks)


def with_grid(state: State, rows: int, columns: int) -> State:
    positions = {"pos_embed": sincos_positions(48, (rows, columns))}
    if "decoder_pos_embed" in state:
        positions["decoder_pos_embed"] = sincos_positions(32, (rows, columns))
    return state | positions


@pytest.mark.parametrize(("rows", "columns"), [(4, 16), (16, 4), (2, 3), (8, 8)])
def test_positions_name_their_grid(tmp_path: Path, mae_state: MakeState, rows: int, columns: int) -> None:
    state = with_grid(mae_state(), rows, columns)
    model = load(tmp_path / "a.pth", state)
    assert model.spec.grid == (rows, columns)
    mask = model.spec.training_masks(2, torch.Generator().manual_seed(2))
    pixels = model.spec.normalise(images_of(model))
    with torch.inference_mode():
        predictions = model.reconstruct(images_of(model), mask)[:, 0]
    for row in range(2):
        slow = slow_mae(state, pixels[row], mask[row, 0].tolist(), 3, 4)
        torch.testing.assert_close(predictions[row], slow.float(), rtol=1e-5, atol=1e-5)
    with torch.inference_mode():
        assert model.pictures(images_of(model), mask).shape[2:] == model.spec.shape
    native.save(tmp_path / "native", model)
    assert native.load(tmp_path / "native").spec == model.spec


def test_positions_and_size_that_differ_are_a_mixture(tmp_path: Path, mae_state: MakeState) -> None:
    given = GIVEN.model_copy(update={"image_size": 32})
    with pytest.raises(MimiaError, match=r"images of 32 pixels, but .* are of 16×64 \(4 by 16 patches"):
        load(tmp_path / "a.pth", with_grid(mae_state(), 4, 16), given)


def test_learned_positions_of_no_square_need_the_size(tmp_path: Path, mae_state: MakeState) -> None:
    state = mae_state(decoder_width=0) | {"pos_embed": torch.randn(1, 13, 48)}
    with pytest.raises(MimiaError, match=r"has 13 positions, which make no square: .*image_size=\[HEIGHT,WIDTH\]"):
        load(tmp_path / "a.pth", state)
    assert load(tmp_path / "a.pth", state, GIVEN.model_copy(update={"image_size": (8, 24)})).spec.grid == (2, 6)


def test_too_many_positions_are_refused_at_once(tmp_path: Path, mae_state: MakeState) -> None:
    with pytest.raises(MimiaError, match=r"has 5,000,011 positions, and 65,536 patches are the most"):
        load(tmp_path / "a.pth", mae_state(decoder_width=0) | {"pos_embed": torch.zeros(1, 5_000_011, 1)})


@pytest.mark.parametrize("channels", [1, 4, 13])
def test_bands_are_opened_with_their_statistics(tmp_path: Path, mae_state: MakeState, channels: int) -> None:
    given = GIVEN.model_copy(update={"mean": (0.5,) * channels, "std": (0.25,) * channels})
    model = load(tmp_path / "a.pth", mae_state(channels=channels), given)
    assert model.spec.shape == (channels, 12, 12)
    with torch.inference_mode():
        predicted = model.reconstruct(images_of(model), model.spec.training_masks(2, torch.Generator().manual_seed(2)))
    assert predicted.shape[-1] == 16 * channels


def test_scaled_residuals_are_those_of_scaled_weights(tmp_path: Path, mae_state: MakeState) -> None:
    state = mae_state(decoder_width=0)
    scales = {f"blocks.{block}.gamma_{part}": torch.rand(48) for block in range(2) for part in (1, 2)}
    folded = dict(state)
    for name, scale in scales.items():
        layer = name.replace("gamma_1", "attn.proj").replace("gamma_2", "mlp.fc2")
        folded |= {f"{layer}.weight": scale[:, None] * state[f"{layer}.weight"]}
        folded |= {f"{layer}.bias": scale * state[f"{layer}.bias"]}
    scaled, plain = load(tmp_path / "a.pth", state | scales), load(tmp_path / "b.pth", folded)
    assert scaled.architecture.layer_scale
    torch.testing.assert_close(tokens(scaled), tokens(plain), rtol=1e-5, atol=1e-5)


def test_bias_of_query_and_value_is_one_of_all_three(tmp_path: Path, mae_state: MakeState) -> None:
    whole, parts = mae_state(decoder_width=0), mae_state(decoder_width=0)
    for block in range(2):
        query, _, value = parts.pop(f"blocks.{block}.attn.qkv.bias").chunk(3)
        parts |= {f"blocks.{block}.attn.q_bias": query, f"blocks.{block}.attn.v_bias": value}
    both = [tokens(load(tmp_path / f"{number}.pth", state)) for number, state in enumerate((whole, parts))]
    torch.testing.assert_close(*both, rtol=1e-5, atol=1e-5)  # a bias of the keys changes nothing


def test_class_token_without_a_position_is_a_register(tmp_path: Path, mae_state: MakeState) -> None:
    state = with_grid(mae_state(decoder_width=0), 3, 3)
    patches = state["pos_embed"][:, 1:]
    states = {
        "zero": state,  # the position of a class token is zero
        "none": state | {"pos_embed": patches},
        "register": {**state, "pos_embed": patches, "reg_token": state["cls_token"]},
    }
    del states["register"]["cls_token"]
    models = {name: load(tmp_path / f"{name}.pth", each) for name, each in states.items()}
    assert (models["none"].architecture.class_position, models["register"].architecture.registers) == (False, 1)
    for model in models.values():
        torch.testing.assert_close(tokens(model), tokens(models["zero"]), rtol=1e-5, atol=1e-5)


def test_patches_alone_open(tmp_path: Path, mae_state: MakeState) -> None:
    state = with_grid(mae_state(), 3, 3)
    del state["cls_token"]
    state |= {name: state[name][:, 1:] for name in ("pos_embed", "decoder_pos_embed")}
    model = load(tmp_path / "a.pth", state)
    masks = model.spec.training_masks(2, torch.Generator().manual_seed(2))
    assert model.encode(images_of(model), masks).shape[2] == model.spec.visible
    assert model.distances(images_of(model), masks).isfinite().all()
    native.save(tmp_path / "native", model)
    assert native.load(tmp_path / "native").architecture == model.architecture
