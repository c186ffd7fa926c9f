import errno
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from mimia.runtime.arrays import fingerprint
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store, replacing

SETTINGS = {"seed": 1, "sizes": [2, 3]}
SCRIPT = """
import os, pathlib, time
from mimia.runtime.store import Store

def build(work):
    with open("builds", "a") as log:
        log.write("built\\n")
    while len(list(pathlib.Path().glob("ready-*"))) < 2 and time.monotonic() < patience:
        time.sleep(0.01)
    time.sleep(0.3)  # for the other to ask too
    (work / "value").write_text("from one builder")

patience = time.monotonic() + 20
pathlib.Path(f"ready-{os.getpid()}").touch()
print((Store("store").make("thing", {}, build) / "value").read_text())
"""


def write(text: str) -> Callable[[Path], None]:
    """Give a builder of one file."""

    def build(work: Path) -> None:
        (work / "value").write_text(text)

    return build


def refuse(work: Path) -> None:
    raise AssertionError(f"{work} is built again")


def stop(work: Path) -> None:
    """Leave half of an artifact, as an interrupted run does."""
    (work / "value").write_text("half")
    raise KeyboardInterrupt


def artifacts(store: Store) -> list[Path]:
    return [path for path in store.root.glob("*/*") if path.parent.name != "work"]


def test_artifact_is_built_once_whatever_the_order_of_its_settings(store: Store) -> None:
    path = store.make("thing", SETTINGS, write("built"))
    assert (path / "value").read_text() == "built"
    again = Store(store.root).make("thing", dict(reversed(SETTINGS.items())), refuse)
    assert again == path
    record = json.loads((path / "artifact.json").read_text())
    assert (record["kind"], record["settings"], record["files"]["value"]["bytes"]) == ("thing", SETTINGS, 5)


def test_other_settings_or_another_kind_give_another_artifact(store: Store) -> None:
    made = [
        store.make("thing", SETTINGS, write("0")),
        store.make("thing", SETTINGS | {"seed": 2}, write("1")),
        store.make("other", SETTINGS, write("2")),
    ]
    assert [(path / "value").read_text() for path in made] == ["0", "1", "2"]


def test_interrupted_build_goes_on_where_it_stopped_and_is_no_artifact_before(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt):
        store.make("thing", SETTINGS, stop)
    assert artifacts(store) == []

    def go_on(work: Path) -> None:
        (work / "value").write_text((work / "value").read_text() + " and half")

    path = store.make("thing", SETTINGS, go_on)
    assert (path / "value").read_text() == "half and half"
    assert artifacts(store) == [path]


def test_two_processes_that_ask_at_once_build_once(tmp_path: Path) -> None:
    (tmp_path / "ask.py").write_text(SCRIPT)
    processes = [
        subprocess.Popen([sys.executable, "ask.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    answers = [process.communicate(timeout=60)[0] for process in processes]
    assert answers == ["from one builder\n"] * 2
    assert (tmp_path / "builds").read_text() == "built\n"


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_remote_artifact_arrives_in_an_empty_cache(tmp_path: Path, scheme: str) -> None:
    url = f"{scheme}://{tmp_path}/remote"
    first = Store(url, tmp_path / "cache").make("thing", SETTINGS, write("built"))
    second = Store(url, tmp_path / "another cache").make("thing", SETTINGS, refuse)
    assert first != second
    contents = [{path.name: path.read_bytes() for path in made.iterdir()} for made in (first, second)]
    assert contents[0] == contents[1]
    assert contents[0]["value"] == b"built"


def test_remote_artifact_without_its_record_is_built_again(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/remote"
    Store(url, tmp_path / "cache").make("thing", SETTINGS, write("old"))
    (record,) = (tmp_path / "remote").rglob("artifact.json")
    record.unlink()
    path = Store(url, tmp_path / "another cache").make("thing", SETTINGS, write("new"))
    assert (path / "value").read_text() == "new"
    assert (record.parent / "value").read_text() == "new"
    assert record.is_file()


def test_interrupted_upload_leaves_no_record(tmp_path: Path) -> None:
    name = Store(tmp_path / "other").make("thing", SETTINGS, write("built")).name
    remote = tmp_path / "remote" / "thing" / name
    (remote / "value").mkdir(parents=True)  # in the way of the file
    with pytest.raises(MimiaError, match=r"cannot be written .*run the same command again"):
        Store(f"file://{tmp_path}/remote", tmp_path / "cache").make("thing", SETTINGS, write("built"))
    assert [path.name for path in remote.iterdir()] == ["value"]


def save_text(path: Path) -> None:
    path.write_text("x" * 100_000)


def save_tensor(path: Path) -> None:
    torch.save(torch.zeros(100_000), path)


def save_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(100_000))


@pytest.mark.parametrize("save", [save_text, save_tensor, save_array])
def test_full_disk_is_told(full_disk: Path, save: Callable[[Path], None]) -> None:
    def build(work: Path) -> None:
        with replacing(work / "value") as path:
            save(path)

    store = Store(full_disk)
    with pytest.raises(MimiaError, match=r"disk of the store .* is full: free some space"):
        store.make("thing", SETTINGS, build)
    assert artifacts(store) == []


def test_store_within_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MimiaError, match=r"file.* is a file, .* choose another place"):
        Store(tmp_path / "file").make("thing", SETTINGS, refuse)


def test_other_errors_of_a_builder_are_not_blamed_on_the_disk(store: Store) -> None:
    def fail(work: Path) -> None:
        (work / "missing").read_text()

    with pytest.raises(FileNotFoundError) as caught:
        store.make("thing", SETTINGS, fail)
    assert caught.value.errno == errno.ENOENT


def test_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as temporary:
        temporary.write_text("first")

    def stop_halfway() -> None:
        with replacing(path) as temporary:
            temporary.write_text("second, but h")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_halfway()
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("location", ["nonsense://bucket/mimia", "s3://bucket/mimia"])
def test_location_that_fsspec_cannot_open_is_refused(location: str) -> None:
    if location.startswith("s3") and find_spec("s3fs"):
        pytest.skip("s3fs is installed")
    with pytest.raises(MimiaError, match=r"cannot be opened .* pass a directory"):
        Store(location)


def test_store_of_an_older_version_is_said_to_be_old_once_and_never_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "models" / fingerprint(SETTINGS)
    old.mkdir(parents=True)
    (old / "artifact.json").write_text(json.dumps({"kind": "models", "settings": SETTINGS}))
    assert Store(tmp_path).find("models", SETTINGS) is None
    for text in ("one", "two"):
        made = Store(tmp_path).make("models", SETTINGS | {"text": text}, write(text))
        assert made != old
        assert (made / "value").read_text() == text
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("artifacts of an older version") == 1
    assert "mimia store gc --delete` to free the space of its models" in said
