"""Which files of a directory of transformers are its weights: those that transformers loads, and none elsewhere."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import ViTMAEForPreTraining

from mimia.models.checkpoints.loading import load_checkpoint
from mimia.pretraining.to_native import to_native
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store

State = dict[str, Tensor]
INDEX = "model.safetensors.index.json"


@pytest.fixture
def parts(tmp_path: Path, mae_state: Callable[..., State], save_transformers: Callable[..., Path]) -> Path:
    """A directory with an index and several files."""
    whole = ViTMAEForPreTraining.from_pretrained(save_transformers(tmp_path / "whole", mae_state()))
    assert isinstance(whole, ViTMAEForPreTraining)
    whole.save_pretrained(tmp_path / "parts", max_shard_size="100kB")
    return tmp_path / "parts"


def shards(directory: Path) -> list[Path]:
    return sorted(directory.glob("model-*.safetensors"))


def change(file: Path) -> None:
    """Add one to all weights of a file."""
    save_file({name: value + 1 for name, value in load_file(file).items()}, file, metadata={"format": "pt"})


def rename_in_index(directory: Path, name: str) -> Path:
    """Give the first file another name in the index, and return what that names."""
    index = json.loads((directory / INDEX).read_text())
    first = shards(directory)[0].name
    index["weight_map"] = {key: name if value == first else value for key, value in index["weight_map"].items()}
    (directory / INDEX).write_text(json.dumps(index))
    return directory / name


def test_weights_that_the_index_names_make_the_id_whatever_lies_beside_them(parts: Path, store: Store) -> None:
    for file in shards(parts):
        rename_in_index(parts, f"part-{file.name}").write_bytes(file.read_bytes())
        file.unlink()
    (parts / "model-00001-of-00009.safetensors").write_bytes(b"of something else")
    before = load_checkpoint(parts)
    copy = to_native(before, store)
    change(next(parts.glob("part-*")))
    after = load_checkpoint(parts)
    assert after.id != before.id
    assert to_native(after, store) != copy


def test_copy_is_found_again_only_for_the_same_weights_in_memory(parts: Path, store: Store) -> None:
    loaded = load_checkpoint(parts)
    copy = to_native(loaded, store)
    assert to_native(load_checkpoint(parts), store) == copy
    with torch.no_grad():
        next(loaded.model.parameters()).add_(1)
    assert to_native(loaded, store) != copy


def test_single_file_is_loaded_before_an_index(parts: Path, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "whole" / "model.safetensors", parts)
    before = load_checkpoint(parts).id
    assert before == load_checkpoint(tmp_path / "whole").id
    change(shards(parts)[0])
    assert load_checkpoint(parts).id == before


def test_pickled_files_that_an_index_names_make_the_id(parts: Path) -> None:
    index = json.loads((parts / INDEX).read_text())
    for file in shards(parts):
        torch.save(load_file(file), parts / f"pytorch_{file.stem}.bin")
        file.unlink()
    names = {key: f"pytorch_{Path(value).stem}.bin" for key, value in index["weight_map"].items()}
    (parts / "pytorch_model.bin.index.json").write_text(json.dumps(index | {"weight_map": names}))
    (parts / INDEX).unlink()
    before = load_checkpoint(parts).id
    file = sorted(parts.glob("*.bin"))[-1]
    torch.save({name: value + 1 for name, value in torch.load(file).items()}, file)
    assert load_checkpoint(parts).id != before


def test_file_behind_a_link_makes_the_id(parts: Path, tmp_path: Path) -> None:
    """The cache of the hub is made of links."""
    file = shards(parts)[0]
    file.rename(tmp_path / "blob")
    file.symlink_to(tmp_path / "blob")
    before = load_checkpoint(parts).id
    change(tmp_path / "blob")
    assert load_checkpoint(parts).id != before


@pytest.mark.parametrize("kind", ["above", "absolute", "around"])
def test_index_that_names_files_elsewhere_is_refused(parts: Path, tmp_path: Path, kind: str) -> None:
    elsewhere = tmp_path / "elsewhere.safetensors"
    shutil.copy(shards(parts)[0], elsewhere)
    names = {"above": f"../{elsewhere.name}", "absolute": str(elsewhere), "around": f"../parts/{shards(parts)[0].name}"}
    rename_in_index(parts, names[kind])
    with pytest.raises(MimiaError, match=r"names .*, which lies outside of its directory: put all files"):
        load_checkpoint(parts)


def test_index_that_names_a_missing_file_is_refused(parts: Path) -> None:
    shards(parts)[-1].unlink()
    with pytest.raises(MimiaError, match=r"names model-.*, which is not there: copy the directory again"):
        load_checkpoint(parts)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', "\0"])
def test_damaged_index_is_refused(parts: Path, content: str) -> None:
    (parts / INDEX).write_text(content)
    with pytest.raises(MimiaError, match=r"index\.json .*copy it again"):
        load_checkpoint(parts)


def test_files_without_an_index_are_no_weights(parts: Path) -> None:
    (parts / INDEX).unlink()
    with pytest.raises(MimiaError, match=r"has no weights: .* is missing, or the index of several files"):
        load_checkpoint(parts)


def test_weights_that_config_json_names_are_refused(parts: Path) -> None:
    config = json.loads((parts / "config.json").read_text())
    (parts / "config.json").write_text(json.dumps(config | {"transformers_weights": "other.safetensors"}))
    with pytest.raises(MimiaError, match=r"names another file of weights .*: call that file model\.safetensors"):
        load_checkpoint(parts)


def test_adapter_is_refused(parts: Path) -> None:
    (parts / "adapter_config.json").write_text("{}")
    with pytest.raises(MimiaError, match=r"holds an adapter, .*: merge them"):
        load_checkpoint(parts)
