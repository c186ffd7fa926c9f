import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mimia.config.settings import CheckpointSettings
from mimia.models.checkpoints.loading import load_checkpoint, load_model
from mimia.runtime.errors import MimiaError

State = dict[str, Tensor]
Make = Callable[..., State]
SMALL = CheckpointSettings(heads=3, decoder_heads=4)
CFG = "model = dict(backbone=dict(mask_ratio=0.6, type='MAEViT'),\n    head=dict(norm_pix={}, type='MAEPretrainHead'))"
_MAE = (  # names of the official code, and of mmpretrain
    (r"^decoder_norm\.", "neck.ln1."),
    (r"^(decoder_|mask_token)", r"neck.\1"),
    (r"^patch_embed\.proj\.", "backbone.patch_embed.projection."),
    (r"^blocks\.", "backbone.layers."),
    (r"^norm\.", "backbone.ln1."),
    (r"^(cls_token|pos_embed)", r"backbone.\1"),
    (r"\.norm([12])\.", r".ln\1."),
    (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
    (r"\.mlp\.fc2\.", ".ffn.layers.1."),
)
_SIMMIM = (
    (r"^decoder\.", "neck.decoder."),
    (r"^encoder\.patch_embed\.proj\.", "backbone.patch_embed.projection."),
    (r"^encoder\.layers\.", "backbone.stages."),
    (r"^encoder\.norm\.", "backbone.norm1."),  # of the last of two stages
    (r"^encoder\.", "backbone."),
    (r"\.attn\.", ".attn.w_msa."),
    (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
    (r"\.mlp\.fc2\.", ".ffn.layers.1."),
)


def renamed(state: State, names: tuple[tuple[str, str], ...]) -> State:
    result = {}
    for name, value in state.items():
        new = name
        for old, replacement in names:
            new = re.sub(old, replacement, new)
        result[new] = value
    return result


def unfolded(merging: Tensor) -> Tensor:
    """Bring weights of a merging, (..., 4 * C), to the order in which ``Unfold`` gives the values of 2 by 2 patches."""
    channels = merging.shape[-1] // 4
    official = torch.empty(channels, 2, 2)  # the place of each value among the inputs of the official merging
    for channel in range(channels):
        for row in range(2):
            for column in range(2):
                official[channel, row, column] = (2 * column + row) * channels + channel
    return merging[..., F.unfold(official[None], 2).flatten().long()]


def mm_simmim(state: State) -> State:
    kept = {name: value for name, value in state.items() if not name.endswith("attn_mask")}
    return {
        name: unfolded(value) if ".downsample." in name else value for name, value in renamed(kept, _SIMMIM).items()
    }


def save(path: Path, state: State, cfg: str | None) -> Path:
    torch.save({"meta": {"epoch": 300, "cfg": cfg}, "state_dict": state, "message_hub": {}}, path)
    return path


@pytest.mark.parametrize("normalised", [True, False])
def test_mae_opens_with_the_weights_and_settings_of_its_file(tmp_path: Path, mae_state: Make, normalised: bool) -> None:
    state = mae_state()
    opened = load_checkpoint(save(tmp_path / "mae.pth", renamed(state, _MAE), CFG.format(normalised)), SMALL)
    assert opened.layout == "mmpretrain MAE with decoder"
    assert opened.model.spec.target_space == ("patch-normalised" if normalised else "normalised")
    assert opened.model.spec.mask_ratio == 0.6
    assert opened.assumed == ("pixel statistics are ImageNet's, which the file does not say",)
    weights = opened.model.state_dict()
    assert weights.keys() == state.keys()
    assert all(torch.equal(weights[name], state[name]) for name in state)


def test_mae_without_the_text_of_its_settings_asks_for_the_target_space(tmp_path: Path, mae_state: Make) -> None:
    file = save(tmp_path / "mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.pth", renamed(mae_state(), _MAE), None)
    with pytest.raises(MimiaError, match=r"checkpoint\.target_space=patch-normalised"):
        load_model(file, SMALL.model_dump(exclude_none=True))
    given = SMALL.model_copy(update={"target_space": "patch-normalised"})
    assert "mask ratio is the paper's 0.75, which the file does not say" in load_checkpoint(file, given).assumed


def test_merging_in_the_order_of_unfold_is_that_of_the_official_code() -> None:
    generator = torch.Generator().manual_seed(0)
    image, weight = torch.randn(1, 5, 4, 6, generator=generator), torch.randn(7, 20, generator=generator)
    corners = [image[:, :, row::2, column::2] for column in range(2) for row in range(2)]
    official = torch.einsum("oi,bihw->bohw", weight, torch.cat(corners, dim=1))
    theirs = unfolded(weight) @ F.unfold(image, 2, stride=2)
    torch.testing.assert_close(theirs.view(1, 7, 2, 3), official)


def test_simmim_with_a_swin_is_the_model_that_the_official_file_holds(
    tmp_path: Path, simmim_states: dict[str, State]
) -> None:
    torch.save({"model": simmim_states["swin"]}, tmp_path / "official.pth")
    given = CheckpointSettings(image_size=16, cell_size=8, mask_ratio=0.6)
    official = load_checkpoint(tmp_path / "official.pth", given).model
    cfg = "a = [dict(img_size=16), dict(type='SimMIMMaskGenerator', mask_patch_size=8, mask_ratio=0.6)]"
    opened = load_checkpoint(save(tmp_path / "mm.pth", mm_simmim(simmim_states["swin"]), cfg))
    assert opened.layout == "mmpretrain SimMIM (Swin) with decoder"
    assert (opened.model.spec, opened.model.architecture) == (official.spec, official.architecture)
    weights = opened.model.state_dict()
    assert weights.keys() == official.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in official.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head.layers.head.weight": torch.ones(10, 48)}, r"has a classification head \(head\.layers\.head\.weight\)"),
        ({"backbone.layers.0.attn.gamma1.weight": torch.ones(48)}, r"unexpected parameter blocks\.0\.attn\.gamma1"),
        ({"backbone.ln1.bias": torch.full((48,), torch.nan)}, r"norm\.bias holds numbers that are not finite"),
        ({"backbone.ln1.bias": torch.ones(47)}, r"norm\.bias has the shape \(47,\)"),
    ],
)
def test_mae_that_is_not_what_it_seems_is_refused(
    tmp_path: Path, mae_state: Make, change: dict[str, Any], message: str
) -> None:
    file = save(tmp_path / "mae.pth", renamed(mae_state(), _MAE) | change, CFG.format(True))
    with pytest.raises(MimiaError, match=message):
        load_checkpoint(file, SMALL)


def test_other_methods_of_mmpretrain_are_refused(tmp_path: Path) -> None:
    state = {"backbone.patch_embed.projection.weight": torch.ones(8, 3, 4, 4), "backbone.rel_pos_bias": torch.ones(3)}
    with pytest.raises(MimiaError, match=r"a checkpoint of mmpretrain, but neither of its MAE .* nor of its SimMIM"):
        load_checkpoint(save(tmp_path / "beit.pth", state, None))
