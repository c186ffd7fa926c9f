from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from mimia.cli.app import app
from mimia.config.settings import CheckpointSettings
from mimia.models.checkpoints.description import describe
from mimia.models.checkpoints.loading import load_checkpoint
from mimia.runtime.errors import MimiaError

State = dict[str, Tensor]
Make = Callable[..., State]


def lines_of(path: Path, given: CheckpointSettings | None = None) -> dict[str, list[str]]:
    lines: dict[str, list[str]] = {}
    for line in describe(load_checkpoint(path, given)):
        lines.setdefault(line.name, []).append(line.value)
    return lines


def test_file_with_a_decoder_is_described(tmp_path: Path, mae_state: Make) -> None:
    torch.save(mae_state(192, 2, 128, 1, patch=16, grid=14), tmp_path / "mae_pretrain_vit_tiny_full.pth")
    lines = lines_of(tmp_path / "mae_pretrain_vit_tiny_full.pth")
    assert lines["layout"] == ["official MAE with decoder"]
    assert lines["family"] == ["mae"]
    sizes = "width 192, depth 2, heads 3, decoder width 128, decoder depth 1, decoder heads 2"
    assert lines["sizes"] == [sizes]
    assert lines["images"] == ["224 by 224 pixels, RGB, in 14 by 14 patches of 16 pixels"]
    assert lines["pixel mean"] == ["0.485, 0.456, 0.406"]
    assert lines["masking"] == ["random patches, a proportion of 0.75; 49 of 196 patches stay visible"]
    assert "has no brightness and contrast of its own" in lines["predicts"][0]  # why are my reconstructions ugly?
    assert "mae_visualize_*" in lines["predicts"][0]
    assert lines["access"] == ["decoder: all of the model"]
    assert len(lines["id"][0]) == 64
    assert "target space is patch-normalised, by the file's name" in lines["assumed"]
    weights = sum(value.numel() for value in mae_state(192, 2, 128, 1, patch=16, grid=14).values())
    assert lines["parameters"] == [f"{weights:,}"]


def test_file_without_a_decoder_is_told_where_one_is(tmp_path: Path, mae_state: Make) -> None:
    torch.save(mae_state(192, decoder_width=0), tmp_path / "mae_pretrain_vit_tiny.pth")
    lines = lines_of(tmp_path / "mae_pretrain_vit_tiny.pth")
    assert lines["access"] == ["encoder: all but a decoder"]
    assert lines["predicts"] == ["nothing"]
    assert lines["in training"] == ["it predicted patches normalised one by one"]
    assert any("mae_pretrain_* files of the official MAE hold no decoder; " in line for line in lines["assumed"])
    assert lines["sizes"] == ["width 192, depth 2, heads 3"]


def test_other_families_are_described(tmp_path: Path, simmim_states: dict[str, State]) -> None:
    for kind, state in simmim_states.items():
        torch.save({"model": state}, tmp_path / kind)
    given = CheckpointSettings(cell_size=8, image_size=16)
    vit, swin = (lines_of(tmp_path / kind, given) for kind in ("vit", "swin"))
    assert (vit["family"], swin["family"]) == (["simmim"], ["transformers"])
    assert vit["sizes"] == ["width 24, depth 2, heads 3"]
    assert swin["sizes"][0].startswith("model type swin, embed dim 16, depths [2, 2], num heads [2, 4], window size 4")
    assert vit["masking"] == ["random cells of 2 by 2 patches, a proportion of 0.6; 4 of 16 patches stay visible"]
    assert vit["predicts"] == ["pixels as they are, normalised by the statistics above"]


def test_command_prints_what_can_be_audited_and_takes_settings(tmp_path: Path, mae_state: Make) -> None:
    torch.save(mae_state(192, decoder_width=64), tmp_path / "mae.pth")
    arguments = ["inspect", str(tmp_path / "mae.pth"), "--set", "checkpoint.mask_ratio=0.5"]
    result = CliRunner().invoke(app, [*arguments, "--target-space", "normalised"])
    assert result.exit_code == 0, result.output
    assert "official MAE with decoder" in result.output
    assert "a proportion of 0.5;" in result.output
    assert "threshold" in result.output.splitlines()[-1]
    assert "[from you]" in result.output
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    asked = next(line for line in result.output.splitlines() if line.startswith("not known") and "target" in line)
    assert "--set checkpoint.target_space=patch-normalised" in asked


@pytest.mark.parametrize("source", ["/nowhere/mae.pth", "some file"])
def test_command_says_what_is_not_there(source: str) -> None:
    result = CliRunner().invoke(app, ["inspect", source])
    assert isinstance(result.exception, MimiaError)
    assert "There is no checkpoint at" in str(result.exception)
