"""Directories as trainers leave them, and files of other kinds."""

import gzip
import json
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file
from tests.models.checkpoints.test_wrappings import Tree
from torch import Tensor, nn
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict_saver import save

from mimia.config.settings import CheckpointSettings
from mimia.models.checkpoints.loading import load_checkpoint
from mimia.runtime import compute
from mimia.runtime.errors import MimiaError

State = dict[str, Tensor]
Make = Callable[..., State]
SMALL = CheckpointSettings(heads=3, decoder_heads=4, target_space="normalised")


@pytest.fixture
def state(mae_state: Make) -> State:
    return mae_state()


def check_same(path: Path, state: State) -> Any:
    """Check that a directory or file opens as a model with the weights."""
    opened = load_checkpoint(path, SMALL)
    assert opened.layout == "official MAE with decoder"
    found = opened.model.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(value, found[name]) for name, value in state.items())
    return opened


def refused(path: Path, message: str) -> None:
    with pytest.raises(MimiaError, match=message) as error:
        load_checkpoint(path, SMALL)
    assert len(str(error.value)) <= 300


@pytest.fixture
def accelerator() -> Iterator[Accelerator]:
    yield Accelerator(cpu=True)
    compute.accelerator.cache_clear()  # all of a process share one state: mimia's next one begins anew


@pytest.mark.parametrize("safe", [True, False])
def test_state_that_accelerate_saved_opens(tmp_path: Path, state: State, accelerator: Accelerator, safe: bool) -> None:
    class Trained(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mae, self.scale = Tree(state), nn.Parameter(torch.ones(1))

    model = Trained()
    optimizer = torch.optim.AdamW([model.scale])
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    prepared = accelerator.prepare(model, optimizer, scheduler)
    assert len(prepared) == 3
    accelerator.save_state(str(tmp_path / "state"), safe_serialization=safe)
    files = {path.name for path in (tmp_path / "state").iterdir()}
    assert {"optimizer.bin", "scheduler.bin", "random_states_0.pkl"} < files
    opened = check_same(tmp_path / "state", state)
    assert opened.notes == ("left out, as no part of the model: scale",)


def deepspeed(directory: Path, tag: str, states: dict[str, object]) -> Path:
    """Write a directory as DeepSpeed and Lightning do."""
    (directory / tag).mkdir(parents=True)
    (directory / "latest").write_text(tag)
    (directory / "zero_to_fp32.py").write_text("raise SystemExit")
    for name, content in states.items():
        torch.save(content, directory / tag / name)
    torch.save({"optimizer_state_dict": {}}, directory / tag / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    return directory


def module(state: State, **more: object) -> dict[str, object]:
    shapes = [OrderedDict((name, value.shape) for name, value in state.items())]
    return {"module": state, "param_shapes": shapes, "ds_version": "0.15.0", "optimizer": None, **more}


@pytest.mark.parametrize("tag", ["global_step5", "checkpoint", "pytorch_model"])
def test_directory_of_deepspeed_with_the_whole_model_opens(tmp_path: Path, state: State, tag: str) -> None:
    prefixed = {f"module.model.{name}": value for name, value in state.items()}
    directory = deepspeed(tmp_path / "run", tag, {"mp_rank_00_model_states.pt": module(prefixed)})
    check_same(directory, state)
    check_same(directory / tag, state)


def test_directory_of_deepspeed_with_parts_of_the_model_is_refused(tmp_path: Path, state: State) -> None:
    empty = module({name: torch.empty(0) for name in state})
    message = r"no file in it holds all weights by name \(ZeRO stage 3 .*: run `python zero_to_fp32\.py \. OUT` in it"
    ranks = [f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt" for rank in range(2)]
    split = (ranks, ranks[:1], ["mp_rank_00_model_states.pt", "mp_rank_01_model_states.pt"])
    for number, names in enumerate(split):
        directory = deepspeed(tmp_path / str(number), "global_step5", dict.fromkeys(names, empty))
        refused(directory, message)
        refused(directory / "global_step5", message)
        (directory / "config.json").write_text('{"model_type": "vit_mae"}')
        refused(directory, message)
    one = tmp_path / "2" / "global_step5" / "mp_rank_00_model_states.pt"
    refused(one, r"is empty\), which ZeRO stage 3 keeps in other files")


@pytest.mark.parametrize("tag", ["../elsewhere", "/", "", "..", "nothing", "x" * 5000])
def test_directory_that_names_another_is_not_followed(tmp_path: Path, state: State, tag: str) -> None:
    deepspeed(tmp_path / "elsewhere", "mp", {"mp_rank_00_model_states.pt": module(state)})
    directory = tmp_path / "here"
    directory.mkdir()
    (directory / "latest").write_text(tag)
    refused(directory, r"is no checkpoint: it has no config\.json")


@pytest.mark.filterwarnings("ignore")  # of torch, on its own use of storages
def test_distributed_checkpoint_is_refused_with_the_way_to_convert_it(tmp_path: Path, state: State) -> None:
    save({"model": state}, checkpoint_id=tmp_path / "parts", no_dist=True)
    message = r"in parts: run `python -m torch\.distributed\.checkpoint\.format_utils dcp_to_torch DIR OUT\.pth`"
    refused(tmp_path / "parts", message)
    (tmp_path / "parts").rename(tmp_path / "pytorch_model_fsdp_0")
    (tmp_path / "state").mkdir()
    (tmp_path / "pytorch_model_fsdp_0").rename(tmp_path / "state" / "pytorch_model_fsdp_0")
    refused(tmp_path / "state", r"pytorch_model_fsdp_0 is a checkpoint of torch\.distributed\.checkpoint")
    dcp_to_torch_save(tmp_path / "state" / "pytorch_model_fsdp_0", tmp_path / "whole.pth")
    check_same(tmp_path / "whole.pth", state)


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("prefix", ["", "module.model."])
def test_shards_are_read_as_one_file(tmp_path: Path, state: State, safe: bool, prefix: str) -> None:
    prefixed = {prefix + name: value for name, value in state.items()}
    save_torch_state_dict(prefixed, tmp_path, max_shard_size="60KB", safe_serialization=safe)
    (index,) = tmp_path.glob("*.index.json")
    assert len(list(tmp_path.glob("*-of-*"))) > 2
    opened = check_same(tmp_path, state)
    assert check_same(index, state).id == opened.id
    shard = next(iter(tmp_path.glob("*-of-*")))
    refused(shard, r"is one of the parts of a checkpoint: pass their directory, or their index")
    shard.unlink()
    refused(tmp_path, r"names .*, which is not there: copy the directory again")


def test_shards_that_contradict_each_other_are_refused(tmp_path: Path, state: State) -> None:
    for number, part in enumerate([state, {"norm.bias": state["norm.bias"]}]):
        save_file(part, tmp_path / f"{number}.safetensors")
    entries = {"a": "0.safetensors", "b": "1.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": entries}))
    refused(tmp_path, r"1\.safetensors holds norm\.bias, as another part does")
    torch.save({"args": 3}, tmp_path / "2.bin")
    entries["b"] = "2.bin"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": entries}))
    refused(tmp_path / "model.safetensors.index.json", r"2\.bin holds no weights by name")


def test_index_of_transformers_is_read_with_its_configuration(
    tmp_path: Path, state: State, save_transformers: Callable[..., Path]
) -> None:
    directory = save_transformers(tmp_path / "hub", state)
    entries = {"metadata": {}, "weight_map": {"vit.layernorm.bias": "model-00001-of-00001.safetensors"}}
    (directory / "model.safetensors").rename(directory / "model-00001-of-00001.safetensors")
    (directory / "model.safetensors.index.json").write_text(json.dumps(entries))
    for path in (directory, directory / "model.safetensors.index.json"):
        assert load_checkpoint(path).layout.startswith("transformers ViTMAEForPreTraining")
    (directory / "config.json").unlink()
    refused(directory, r"holds weights of transformers, which need their config\.json: pass their directory")


def test_directory_with_one_file_of_weights_opens_that(tmp_path: Path, state: State) -> None:
    torch.save({"model": state}, tmp_path / "checkpoint-799.pth")
    for name in ("optimizer.pt", "rng_state.pth", "scheduler.pt", "training_args.bin", "scaler.pt", ".hidden.pth"):
        torch.save({}, tmp_path / name)
    (tmp_path / "log.txt").write_text("epoch 799")
    assert check_same(tmp_path, state).id == load_checkpoint(tmp_path / "checkpoint-799.pth", SMALL).id
    torch.save({"model": state}, tmp_path / "checkpoint-800.pth.tar")
    refused(tmp_path, r"has 2 files of weights \(checkpoint-799\.pth, checkpoint-800\.pth\.tar\): pass one of them")


def test_directory_of_a_trainer_opens_as_one_of_transformers(
    tmp_path: Path, state: State, save_transformers: Callable[..., Path]
) -> None:
    directory = save_transformers(tmp_path / "checkpoint-500", state)
    for name in ("optimizer.pt", "rng_state.pth", "scheduler.pt", "training_args.bin"):
        torch.save({}, directory / name)
    (directory / "trainer_state.json").write_text('{"global_step": 500}')
    assert load_checkpoint(directory).layout.startswith("transformers ViTMAEForPreTraining")


def test_choice_of_weights_is_refused_where_there_is_none(
    tmp_path: Path, state: State, save_transformers: Callable[..., Path]
) -> None:
    with pytest.raises(MimiaError, match="has one set of weights: leave out --weights"):
        load_checkpoint(save_transformers(tmp_path / "hub", state), CheckpointSettings(weights="ema"))


@pytest.mark.parametrize(
    "name",
    ["saved_model.pb", "flax_model.msgpack", "tf_model.h5", "model.onnx", "model.ckpt.index", "_CHECKPOINT_METADATA"],
)
def test_directory_of_another_library_is_refused_by_its_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x08\x07")
    refused(tmp_path, rf"has no weights of torch or safetensors, but {name}, of another library: convert its weights")


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def script(path: Path) -> None:
    torch.jit.save(torch.jit.script(Doubled()), path)


def program(path: Path) -> None:
    torch.export.save(torch.export.export(Doubled(), (torch.ones(2),)), path)


def compressed(path: Path) -> None:
    path.write_bytes(gzip.compress(b"weights"))


def tarred(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "pickle")


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(__file__, "mae.pth")


def start(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {
    "a.pt": (script, r"it is a program of TorchScript: load it with torch\.jit\.load, and save model\.state_dict\(\)"),
    "a.pt2": (program, r"it is a program of torch\.export: load it with torch\.export\.load"),
    "b.pth": (program, r"it is a program of torch\.export: load it with torch\.export\.load"),
    "a.npz": (lambda path: np.savez(path, a=np.ones(3)), "it is a file of numpy: convert its weights to safetensors"),
    "c.pth": (lambda path: np.savez(path.open("wb"), a=np.ones(3)), "it is an archive of numpy: convert its weights"),
    "a.npy": (lambda path: np.save(path, np.ones(3)), "but a file of numpy"),
    "a.onnx": (start(b"\x08\x07\x12\x07pytorch"), "but an ONNX graph: load the model that it was exported from"),
    "a.h5": (start(b"\x89HDF\r\n\x1a\n"), "but a file of Keras or HDF5"),
    "a.msgpack": (start(b"\x82\xa6params"), "but a file of Flax"),
    "a.pb": (start(b"\x08\x01"), "but a file of TensorFlow"),
    "a.ckpt.index": (start(b"\x00\x00"), "but a file of TensorFlow"),
    "a.gguf": (start(b"GGUF\x03\x00"), r"but a file of llama\.cpp"),
    "f.bin": (lambda path: save_file({"a": torch.ones(3)}, path), "but a file of safetensors: let its name end in"),
    "a.pth.gz": (compressed, "but compressed: unpack it and pass the file in it"),
    "a.pth.tar": (tarred, r"but a tar archive: unpack it .*, or, if torch before 0\.1\.10 wrote it, save it again"),
    "a.zip": (zipped, r"is a zip archive, but no checkpoint: pass the \.pth"),
    "d.pth": (start(b"version https://git-lfs.github.com/spec/v1\n"), "but a pointer of Git LFS: run `git lfs pull`"),
    "e.pth": (start(b"<!DOCTYPE html><html>"), "but a web page: download the file again"),
    "__0_0.distcp": (start(b"PK"), "one part of a checkpoint of torch.distributed.checkpoint|is damaged or cut off"),
}


@pytest.mark.filterwarnings("ignore")  # of torch, on scripts
@pytest.mark.parametrize("name", list(FOREIGN))
def test_file_of_another_kind_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    write, message = FOREIGN[name]
    write(tmp_path / name)
    refused(tmp_path / name, message)
