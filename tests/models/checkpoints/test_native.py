import hashlib
import json
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mimia.config.recipes import Recipe
from mimia.models.base import ModelSpec
from mimia.models.checkpoints import native
from mimia.models.mae import MAE, SIZES
from mimia.runtime.errors import MimiaError

SPEC = ModelSpec(
    image_size=8,
    channels=1,
    patch_size=2,
    mask_ratio=0.75,
    target_space="patch-normalised",
    mean=(0.1 + 0.2,),  # a number whose last bit JSON has to keep
    std=(1 / 3,),
)
TRAINING = native.Training(
    recipe=Recipe.model_validate({"preset": "mae-nano", "epochs": 3}),
    seed=5,
    images=7,
    images_fingerprint="f" * 32,
    losses=(0.3, 0.2, 0.1),
    seconds=1.5,
    hardware={"device": "cpu", "threads": 1},
    versions={"torch": "2"},
)


@pytest.fixture
def model() -> MAE:
    return MAE(SPEC, SIZES["nano"], torch.Generator().manual_seed(0)).eval()


@pytest.fixture
def checkpoint(tmp_path: Path, model: MAE) -> Path:
    native.save(tmp_path / "checkpoint", model, TRAINING)
    return tmp_path / "checkpoint"


def test_what_is_opened_equals_what_was_saved_bit_by_bit(checkpoint: Path, model: MAE) -> None:
    opened = native.load(checkpoint)
    assert (opened.spec, opened.architecture) == (SPEC, SIZES["nano"])
    saved, loaded = model.state_dict(), opened.state_dict()
    assert list(saved) == list(loaded)
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)
    assert [value.requires_grad for value in model.parameters()] == [
        value.requires_grad for value in opened.parameters()
    ]
    assert not opened.training
    assert native.load_training(checkpoint) == TRAINING
    assert native.load_config(checkpoint).spec == SPEC


def test_opened_model_can_be_trained_without_a_change_of_its_file(checkpoint: Path) -> None:
    before = native.model_id(checkpoint)
    opened = native.load(checkpoint)
    with torch.no_grad():
        for value in opened.parameters():
            value.add_(1)
    assert native.model_id(checkpoint) == before


def test_model_id_is_the_hash_of_the_weights(checkpoint: Path) -> None:
    assert native.model_id(checkpoint) == hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()


def test_checkpoint_without_its_training_can_be_opened(checkpoint: Path) -> None:
    (checkpoint / "training.json").unlink()
    assert native.load_training(checkpoint) is None
    assert native.load(checkpoint).spec == SPEC


def test_record_of_a_training_from_before_there_were_defences_can_be_read(checkpoint: Path) -> None:
    record = json.loads((checkpoint / "training.json").read_text())
    assert record.pop("privacy") is None
    del record["recipe"]["defences"]
    (checkpoint / "training.json").write_text(json.dumps(record))
    assert native.load_training(checkpoint) == TRAINING


def truncate(directory: Path) -> None:
    weights = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(weights[: len(weights) // 2])


def remove(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).unlink()


def write(name: str, content: bytes) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        (directory / name).write_bytes(content)

    return damage


def weights(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        state = {name: value.clone() for name, value in load_file(directory / "model.safetensors").items()}
        change(state)
        save_file(state, directory / "model.safetensors")

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, r"model\.safetensors is damaged"),
        (write("model.safetensors", b""), r"model\.safetensors is damaged"),
        (remove("model.safetensors"), r"has no model\.safetensors"),
        (remove("config.json"), r"has no config\.json"),
        (write("config.json", b"weights: 3"), r"config\.json cannot be read as JSON"),
        (write("config.json", b"\xff\xfe\x00"), r"config\.json cannot be read as JSON"),
        (write("config.json", b'{"model_type": "vit_mae"}'), r"config\.json is not what mimia wrote"),
        (weights(lambda state: state["norm.weight"][3:4].fill_(torch.nan)), r"norm\.weight .* not finite"),
        (weights(lambda state: state["mask_token"].view(-1)[:1].fill_(torch.inf)), "mask_token .* not finite"),
        (weights(lambda state: state.pop("decoder_pred.bias")), r"lacks parameter decoder_pred\.bias"),
        (weights(lambda state: state.update(head=torch.ones(2))), "unexpected parameter head"),
        (
            weights(lambda state: state.update({"norm.bias": torch.ones(65)})),
            r"norm\.bias has the shape \(65,\), but config\.json asks for \(64,\)",
        ),
        (weights(lambda state: state.update(cls_token=state["cls_token"].half())), r"cls_token .* torch\.float16"),
    ],
)
def test_damaged_checkpoint_is_refused_with_the_name_of_what_is_wrong(
    checkpoint: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(checkpoint)
    with pytest.raises(MimiaError, match=message):
        native.load(checkpoint)


def test_damaged_record_of_the_training_is_refused(checkpoint: Path) -> None:
    (checkpoint / "training.json").write_text("{}")
    with pytest.raises(MimiaError, match=r"training\.json is not what mimia wrote"):
        native.load_training(checkpoint)


def test_directory_is_never_seen_with_half_of_the_weights(tmp_path: Path, model: MAE) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the weights have 700 kB
    try:
        with pytest.raises(Exception, match="File too large"):
            native.save(tmp_path / "checkpoint", model, TRAINING)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "checkpoint" / "model.safetensors").exists()
    with pytest.raises(MimiaError, match=r"has no model\.safetensors"):
        native.load(tmp_path / "checkpoint")
    native.save(tmp_path / "checkpoint", model, TRAINING)
    assert native.load(tmp_path / "checkpoint").spec == SPEC
