from pathlib import Path
from typing import Any

import pytest
import torch

from mimia.config.settings import CheckpointSettings
from mimia.models.base import ModelSpec
from mimia.models.checkpoints import native
from mimia.models.checkpoints.loading import load_checkpoint
from mimia.models.mae import MAE, SIZES
from mimia.pretraining.to_native import to_native
from mimia.runtime.store import Store

SPEC = ModelSpec(
    image_size=8, channels=1, patch_size=2, mask_ratio=0.75, target_space="normalised", mean=(0.3,), std=(0.4,)
)
GIVEN = CheckpointSettings(target_space="normalised", mean=(0.3,), std=(0.4,), heads=4, decoder_heads=4)


@pytest.fixture
def model() -> MAE:
    return MAE(SPEC, SIZES["nano"], torch.Generator().manual_seed(0))


def test_other_peoples_model_is_kept_once_as_a_directory_of_mimia(tmp_path: Path, model: MAE) -> None:
    torch.save(model.state_dict(), tmp_path / "mae.pth")
    store = Store(tmp_path / "store")
    directory = to_native(load_checkpoint(tmp_path / "mae.pth", GIVEN), store)
    kept = native.load(directory)
    assert (kept.spec, kept.architecture) == (SPEC, SIZES["nano"])
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in kept.state_dict().items())
    (tmp_path / "moved.pth").write_bytes((tmp_path / "mae.pth").read_bytes())
    assert to_native(load_checkpoint(tmp_path / "moved.pth", GIVEN), store) == directory


def test_same_weights_with_other_settings_are_another_model(tmp_path: Path, model: MAE) -> None:
    torch.save(model.state_dict(), tmp_path / "mae.pth")
    store = Store(tmp_path / "store")
    changes: list[dict[str, Any]] = [
        {"mask_ratio": 0.5},
        {"mean": (0.1,)},
        {"target_space": "patch-normalised"},
        {"heads": 2},
    ]
    settings = [GIVEN, *(GIVEN.model_copy(update=change) for change in changes)]
    assert len({to_native(load_checkpoint(tmp_path / "mae.pth", given), store) for given in settings}) == len(settings)


def test_mimias_own_directory_is_used_as_it_is(tmp_path: Path, model: MAE) -> None:
    native.save(tmp_path / "ours", model)
    assert to_native(load_checkpoint(tmp_path / "ours"), Store(tmp_path / "store")) == tmp_path / "ours"
    assert not (tmp_path / "store").exists()
