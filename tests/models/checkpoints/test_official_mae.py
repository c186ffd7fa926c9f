import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import ViTMAEForPreTraining

from mimia.config.settings import CheckpointSettings
from mimia.models.base import TargetSpace
from mimia.models.checkpoints import native
from mimia.models.checkpoints.export import export
from mimia.models.checkpoints.loading import load_checkpoint, load_model
from mimia.models.mae import MAEArchitecture
from mimia.runtime.errors import MimiaError

State = dict[str, Tensor]
MakeState = Callable[..., State]
SMALL = CheckpointSettings(heads=3, decoder_heads=4)


def save(path: Path, state: State, **args: object) -> Path:
    """Write a file as the official training does, with what else it keeps in it."""
    beside = {"optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}, "epoch": 799, "scaler": {"scale": 65536.0}}
    torch.save({"model": state, **beside, "args": argparse.Namespace(mask_ratio=0.75, **args)}, path)
    return path


def slow_block(state: State, name: str, x: Tensor, heads: int) -> Tensor:
    """A transformer block, head by head."""
    normed = slow_norm(state, f"{name}.norm1", x)
    width = x.shape[1] // heads
    rows = state[f"{name}.attn.qkv.weight"], state[f"{name}.attn.qkv.bias"]
    mixed = []
    for head in range(heads):
        query, key, value = (
            normed @ rows[0][start : start + width].T + rows[1][start : start + width]
            for start in (part * x.shape[1] + head * width for part in range(3))
        )
        weights = (query @ key.T / math.sqrt(width)).exp()
        mixed.append(weights / weights.sum(dim=1, keepdim=True) @ value)
    x = x + torch.cat(mixed, dim=1) @ state[f"{name}.attn.proj.weight"].T + state[f"{name}.attn.proj.bias"]
    hidden = slow_norm(state, f"{name}.norm2", x) @ state[f"{name}.mlp.fc1.weight"].T + state[f"{name}.mlp.fc1.bias"]
    hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    return x + hidden @ state[f"{name}.mlp.fc2.weight"].T + state[f"{name}.mlp.fc2.bias"]


def slow_norm(state: State, name: str, x: Tensor, eps: float = 1e-6) -> Tensor:
    centred = x - x.mean(dim=1, keepdim=True)
    return (
        centred / (centred.square().mean(dim=1, keepdim=True) + eps).sqrt() * state[f"{name}.weight"]
        + state[f"{name}.bias"]
    )


def slow_mae(state: State, pixels: Tensor, mask: list[bool], heads: int, decoder_heads: int) -> Tensor:
    """Predict the patches of one image, (C, H, W), data-set-normalised, in double precision: (L, p*p*C)."""
    state = {name: value.double() for name, value in state.items()}
    patch = state["patch_embed.proj.weight"].shape[-1]
    grid = pixels.shape[-1] // patch
    visible = [number for number, masked in enumerate(mask) if not masked]
    tokens = [state["cls_token"][0, 0] + state["pos_embed"][0, 0]]
    for number in visible:
        top, left = (patch * place for place in divmod(number, grid))
        block = pixels[:, top : top + patch, left : left + patch].double()
        embedded = (state["patch_embed.proj.weight"] * block).sum(dim=(1, 2, 3)) + state["patch_embed.proj.bias"]
        tokens.append(embedded + state["pos_embed"][0, 1 + number])
    x = torch.stack(tokens)
    for number in range(sum(name.startswith("blocks.") and "norm1.bias" in name for name in state)):
        x = slow_block(state, f"blocks.{number}", x, heads)
    x = slow_norm(state, "norm", x) @ state["decoder_embed.weight"].T + state["decoder_embed.bias"]
    places = [state["mask_token"][0, 0]] * len(mask)
    for row, number in enumerate(visible, start=1):
        places[number] = x[row]
    x = torch.stack([x[0], *places]) + state["decoder_pos_embed"][0]
    for number in range(sum("decoder_blocks" in name and "norm1.bias" in name for name in state)):
        x = slow_block(state, f"decoder_blocks.{number}", x, decoder_heads)
    return (slow_norm(state, "decoder_norm", x) @ state["decoder_pred.weight"].T + state["decoder_pred.bias"])[1:]


def slow_distance(prediction: Tensor, pixels: Tensor, mask: list[bool], patch: int, norm_pix_loss: bool) -> float:
    grid = pixels.shape[-1] // patch
    errors = []
    for number in (number for number, masked in enumerate(mask) if masked):
        top, left = (patch * place for place in divmod(number, grid))
        target = pixels[:, top : top + patch, left : left + patch].double().permute(1, 2, 0).flatten()
        if norm_pix_loss:
            target = (target - target.mean()) / (target.var(correction=1) + 1e-6).sqrt()
        errors.append((prediction[number] - target).square().mean())
    return float(torch.stack(errors).mean())


@pytest.mark.parametrize("space", ["normalised", "patch-normalised"])
@pytest.mark.parametrize(
    ("sizes", "heads", "decoder_heads"),
    [
        pytest.param({}, 3, 4, id="3 by 3 patches"),
        pytest.param({"width": 64, "depth": 3, "decoder_width": 40, "grid": 5, "channels": 1}, 4, 5, id="grey"),
        pytest.param({"width": 768, "depth": 1, "decoder_width": 512, "patch": 14, "grid": 2}, 12, 16, id="ViT-B"),
    ],
)
def test_opened_file_predicts_what_transformers_and_a_slow_definition_predict(
    tmp_path: Path,
    mae_state: MakeState,
    save_transformers: Callable[..., Path],
    sizes: dict[str, int],
    heads: int,
    decoder_heads: int,
    space: TargetSpace,
) -> None:
    state = mae_state(**sizes)
    normalised = space == "patch-normalised"
    given = CheckpointSettings(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), heads=heads, decoder_heads=decoder_heads)
    if sizes.get("channels") == 1:
        given = given.model_copy(update={"mean": (0.5,), "std": (0.2,)})
    file = save(tmp_path / "checkpoint-799.pth", state, norm_pix_loss=normalised)
    model = load_checkpoint(file, given).model
    assert model.spec.target_space == space
    directory = save_transformers(tmp_path / "hub", state, heads, decoder_heads, norm_pix_loss=normalised)
    reference = ViTMAEForPreTraining.from_pretrained(directory)
    assert isinstance(reference, ViTMAEForPreTraining)

    spec, generator = model.spec, torch.Generator().manual_seed(1)
    images = torch.randint(256, (2, *spec.shape), dtype=torch.uint8, generator=generator)
    masks = spec.training_masks(2, generator)
    pixels = spec.normalise(images)
    with torch.inference_mode():
        predictions, distances = model.reconstruct(images, masks)[:, 0], model.distances(images, masks)[:, 0]
        theirs = reference(pixels, noise=masks[:, 0].float())
    torch.testing.assert_close(predictions, theirs.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(distances.mean(), theirs.loss, rtol=1e-5, atol=1e-5)
    for row in range(2):
        mask = masks[row, 0].tolist()
        slow = slow_mae(state, pixels[row], mask, heads, decoder_heads)
        torch.testing.assert_close(predictions[row], slow.float(), rtol=1e-5, atol=1e-5)
        expected = slow_distance(slow, pixels[row], mask, spec.patch_size, normalised)
        assert distances[row].item() == pytest.approx(expected, rel=1e-5)


def test_no_weight_changes_on_the_way_from_official_to_mimia_to_transformers_and_back(
    tmp_path: Path, mae_state: MakeState
) -> None:
    state = mae_state()
    opened = load_checkpoint(save(tmp_path / "mae.pth", state, norm_pix_loss=True), SMALL)
    native.save(tmp_path / "mimia", opened.model)
    export(tmp_path / "mimia", tmp_path / "transformers")
    for directory in ("mimia", "transformers"):
        again = load_checkpoint(tmp_path / directory)
        assert (again.model.spec, again.model.architecture) == (opened.model.spec, opened.model.architecture)
        assert not again.assumed
        weights = again.model.state_dict()
        assert weights.keys() == state.keys()
        assert all(torch.equal(weights[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"width": 192, "decoder_width": 128}, (192, 2, 3, 128, 1, 2)),
        ({"width": 384, "decoder_width": 0}, (384, 2, 6, 0, 0, 0)),
        ({"width": 768, "depth": 1, "decoder_width": 512}, (768, 1, 12, 512, 1, 16)),
        ({"width": 1024, "depth": 1, "decoder_width": 512}, (1024, 1, 16, 512, 1, 16)),
        ({"width": 1280, "depth": 1, "patch": 14, "decoder_width": 512}, (1280, 1, 16, 512, 1, 16)),
        ({"width": 256, "depth": 4, "decoder_width": 64, "decoder_depth": 3}, (256, 4, 4, 64, 3, 1)),
    ],
)
def test_sizes_are_read_from_the_shapes_and_heads_are_those_of_released_models(
    tmp_path: Path, mae_state: MakeState, sizes: dict[str, int], expected: tuple[int, ...]
) -> None:
    opened = load_checkpoint(save(tmp_path / "mae.pth", mae_state(**sizes), norm_pix_loss=True))
    names = ("width", "depth", "heads", "decoder_width", "decoder_depth", "decoder_heads")
    assert opened.model.architecture == MAEArchitecture(**dict(zip(names, expected, strict=True)))
    reason = (
        f"as released models of width {expected[0]} have it" if expected[0] != 256 else "at the usual 64 values a head"
    )
    assert f"heads = {expected[2]}, {reason}; no weight shows it" in opened.assumed


@pytest.mark.parametrize(
    ("name", "args", "given", "expected"),
    [
        ("a.pth", {"norm_pix_loss": True}, None, "patch-normalised"),
        ("a.pth", {"norm_pix_loss": False}, None, "normalised"),
        ("mae_pretrain_vit_base_full.pth", {}, None, "patch-normalised"),
        ("mae_visualize_vit_large.pth", {}, None, "normalised"),
        ("mae_visualize_vit_large_ganloss.pth", {}, None, "normalised"),
        ("mae_visualize_vit_base.pth", {"norm_pix_loss": True}, None, "patch-normalised"),
        ("successfully.pth", {}, "patch-normalised", "patch-normalised"),
        ("mae_visualize_vit_base.pth", {"norm_pix_loss": False}, "patch-normalised", "patch-normalised"),
    ],
)
def test_target_space_is_told_by_the_settings_or_the_arguments_or_the_name(
    tmp_path: Path, mae_state: MakeState, name: str, args: dict[str, Any], given: Any, expected: TargetSpace
) -> None:
    settings = SMALL.model_copy(update={"target_space": given})
    opened = load_checkpoint(save(tmp_path / name, mae_state(), **args), settings)
    assert opened.model.spec.target_space == expected
    assert opened.layout == "official MAE with decoder"
    assert any("by the file's name" in text for text in opened.assumed) == (not args and given is None)
    assert any("GAN" in text for text in opened.assumed) == ("ganloss" in name)


@pytest.mark.parametrize("name", ["successfully.pth", "mae_visualize_full.pth"])
def test_decoder_of_which_nothing_tells_what_it_predicts_is_asked_for(
    tmp_path: Path, mae_state: MakeState, name: str
) -> None:
    file = save(tmp_path / name, mae_state())
    assert not next(each for each in load_checkpoint(file, SMALL).unknown if each.name == "target_space").has_default
    with pytest.raises(MimiaError, match=r"--set checkpoint\.target_space=patch-normalised .* mae_visualize_\*"):
        load_model(file, SMALL.model_dump(exclude_none=True))


def test_encoder_alone_is_taken_as_an_mae_and_says_so(tmp_path: Path, mae_state: MakeState) -> None:
    path = tmp_path / "mae_pretrain_vit_tiny.safetensors"
    save_file(mae_state(width=192, decoder_width=0), path)
    opened = load_checkpoint(path)
    assert (opened.access, opened.layout) == ("encoder", "official MAE without decoder")
    assert any("it is taken as an MAE" in sentence for sentence in opened.assumed)
    assert "pixel statistics are ImageNet's, which the file does not say" in opened.assumed
    assert "mask ratio is the paper's 0.75, which the file does not say" in opened.assumed
    assert opened.model.spec.mean == (0.485, 0.456, 0.406)


def test_what_the_file_says_and_what_the_settings_say_is_not_assumed(tmp_path: Path, mae_state: MakeState) -> None:
    file = save(tmp_path / "mae.pth", mae_state(), norm_pix_loss=True, input_size=12)
    given = SMALL.model_copy(update={"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "mask_ratio": 0.5})
    opened = load_checkpoint(file, given)
    assert opened.assumed == ()
    assert (opened.model.spec.mean, opened.model.spec.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert opened.model.spec.mask_ratio == 0.5


def test_half_of_the_pixel_statistics_is_completed_and_said_to_be(tmp_path: Path, mae_state: MakeState) -> None:
    file = save(tmp_path / "mae.pth", mae_state(), norm_pix_loss=True)
    opened = load_checkpoint(file, SMALL.model_copy(update={"mean": (0.1, 0.2, 0.3)}))
    assert (opened.model.spec.mean, opened.model.spec.std) == ((0.1, 0.2, 0.3), (0.229, 0.224, 0.225))
    assert opened.assumed == ("pixel std is ImageNet's, which the file does not say",)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_names_from_data_parallelism_and_compilation_are_understood(
    tmp_path: Path, mae_state: MakeState, prefix: str
) -> None:
    state = mae_state()
    path = save(tmp_path / "mae.pth", {f"{prefix}{name}": value for name, value in state.items()}, norm_pix_loss=True)
    weights = load_checkpoint(path, SMALL).model.state_dict()
    assert all(torch.equal(weights[name], state[name]) for name in state)


def test_weights_of_half_precision_are_brought_to_float32_and_said_to_be(tmp_path: Path, mae_state: MakeState) -> None:
    state = mae_state()
    path = save(tmp_path / "mae.pth", {name: value.bfloat16() for name, value in state.items()}, norm_pix_loss=True)
    opened = load_checkpoint(path, SMALL)
    assert "weights are stored as torch.bfloat16 and computed with as torch.float32" in opened.notes
    weights = opened.model.state_dict()
    assert all(torch.equal(weights[name], state[name].bfloat16().float()) for name in state)


def test_parameters_of_a_saved_module_are_weights_too(tmp_path: Path, mae_state: MakeState) -> None:
    state = {name: torch.nn.Parameter(value) for name, value in mae_state().items()}
    torch.save(state, tmp_path / "mae_full.pth")
    model = load_checkpoint(tmp_path / "mae_full.pth", SMALL).model
    assert not model.get_parameter("pos_embed").requires_grad
    assert model.get_parameter("cls_token").requires_grad


def change(name: str, value: Tensor | None) -> Callable[[State], State]:
    """Replace a weight, add one, or leave one out."""

    def apply(state: State) -> State:
        kept = {key: tensor for key, tensor in state.items() if key != name}
        return kept if value is None else kept | {name: value}

    return apply


def poison(name: str, place: int, value: float) -> Callable[[State], State]:
    def apply(state: State) -> State:
        state[name].view(-1)[place] = value
        return state

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change("head.weight", torch.ones(10, 48)), r"has a classification head \(head\.weight\).* mae_pretrain_\*"),
        (change("fc_norm.bias", torch.ones(48)), r"has a classification head \(fc_norm\.bias\)"),
        (change("blocks.1.mlp.fc2.bias", None), r"\(official MAE .*\) lacks parameter blocks\.1\.mlp\.fc2\.bias"),
        (change("decoder_norm.bias", None), r"lacks parameter decoder_norm\.bias"),
        (change("mask_token", None), r"lacks parameter mask_token"),
        (change("pos_embed", None), r"lacks parameter pos_embed"),
        (change("blocks.0.ls1.gamma", torch.ones(48)), r"lacks parameter blocks\.0\.ls2\.gamma"),
        (change("pos_embed", torch.ones(1, 8, 48)), r"has 8 positions, which make no square"),
        (change("pos_embed", torch.ones(1, 9, 48)), r"decoder_pos_embed has the shape \(1, 10, 32\), .*\(1, 9, 32\)"),
        (change("pos_embed", torch.ones(10, 48)), r"pos_embed has the shape \(10, 48\), and 3 dimensions"),
        (change("patch_embed.proj.weight", torch.ones(48, 3, 4, 2)), r"patches of 4×2 pixels"),
        (change("patch_embed.proj.weight", torch.ones(48, 3, 2, 4, 4)), r"4 dimensions were expected"),
        (change("patch_embed.proj.weight", torch.ones(48, 4, 4, 4)), r"decoder_pred\..* has the shape \(48, .*64"),
        (change("patch_embed.proj.weight", torch.ones(48, 3, 2, 2)), r"images of 12 pixels, but .* are of 6"),
        (change("decoder_pred.weight", torch.ones(12, 32)), r"decoder_pred\.weight .*\(12, 32\), .* \(48, 32\)"),
        (change("decoder_embed.weight", torch.ones(24, 48)), r"the shape .*32.*, but the rest of it asks for .*24"),
        (change("decoder_pos_embed", torch.ones(1, 5, 32)), r"decoder_pos_embed has the shape \(1, 5, 32\)"),
        (change("cls_token", torch.ones(1, 1, 48, dtype=torch.int64)), r"cls_token is of type torch\.int64"),
        (poison("decoder_pred.weight", 0, torch.nan), r"decoder_pred\.weight holds numbers that are not finite"),
        (poison("norm.bias", -1, torch.inf), r"norm\.bias holds numbers that are not finite"),
        (poison("blocks.0.mlp.fc1.weight", 4321, -torch.inf), r"blocks\.0\.mlp\.fc1\.weight holds numbers"),
    ],
)
def test_file_that_is_not_what_it_seems_is_refused_with_the_name_of_what_is_wrong(
    tmp_path: Path, mae_state: MakeState, damage: Callable[[State], State], message: str
) -> None:
    file = save(tmp_path / "mae.pth", damage(mae_state()), norm_pix_loss=True, input_size=12)
    with pytest.raises(MimiaError, match=message):
        load_checkpoint(file, SMALL)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"does not say its heads, of which there may be several \(1, 2, 3, 4, 6\): .*checkpoint\.heads=N"),
        ({"heads": 5}, r"5 heads do not divide a width of 48"),
        ({"heads": 3}, r"does not say its decoder heads, .*\(1, 2, 4\): .*checkpoint\.decoder_heads=N"),
        ({"heads": 3, "decoder_heads": 4, "mask_ratio": 0.99}, r"not consistent: a mask ratio of 0\.99"),
        ({"heads": 3, "decoder_heads": 4, "mean": (0.5,), "std": (0.5,)}, r"mean and std need one value for each of 3"),
    ],
)
def test_settings_that_are_missing_or_do_not_fit_are_asked_for(
    tmp_path: Path, mae_state: MakeState, given: dict[str, Any], message: str
) -> None:
    file = save(tmp_path / "mae.pth", mae_state(), norm_pix_loss=True)
    with pytest.raises(MimiaError, match=message):
        load_model(file, given)


def test_statistics_of_grey_images_are_asked_for(tmp_path: Path, mae_state: MakeState) -> None:
    file = save(tmp_path / "mae.pth", mae_state(channels=1), norm_pix_loss=True)
    with pytest.raises(MimiaError, match=r"checkpoint\.mean=\[0\.5\] --set checkpoint\.std=\[0\.25\]"):
        load_model(file, SMALL.model_dump(exclude_none=True))
    encoder = save(tmp_path / "encoder.pth", mae_state(channels=1, decoder_width=0), norm_pix_loss=True)
    with pytest.raises(MimiaError, match=r"images of 1 channels .*checkpoint\.mean=\[0\.5\]"):
        load_checkpoint(encoder, SMALL)
