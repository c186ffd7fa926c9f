from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from mimia.cli.doctor import Diagnosis, diagnose
from mimia.config.settings import read_settings

Run = Callable[[str], tuple[int, str, str]]


class Disk(NamedTuple):
    free: int


def diagnoses(store: Path, **changes: Any) -> dict[str, Diagnosis]:
    return {each.name: each for each in diagnose(read_settings(None, {"store": str(store)} | changes))}


def test_all_is_diagnosed_and_nothing_is_left_behind(tmp_path: Path) -> None:
    found = diagnoses(tmp_path / "store")
    assert list(found) == ["versions", "device", "store", "disk"]
    assert f"torch {torch.__version__}" in found["versions"].finding
    assert not any((tmp_path / "store").iterdir())


@pytest.mark.parametrize(("free", "code", "disk"), [(3, 0, "ok  disk"), (1, 2, "!!  disk")])
def test_exit_code_tells_whether_mimia_can_work_here(
    mimia: Run, monkeypatch: pytest.MonkeyPatch, free: int, code: int, disk: str
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Disk(free * 2**30))
    found, out, err = mimia("doctor --store store")
    assert (found, err) == (code, "")
    *others, last = out.splitlines()
    assert [line.split()[:2] for line in others] == [["ok", "versions"], ["ok", "device"], ["ok", "store"]]
    assert last.startswith(disk)
    assert f"{free}.0 GiB free" in last


def test_full_disk_is_found(full_disk: Path) -> None:
    disk = diagnoses(full_disk)["disk"]
    assert not disk.good
    assert disk.finding == "0.0 GiB free: free some space, or pass --store"


def test_store_that_cannot_be_written_is_found(mimia: Run) -> None:
    code, out, _ = mimia("doctor --store file")
    assert code == 2
    assert out.splitlines()[-1].split(maxsplit=2)[:2] == ["!!", "store"]
    assert out.endswith("cannot be written (File exists): pass --store.\n")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_missing_device_is_found_and_the_rest_diagnosed(tmp_path: Path) -> None:
    found = diagnoses(tmp_path, compute={"device": "cuda"})
    assert not found["device"].good
    assert "pass --device auto" in found["device"].finding
    assert found["store"].good
