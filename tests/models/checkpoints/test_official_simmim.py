import json
import math
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import SwinForMaskedImageModeling

from mimia.config.settings import CheckpointSettings
from mimia.models.checkpoints import native
from mimia.models.checkpoints.checkpoint_facts import UNMASKED_ENCODER
from mimia.models.checkpoints.loading import load_checkpoint
from mimia.models.simmim import SimMIMArchitecture
from mimia.runtime.errors import MimiaError

State = dict[str, Tensor]
WIDTH, DEPTH, HEADS, GRID, PATCH = 24, 2, 3, 4, 4


@pytest.fixture
def save(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write a file as the official training does, whose settings are of a package that is not installed."""

    def write(path: Path, state: State, **data: Any) -> Path:
        module: Any = types.ModuleType("yacs.config")
        module.CfgNode = type("CfgNode", (dict,), {"__module__": "yacs.config"})
        for name in ("yacs", "yacs.config"):
            monkeypatch.setitem(sys.modules, name, module)
        config = module.CfgNode(DATA=module.CfgNode(data), MODEL=module.CfgNode(TYPE="?"))
        torch.save({"model": state, "epoch": 799, "max_accuracy": 0.0, "config": config}, path)
        monkeypatch.undo()
        return path

    return write


def slow_simmim(state: State, pixels: Tensor, mask: list[bool]) -> Tensor:
    """Reconstruct one image, (C, H, W), data-set-normalised, in double precision: (C, H, W)."""
    state = {name: value.double() if value.is_floating_point() else value for name, value in state.items()}
    tokens = F.conv2d(
        pixels[None].double(),
        state["encoder.patch_embed.proj.weight"],
        state["encoder.patch_embed.proj.bias"],
        stride=PATCH,
    )
    rows = tokens[0].flatten(1).T
    rows = torch.stack(
        [state["encoder.mask_token"][0, 0] if hide else row for hide, row in zip(mask, rows, strict=True)]
    )
    x = torch.cat([state["encoder.cls_token"][0], rows])
    table = state["encoder.rel_pos_bias.relative_position_bias_table"]
    offsets = (2 * GRID - 1) ** 2
    bias = torch.empty(len(x), len(x), HEADS, dtype=torch.float64)
    for i in range(len(x)):
        for j in range(len(x)):
            if i and j:
                (down, across), (down_j, across_j) = divmod(i - 1, GRID), divmod(j - 1, GRID)
                place = (down - down_j + GRID - 1) * (2 * GRID - 1) + across - across_j + GRID - 1
            else:
                place = offsets + (2 if i == j else 1 if i else 0)
            bias[i, j] = table[place]
    for number in range(DEPTH):
        x = slow_block(state, f"encoder.blocks.{number}", x, bias)
    x = F.layer_norm(x, (WIDTH,), state["encoder.norm.weight"], state["encoder.norm.bias"], eps=1e-6)[1:]
    values = x @ state["decoder.0.weight"][:, :, 0, 0].T + state["decoder.0.bias"]
    return F.pixel_shuffle(values.T.view(1, -1, GRID, GRID), PATCH)[0]


def slow_block(state: State, name: str, x: Tensor, bias: Tensor) -> Tensor:
    normed = F.layer_norm(x, (WIDTH,), state[f"{name}.norm1.weight"], state[f"{name}.norm1.bias"], eps=1e-6)
    weight = state[f"{name}.attn.qkv.weight"]
    query = normed @ weight[:WIDTH].T + state[f"{name}.attn.q_bias"]
    key = normed @ weight[WIDTH : 2 * WIDTH].T
    value = normed @ weight[2 * WIDTH :].T + state[f"{name}.attn.v_bias"]
    size = WIDTH // HEADS
    mixed = []
    for head in range(HEADS):
        own = slice(head * size, (head + 1) * size)
        scores = (query[:, own] @ key[:, own].T / math.sqrt(size) + bias[:, :, head]).softmax(dim=1)
        mixed.append(scores @ value[:, own])
    out = torch.cat(mixed, dim=1) @ state[f"{name}.attn.proj.weight"].T + state[f"{name}.attn.proj.bias"]
    x = x + state[f"{name}.gamma_1"] * out
    normed = F.layer_norm(x, (WIDTH,), state[f"{name}.norm2.weight"], state[f"{name}.norm2.bias"], eps=1e-6)
    hidden = F.gelu(normed @ state[f"{name}.mlp.fc1.weight"].T + state[f"{name}.mlp.fc1.bias"])
    return x + state[f"{name}.gamma_2"] * (hidden @ state[f"{name}.mlp.fc2.weight"].T + state[f"{name}.mlp.fc2.bias"])


def test_file_with_a_vit_reconstructs_what_a_slow_definition_reconstructs(
    tmp_path: Path, save: Callable[..., Path], simmim_states: dict[str, State]
) -> None:
    state = simmim_states["vit"]
    file = save(tmp_path / "ckpt_epoch_799.pth", state, IMG_SIZE=16, MASK_RATIO=0.6, MASK_PATCH_SIZE=8)
    opened = load_checkpoint(file)
    model, spec = opened.model, opened.model.spec
    assert (opened.layout, opened.access) == ("official SimMIM (ViT) with decoder", "decoder")
    assert model.architecture == SimMIMArchitecture(width=WIDTH, depth=DEPTH, heads=HEADS)
    assert (spec.image_size, spec.masking, spec.cell, spec.mask_ratio) == (16, "cell", 2, 0.6)
    assert opened.assumed == ("pixel statistics are ImageNet's, which the file does not say",)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8, generator=generator)
    masks = spec.training_masks(2, generator)
    pixels = spec.normalise(images)
    with torch.inference_mode():
        pictures, distances = model.pictures(images, masks)[:, 0], model.distances(images, masks)[:, 0]
    for row in range(2):
        slow = slow_simmim(state, pixels[row], masks[row, 0].tolist())
        torch.testing.assert_close(spec.normalise(pictures)[row], slow.float(), rtol=1e-5, atol=1e-5)
        hidden = masks[row, 0].view(GRID, GRID).repeat_interleave(PATCH, 0).repeat_interleave(PATCH, 1).double()
        loss = ((slow - pixels[row].double()).abs() * hidden).sum() / (hidden.sum() + 1e-5) / 3
        assert distances[row].item() == pytest.approx(float(loss), rel=1e-5)


def test_no_weight_changes_on_the_way_to_mimias_own_directory(
    tmp_path: Path, save: Callable[..., Path], simmim_states: dict[str, State]
) -> None:
    for name, state in simmim_states.items():
        data = {"IMG_SIZE": 16, "MASK_RATIO": 0.6, "MASK_PATCH_SIZE": 8}
        opened = load_checkpoint(save(tmp_path / f"{name}.pth", state, **data))
        native.save(tmp_path / name, opened.model)
        again = load_checkpoint(tmp_path / name).model
        assert (again.spec, again.architecture) == (opened.model.spec, opened.model.architecture)
        weights = again.state_dict()
        assert all(torch.equal(weights[name], value) for name, value in opened.model.state_dict().items())
        if name == "vit":  # whose names are ours
            assert all(torch.equal(weights[name], value) for name, value in state.items())


def test_what_the_file_does_not_say_is_the_papers(tmp_path: Path, simmim_states: dict[str, State]) -> None:
    state = simmim_states["vit"]
    del state["encoder.rel_pos_bias.relative_position_index"]  # which follows from the size
    state["encoder.patch_embed.proj.weight"] = torch.zeros(WIDTH, 3, 16, 16)
    state |= {"decoder.0.weight": torch.zeros(768, WIDTH, 1, 1), "decoder.0.bias": torch.zeros(768)}
    save_file(state, tmp_path / "simmim.safetensors")
    opened = load_checkpoint(tmp_path / "simmim.safetensors")
    spec = opened.model.spec
    assert (spec.image_size, spec.cell, spec.mask_ratio) == (64, 2, 0.6)
    assert "masks have cells of the paper's 32 pixels, which the file does not say" in opened.assumed
    assert "mask ratio is the paper's 0.6, which the file does not say" in opened.assumed


def test_encoder_without_its_decoder_opens_as_one(
    tmp_path: Path, save: Callable[..., Path], simmim_states: dict[str, State]
) -> None:
    for state in simmim_states.values():
        encoder = {name: value for name, value in state.items() if not name.startswith("decoder.")}
        opened = load_checkpoint(save(tmp_path / "simmim.pth", encoder, IMG_SIZE=16, MASK_PATCH_SIZE=8))
        assert opened.access == "encoder"
        assert opened.layout.endswith("without decoder")


_ON_THE_HUB = (
    (r"^encoder\.mask_token$", "swin.embeddings.mask_token"),
    (r"^encoder\.patch_embed\.proj\.", "swin.embeddings.patch_embeddings.projection."),
    (r"^encoder\.patch_embed\.norm\.", "swin.embeddings.norm."),
    (r"^encoder\.norm\.", "swin.layernorm."),
    (r"^encoder\.", "swin.encoder."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.rel", ".attention.self.rel"),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)


def swin_of_transformers(directory: Path, state: State) -> SwinForMaskedImageModeling:
    """Write a directory as the files on the hub are, and let transformers open it."""
    named: State = {}
    for name, value in state.items():
        new = name
        for old, replacement in _ON_THE_HUB:
            new = re.sub(old, replacement, new)
        if ".attn.qkv." in new:
            for part, rows in zip(("query", "key", "value"), value.chunk(3), strict=True):
                named[new.replace(".attn.qkv.", f".attention.self.{part}.")] = rows.clone()
        elif not new.endswith(("attn_mask", "relative_position_index")):
            named[new] = value
    directory.mkdir()
    save_file(named, directory / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["SwinForMaskedImageModeling"],
        "model_type": "swin",
        "image_size": 16,
        "patch_size": 2,
        "embed_dim": 16,
        "depths": [2, 2],
        "num_heads": [2, 4],
        "window_size": 4,
        "encoder_stride": 4,
    }
    (directory / "config.json").write_text(json.dumps(config))
    both: Any = SwinForMaskedImageModeling.from_pretrained(directory, output_loading_info=True)
    opened, loading = both
    assert not any(loading.values())
    assert isinstance(opened, SwinForMaskedImageModeling)
    return opened


def test_file_with_a_swin_reconstructs_what_transformers_reconstructs(
    tmp_path: Path, save: Callable[..., Path], simmim_states: dict[str, State]
) -> None:
    state = simmim_states["swin"]
    file = save(tmp_path / "ckpt_epoch_799.pth", state, IMG_SIZE=16, MASK_RATIO=0.6, MASK_PATCH_SIZE=8)
    opened = load_checkpoint(file)
    model, spec = opened.model, opened.model.spec
    assert (opened.layout, opened.access) == ("official SimMIM (Swin) with decoder", "decoder")
    assert (spec.image_size, spec.patch_size, spec.cell, spec.mask_ratio) == (16, 2, 4, 0.6)
    reference = swin_of_transformers(tmp_path / "hub", state)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8, generator=generator)
    masks = spec.training_masks(2, generator)
    with torch.no_grad():  # transformers keeps tensors of a call for others, which may train
        theirs = reference(spec.normalise(images), bool_masked_pos=masks[:, 0])
        pictures = spec.normalise(model.pictures(images, masks)[:, 0])
        torch.testing.assert_close(pictures, theirs.reconstruction, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model.distances(images, masks).mean(), theirs.loss, rtol=1e-5, atol=1e-5)


def test_size_of_the_images_of_a_swin_is_asked_for(tmp_path: Path, simmim_states: dict[str, State]) -> None:
    torch.save({"model": simmim_states["swin"]}, tmp_path / "swin.pth")
    with pytest.raises(MimiaError, match=r"a Swin, whose weights fit images of any size: .*checkpoint\.image_size=N"):
        load_checkpoint(tmp_path / "swin.pth")
    given = CheckpointSettings(image_size=32, cell_size=8)
    assert load_checkpoint(tmp_path / "swin.pth", given).model.spec.image_size == 32


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_model_without_a_mask_token_is_refused(
    tmp_path: Path, save: Callable[..., Path], kind: str, simmim_states: dict[str, State]
) -> None:
    weights = simmim_states[kind]
    del weights["encoder.mask_token"]
    with pytest.raises(MimiaError, match=r"lacks parameter encoder\.mask_token, without which nothing can be masked"):
        load_checkpoint(save(tmp_path / "simmim.pth", weights, IMG_SIZE=16, MASK_PATCH_SIZE=8))


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_encoder_without_a_mask_token_opens_for_whole_images(
    tmp_path: Path, save: Callable[..., Path], kind: str, simmim_states: dict[str, State]
) -> None:
    encoder = {name: value for name, value in simmim_states[kind].items() if not name.startswith("decoder.")}
    with_token = load_checkpoint(save(tmp_path / "with.pth", encoder, IMG_SIZE=16, MASK_PATCH_SIZE=8))
    del encoder["encoder.mask_token"]
    opened = load_checkpoint(save(tmp_path / "without.pth", encoder, IMG_SIZE=16, MASK_PATCH_SIZE=8))
    assert (opened.access, opened.layout) == ("encoder", with_token.layout)
    assert [text for text in opened.assumed if text not in with_token.assumed] == [UNMASKED_ENCODER]
    images = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    masks = torch.zeros(2, 1, opened.model.spec.tokens, dtype=torch.bool)
    with torch.no_grad():
        torch.testing.assert_close(opened.model.tokens(images, masks), with_token.model.tokens(images, masks))
        with pytest.raises(MimiaError, match="has no mask token, so that it takes whole images alone"):
            opened.model.tokens(images, ~masks)
    native.save(tmp_path / "ours", opened.model)
    assert load_checkpoint(tmp_path / "ours").model.architecture == opened.model.architecture


def test_backbone_of_a_swin_opens_as_the_encoder(
    tmp_path: Path, save: Callable[..., Path], simmim_states: dict[str, State]
) -> None:
    encoder = {name: value for name, value in simmim_states["swin"].items() if name.startswith("encoder.")}
    bare = {name.removeprefix("encoder."): value for name, value in encoder.items()}
    whole, backbone = (
        load_checkpoint(save(tmp_path / f"{name}.pth", state, IMG_SIZE=16, MASK_PATCH_SIZE=8))
        for name, state in {"whole": encoder, "bare": bare}.items()
    )
    assert (backbone.layout, backbone.model.architecture) == (whole.layout, whole.model.architecture)
    weights = backbone.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in whole.model.state_dict().items())
    supervised = bare | {"head.weight": torch.ones(10, 32), "head.bias": torch.ones(10)}
    with pytest.raises(MimiaError, match=r"has a classification head \(head\.weight\): it is a supervised"):
        load_checkpoint(save(tmp_path / "supervised.pth", supervised, IMG_SIZE=16, MASK_PATCH_SIZE=8))


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("vit", {"encoder.pos_embed": torch.ones(1, 17, 24)}, r"unexpected parameter encoder\.pos_embed"),
        ("vit", {"decoder.0.bias": torch.ones(12)}, r"decoder\.0\.bias has the shape \(12,\), .* \(48,\)"),
        ("vit", {"encoder.norm.bias": torch.full((24,), torch.nan)}, r"encoder\.norm\.bias holds numbers"),
        ("vit", {"encoder.patch_embed.proj.weight": torch.ones(24, 3, 2, 2)}, r"images of 16 pixels, but .* of 8"),
        (
            "vit",
            {"encoder.rel_pos_bias.relative_position_bias_table": torch.ones(51, 3)},
            r"48 positions, which make no square",
        ),
        (
            "vit",
            {"encoder.rel_pos_bias.relative_position_index": torch.zeros(17, 17, dtype=torch.int64)},
            r"orders its relative positions otherwise",
        ),
        ("swin", {"encoder.absolute_pos_embed": torch.ones(1, 64, 16)}, r"unexpected parameter model\.swin\.enc"),
        (
            "swin",
            {"encoder.layers.1.blocks.0.attn.relative_position_bias_table": torch.ones(9, 4)},
            r"windows of 2 and 4 patches",
        ),
        ("swin", {"decoder.0.bias": torch.full((48,), torch.inf)}, r"decoder\.0\.bias holds numbers"),
    ],
)
def test_file_that_is_not_what_it_seems_is_refused_with_the_name_of_what_is_wrong(
    tmp_path: Path, save: Callable[..., Path], kind: str, simmim_states: dict[str, State], change: State, message: str
) -> None:
    file = save(tmp_path / "simmim.pth", simmim_states[kind] | change, IMG_SIZE=16, MASK_RATIO=0.6, MASK_PATCH_SIZE=8)
    with pytest.raises(MimiaError, match=message):
        load_checkpoint(file)


def test_targets_that_were_normalised_in_windows_are_refused(tmp_path: Path, simmim_states: dict[str, State]) -> None:
    simmim = {"NORM_TARGET": {"ENABLE": True, "PATCH_SIZE": 47}}
    config = {"DATA": {"IMG_SIZE": 16, "MASK_PATCH_SIZE": 8}, "MODEL": {"SIMMIM": simmim}}
    for kind, state in simmim_states.items():
        torch.save({"model": state, "config": config}, tmp_path / f"{kind}.pth")
        with pytest.raises(MimiaError, match=r"targets normalised in windows of 47 pixels \(SIMMIM\.NORM_TARGET\)"):
            load_checkpoint(tmp_path / f"{kind}.pth")
