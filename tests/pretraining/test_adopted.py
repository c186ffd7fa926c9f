from pathlib import Path
from typing import Any

import pytest
import torch

from mimia.config import CheckpointSettings
from mimia.encoders.base import ModelSpec
from mimia.encoders.checkpoints import native
from mimia.encoders.checkpoints.opening import open_checkpoint
from mimia.encoders.mae import SIZES, Mae
from mimia.pretraining.adopted import adopted
from mimia.store import Store

SPEC = ModelSpec(
    image_size=8, channels=1, patch_size=2, mask_ratio=0.75, target_space="normalised", mean=(0.3,), std=(0.4,)
)
GIVEN = CheckpointSettings(target_space="normalised", mean=(0.3,), std=(0.4,), heads=4, decoder_heads=4)


@pytest.fixture
def model() -> Mae:
    return Mae(SPEC, SIZES["nano"], torch.Generator().manual_seed(0))


def test_other_peoples_model_is_kept_once_as_a_directory_of_mimia(tmp_path: Path, model: Mae) -> None:
    torch.save(model.state_dict(), tmp_path / "mae.pth")
    store = Store(tmp_path / "store")
    directory = adopted(open_checkpoint(tmp_path / "mae.pth", GIVEN), store)
    kept = native.load(directory)
    assert (kept.spec, kept.architecture) == (SPEC, SIZES["nano"])
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in kept.state_dict().items())
    (tmp_path / "moved.pth").write_bytes((tmp_path / "mae.pth").read_bytes())
    assert adopted(open_checkpoint(tmp_path / "moved.pth", GIVEN), store) == directory


def test_same_weights_with_other_settings_are_another_model(tmp_path: Path, model: Mae) -> None:
    torch.save(model.state_dict(), tmp_path / "mae.pth")
    store = Store(tmp_path / "store")
    changes: list[dict[str, Any]] = [
        {"mask_ratio": 0.5},
        {"mean": (0.1,)},
        {"target_space": "patch-normalised"},
        {"heads": 2},
    ]
    settings = [GIVEN, *(GIVEN.model_copy(update=change) for change in changes)]
    assert len({adopted(open_checkpoint(tmp_path / "mae.pth", given), store) for given in settings}) == len(settings)


def test_mimias_own_directory_is_used_as_it_is(tmp_path: Path, model: Mae) -> None:
    native.save(tmp_path / "ours", model)
    assert adopted(open_checkpoint(tmp_path / "ours"), Store(tmp_path / "store")) == tmp_path / "ours"
    assert not (tmp_path / "store").exists()
