import argparse
import builtins
import io
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mimia.models.checkpoints.loading import load_checkpoint
from mimia.models.checkpoints.safe import read_contents
from mimia.runtime.errors import MimiaError

MAPS = Path("/proc/self/maps")  # files that are mapped into the memory of this process, on Linux


class Trap:
    """A value that calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call


def traps(marker: Path) -> dict[str, Any]:
    """Ways to make a file when a checkpoint is opened."""
    return {
        "a command": Trap(os.system, f"touch {marker}"),
        "Python": Trap(builtins.exec, f"import pathlib; pathlib.Path({str(marker)!r}).touch()"),
        "open": Trap(builtins.open, str(marker), "w"),
        "a method": Trap(Path.touch, marker),
        "an attribute": Trap(builtins.getattr, marker, "touch"),
        "within arguments": argparse.Namespace(norm_pix_loss=Trap(os.mkdir, str(marker))),
        "as a state": Trap(torch.serialization.load, str(marker)),
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", list(traps(Path())))
def test_code_in_a_file_does_not_run_and_the_file_is_refused(tmp_path: Path, kind: str, zipped: bool) -> None:
    marker = tmp_path / "it-ran"
    content = {"model": {"norm.bias": torch.ones(3)}, "args": traps(marker)[kind]}
    torch.save(content, tmp_path / "mae.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(MimiaError, match=r"holds .* could run code, and is not opened: save the weights alone"):
        load_checkpoint(tmp_path / "mae.pth")
    assert not marker.exists()


@pytest.mark.parametrize("kind", list(traps(Path())))
def test_code_in_the_weights_of_a_directory_does_not_run_either(
    tmp_path: Path, mae_state: Callable[..., dict[str, Any]], save_transformers: Callable[..., Path], kind: str
) -> None:
    directory = save_transformers(tmp_path / "hub", mae_state(), auto_map={"AutoModel": "modeling.Model"})
    (directory / "modeling.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'it-ran')!r}).touch()\n")
    (directory / "model.safetensors").unlink()
    torch.save({"vit.layernorm.bias": traps(tmp_path / "it-ran")[kind]}, directory / "pytorch_model.bin")
    with pytest.raises(MimiaError, match=r"holds .* could run code, and is not opened"):
        load_checkpoint(directory)
    assert not (tmp_path / "it-ran").exists()


def test_traps_are_real(tmp_path: Path) -> None:
    for kind in ("a command", "Python", "within arguments"):
        marker = tmp_path / kind.replace(" ", "-")
        torch.save(traps(marker)[kind], tmp_path / "mae.pth")
        torch.load(tmp_path / "mae.pth", weights_only=False)
        assert marker.exists()


def test_pickle_without_torch_does_not_run_either(tmp_path: Path) -> None:
    marker = tmp_path / "it-ran"
    (tmp_path / "mae.pth").write_bytes(pickle.dumps(traps(marker)["a command"]))
    with pytest.raises(MimiaError, match=r"mae\.pth"):
        load_checkpoint(tmp_path / "mae.pth")
    assert not marker.exists()


def test_whole_model_as_torch_pickles_it_is_refused_with_the_way_to_save_it(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 3), tmp_path / "model.pth")
    with pytest.raises(MimiaError, match=r"holds torch\.nn\.modules\.linear\.Linear, .*save\(model\.state_dict"):
        load_checkpoint(tmp_path / "model.pth")


def truncated(path: Path) -> None:
    torch.save({"norm.bias": torch.ones(5000)}, path)
    path.write_bytes(path.read_bytes()[:9000])


def truncated_legacy(path: Path) -> None:
    torch.save({"norm.bias": torch.ones(5000)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:9000])


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("notes/readme.txt", "weights are elsewhere")


def script(path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 3)), path)


def text(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22\n")


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("mae.pth", truncated, "is damaged or cut off: copy it again"),
        ("mae.pth", truncated_legacy, "is no checkpoint that torch or safetensors wrote, or is damaged"),
        ("mae.pth", archive, r"is a zip archive, but no checkpoint: pass the \.pth"),
        ("mae.zip", archive, r"is a zip archive, but no checkpoint: pass the \.pth"),
        ("mae.pth", text, "is no checkpoint that torch or safetensors wrote"),
        ("mae.bin", lambda path: path.write_bytes(b""), "is no checkpoint that torch or safetensors wrote"),
        ("mae.pth", lambda path: torch.save([torch.ones(3)], path), r"holds no weights by name: .*state_dict"),
        ("mae.pth", lambda path: torch.save(torch.ones(3), path), "holds no weights by name"),
        ("mae.pth", lambda path: torch.save({"epoch": 3, "model": {}}, path), "holds no weights by name"),
        ("mae.pth", lambda path: torch.save({"a": torch.ones(3), "b": 1}, path), "holds no weights by name"),
        ("mae.safetensors", text, "is damaged or no file of safetensors"),
        ("mae.safetensors", lambda path: path.write_bytes(b""), "is damaged or no file of safetensors"),
        (
            "mae.safetensors",
            lambda path: torch.save({"a": torch.ones(3)}, path),
            "is damaged or no file of safetensors",
        ),
    ],
)
def test_what_is_no_whole_checkpoint_is_refused_with_what_it_seems_to_be(
    tmp_path: Path, name: str, write: Callable[[Path], object], message: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(MimiaError, match=message):
        load_checkpoint(tmp_path / name)


def test_cut_off_safetensors_are_refused(tmp_path: Path) -> None:
    save_file({"norm.bias": torch.ones(5000)}, tmp_path / "whole.safetensors")
    (tmp_path / "half.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:9000])
    with pytest.raises(MimiaError, match=r"half\.safetensors is damaged"):
        load_checkpoint(tmp_path / "half.safetensors")


@pytest.mark.filterwarnings("ignore")
def test_script_of_torch_is_refused(tmp_path: Path) -> None:
    script(tmp_path / "mae.pt")
    with pytest.raises(MimiaError, match=r"mae\.pt is a zip archive, but no checkpoint"):
        load_checkpoint(tmp_path / "mae.pt")


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Any]:
    """Make a class with the name of one in a package that is not installed."""

    def make(module: str, name: str, *bases: type) -> Any:
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            monkeypatch.setitem(sys.modules, ".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
        made = type(name, bases, {"__module__": module})
        setattr(sys.modules[module], name, made)
        return made

    return make


def test_what_official_files_carry_beside_their_weights_is_read_or_passed_over(
    tmp_path: Path, foreign: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = foreign("yacs.config", "CfgNode", dict)
    settings, data = node(), node(IMG_SIZE=192, MASK_RATIO=0.6)
    settings["DATA"] = data
    data.__dict__ |= {"__immutable__": True, "__deprecated_keys__": set(), "__renamed_keys__": {}}
    history = foreign("mmengine.logging.history_buffer", "HistoryBuffer")()
    history._log_history = np.arange(3.0)
    torch.save(
        {
            "model": OrderedDict({"norm.bias": torch.arange(3.0)}),
            "config": settings,
            "args": argparse.Namespace(norm_pix_loss=True, output_dir=Path("runs"), lr=1.5e-4, resume=""),
            "max_accuracy": np.float64(83.5),
            "message_hub": {"log_scalars": {"loss": history}},
            "epoch": 800,
        },
        tmp_path / "checkpoint.pth",
    )
    monkeypatch.undo()
    assert "yacs" not in sys.modules
    contents = read_contents(tmp_path / "checkpoint.pth")
    assert list(contents.state) == ["norm.bias"]
    assert torch.equal(contents.state["norm.bias"], torch.arange(3.0))
    assert contents.beside["config"]["DATA"] == {"IMG_SIZE": 192, "MASK_RATIO": 0.6}
    assert (contents.beside["args"].norm_pix_loss, contents.beside["args"].lr) == (True, 1.5e-4)
    assert contents.beside["epoch"] == 800


def test_list_of_what_is_allowed_is_not_left_behind(tmp_path: Path) -> None:
    torch.save({"args": argparse.Namespace(), "model": {"norm.bias": torch.ones(3)}}, tmp_path / "mae.pth")
    read_contents(tmp_path / "mae.pth")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "mae.pth", weights_only=True)


def test_file_of_an_old_torch_opens(tmp_path: Path) -> None:
    torch.save({"model": {"norm.bias": torch.ones(3)}}, tmp_path / "mae.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(read_contents(tmp_path / "mae.pth").state["norm.bias"], torch.ones(3))


def test_weights_that_were_saved_on_a_gpu_open_on_the_cpu(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"norm.bias": torch.ones(3)}, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(tmp_path / "mae.pth", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"))
    value = read_contents(tmp_path / "mae.pth").state["norm.bias"]
    assert (value.device.type, value.tolist()) == ("cpu", [1.0, 1.0, 1.0])


def test_opened_weights_are_mapped_and_can_be_changed_without_a_change_of_the_file(tmp_path: Path) -> None:
    files = tmp_path / "a.pth", tmp_path / "b.safetensors"
    torch.save({"norm.bias": torch.ones(3)}, files[0])
    save_file({"norm.bias": torch.ones(3)}, files[1])
    for file in files:
        before = file.read_bytes()
        value = read_contents(file).state["norm.bias"]
        if MAPS.exists():
            assert str(file) in MAPS.read_text()
        value.add_(1)
        assert file.read_bytes() == before
