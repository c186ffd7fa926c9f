from pathlib import Path
from typing import Any

import pytest
import torch

from mimia.config import read_settings
from mimia.doctor import Check, examine


def checks(store: Path, **changes: Any) -> dict[str, Check]:
    return {check.name: check for check in examine(read_settings(None, {"store": str(store)} | changes))}


def test_all_is_examined_and_nothing_is_left_behind(tmp_path: Path) -> None:
    found = checks(tmp_path / "store")
    assert list(found) == ["versions", "device", "store", "disk"]
    assert all(found[name].good for name in ("versions", "device", "store"))
    assert f"torch {torch.__version__}" in found["versions"].finding
    assert not any((tmp_path / "store").iterdir())


def test_disk_that_is_nearly_full_is_told(full_disk: Path) -> None:
    disk = checks(full_disk)["disk"]
    assert not disk.good
    assert disk.finding == "0.0 GiB free: free some space, or pass --store"


def test_store_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = checks(tmp_path / "file")["store"]
    assert not store.good
    assert store.finding.endswith("cannot be written (File exists): pass --store.")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_device_that_is_not_there_is_told_and_the_rest_examined(tmp_path: Path) -> None:
    found = checks(tmp_path, compute={"device": "cuda"})
    assert not found["device"].good
    assert "pass --device auto" in found["device"].finding
    assert found["store"].good
