"""What disks, copies and other processes do to a store: one sentence, and never another result."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.faults.numbered import halves, numbered

from mimia.cli import app as cli
from mimia.config.recipes import Recipe
from mimia.data.imageset import ImageSet
from mimia.models.checkpoints import native
from mimia.pretraining.pool import untrained
from mimia.pretraining.specs import spec_for
from mimia.runtime import artifacts
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store, replacing
from mimia.signals.cache import write_batches

SETTINGS = {"seed": 1}
Fault = Callable[[Path], None]


def build(work: Path) -> None:
    (work / "value").write_bytes(bytes(range(256)) * 20)
    (work / "more").write_text("more")


def refuse(work: Path) -> None:
    raise AssertionError(f"{work} is built again")


def contents(artifact: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in artifact.iterdir() if path.name != "artifact.json"}


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def forget() -> None:
    """Begin a new run, which has verified nothing yet."""
    artifacts._verified.clear()


def cut(artifact: Path) -> None:
    with (artifact / "value").open("r+b") as file:
        file.truncate(100)


def empty(artifact: Path) -> None:
    (artifact / "value").write_bytes(b"")


def lose_file(artifact: Path) -> None:
    (artifact / "more").unlink()


def lose_record(artifact: Path) -> None:
    (artifact / "artifact.json").unlink()


def add_file(artifact: Path) -> None:
    (artifact / "training.json").write_text("{}")


def put_directory(artifact: Path) -> None:
    (artifact / "more").unlink()
    (artifact / "more").mkdir()


def put_directory_for_record(artifact: Path) -> None:
    (artifact / "artifact.json").unlink()
    (artifact / "artifact.json").mkdir()


def put_file_for_artifact(artifact: Path) -> None:
    shutil.rmtree(artifact)
    artifact.write_text("no directory")


def put_dangling_link(artifact: Path) -> None:
    (artifact / "more").unlink()
    (artifact / "more").symlink_to(artifact / "nowhere")


def put_dangling_link_for_artifact(artifact: Path) -> None:
    shutil.rmtree(artifact)
    artifact.symlink_to(artifact.with_name("nowhere"))


def empty_record(artifact: Path) -> None:
    (artifact / "artifact.json").write_text("")


def deep_record(artifact: Path) -> None:
    (artifact / "artifact.json").write_text("[" * 100_000)


def record_of_another_type(artifact: Path) -> None:
    (artifact / "artifact.json").write_text("[1]")


def record_with_another_checksum(artifact: Path) -> None:
    record = json.loads((artifact / "artifact.json").read_text())
    record["files"].pop("value")
    (artifact / "value").unlink()
    (artifact / "artifact.json").write_text(json.dumps(record))


FAULTS = [
    *(cut, empty, lose_file, lose_record, add_file, put_directory, put_directory_for_record, put_file_for_artifact),
    *(put_dangling_link, put_dangling_link_for_artifact, empty_record, record_of_another_type, deep_record),
    record_with_another_checksum,
]


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_artifact_is_put_aside_in_one_line_and_made_again(
    store: Store, capsys: pytest.CaptureFixture[str], fault: Fault
) -> None:
    path = store.make("thing", SETTINGS, build)
    whole = contents(path)
    fault(path)
    assert store.make("thing", SETTINGS, build) == path
    assert contents(path) == whole
    (line,) = said(capsys).splitlines()
    assert re.search(r"thing/.* it is moved to quarantine/thing-.*-1 and made again\.$", line)
    assert os.path.lexists(store.root / "quarantine" / f"thing-{path.name}-1")
    store.make("thing", SETTINGS, refuse)
    assert said(capsys) == ""


def test_flipped_bit_anywhere_is_found(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    path = store.make("thing", SETTINGS, build)
    whole = contents(path)
    generator = np.random.default_rng(0)
    for name in ["value", "more"] * 10:
        flip(path / name, int(generator.integers(8 * (path / name).stat().st_size)))
        store.make("thing", SETTINGS, build)
        assert contents(path) == whole
        assert f"has other content in {name} than was written" in said(capsys)


def test_flipped_bit_of_a_record_gives_no_other_content(store: Store) -> None:
    path = store.make("thing", SETTINGS, build)
    whole = contents(path)
    for bit in range(0, 8 * (path / "artifact.json").stat().st_size, 37):
        flip(path / "artifact.json", bit)
        forget()
        assert contents(store.make("thing", SETTINGS, build)) == whole


def test_damage_that_leaves_size_and_time_is_found_in_the_next_run(store: Store) -> None:
    path = store.make("thing", SETTINGS, build)
    whole = contents(path)
    before = (path / "value").stat()
    flip(path / "value", 99)
    os.utime(path / "value", ns=(before.st_atime_ns, before.st_mtime_ns))
    forget()
    store.make("thing", SETTINGS, build)
    assert contents(path) == whole


def test_artifact_is_read_once_in_a_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.make("thing", SETTINGS, build)
    forget()
    read: list[Path] = []
    checksum = artifacts.checksum

    def counted(path: Path) -> str:
        read.append(path)
        return checksum(path)

    monkeypatch.setattr(artifacts, "checksum", counted)
    for _ in range(3):
        Store(store.root).make("thing", SETTINGS, refuse)
    assert sorted(path.name for path in read) == ["more", "value"]


def test_file_of_a_file_manager_does_no_harm(store: Store) -> None:
    path = store.make("thing", SETTINGS, build)
    (path / ".DS_Store").touch()
    forget()
    store.make("thing", SETTINGS, refuse)


def test_damaged_artifact_is_not_found(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    path = store.make("thing", SETTINGS, build)
    assert store.find("thing", SETTINGS) == path
    flip(path / "value", 7)
    assert store.find("thing", SETTINGS) is None
    assert "is moved to quarantine/" in said(capsys)


@pytest.mark.parametrize("content", [b"", b"[", b"[]", b'{"version": 99}', b"\xff"])
def test_damaged_mark_of_the_store_is_written_again(store: Store, content: bytes) -> None:
    store.make("thing", SETTINGS, build)
    (store.root / "store.json").write_bytes(content)
    store.make("thing", {"seed": 2}, build)
    store.make("thing", SETTINGS, refuse)
    assert json.loads((store.root / "store.json").read_text()).keys() == {"version"}


def test_files_of_a_killed_writer_are_no_part_of_an_artifact(store: Store) -> None:
    def stop(work: Path) -> None:
        (work / "value.partial").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.make("thing", SETTINGS, stop)
    assert contents(store.make("thing", SETTINGS, build)).keys() == {"value", "more"}


@pytest.mark.parametrize("fault", [cut, lose_file, empty_record, put_directory_for_record, add_file])
def test_damaged_remote_artifact_is_made_again_there_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Fault
) -> None:
    url = f"file://{tmp_path}/remote"
    whole = contents(Store(url, tmp_path / "first").make("thing", SETTINGS, build))
    (record,) = (tmp_path / "remote").rglob("artifact.json")
    fault(record.parent)
    if fault is not add_file:  # which is left where it is, as only the files of the record are fetched
        assert contents(Store(url, tmp_path / "second").make("thing", SETTINGS, build)) == whole
        assert "in its remote copy: it is moved to quarantine/" in said(capsys)
    assert contents(Store(url, tmp_path / "third").make("thing", SETTINGS, refuse)) == whole


def test_remote_record_that_names_files_elsewhere_is_not_followed(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/remote"
    Store(url, tmp_path / "first").make("thing", SETTINGS, build)
    (record,) = (tmp_path / "remote").rglob("artifact.json")
    (record.parents[1] / "secret").write_text("elsewhere")
    content = json.loads(record.read_text())
    content.pop("checksum")
    content["files"]["../secret"] = {"bytes": 9, "xxh3": artifacts.checksum(record.parents[1] / "secret")}
    record.write_text(json.dumps(content | {"checksum": artifacts._own_checksum(content)}))
    made = Store(url, tmp_path / "second").make("thing", SETTINGS, build)
    assert not list((tmp_path / "second").rglob("secret"))
    assert contents(made).keys() == {"value", "more"}


def test_remote_store_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    (tmp_path / "remote").write_text("a file")
    with pytest.raises(MimiaError, match=r"The store file://.* cannot be written .*: see that it can be reached"):
        Store(f"file://{tmp_path}/remote", tmp_path / "cache").make("thing", SETTINGS, build)


def test_finished_artifact_that_could_not_be_uploaded_is_not_built_again(tmp_path: Path) -> None:
    (tmp_path / "remote").write_text("a file")
    store = Store(f"file://{tmp_path}/remote", tmp_path / "cache")
    with pytest.raises(MimiaError):
        store.make("thing", SETTINGS, build)
    (tmp_path / "remote").unlink()
    assert contents(store.make("thing", SETTINGS, refuse)).keys() == {"value", "more"}


def save_text(path: Path, size: int) -> None:
    path.write_text("x" * size)


def save_torch(path: Path, size: int) -> None:
    torch.save(torch.zeros(size // 4), path)


def save_safetensors(path: Path, size: int) -> None:
    save_file({"weights": torch.zeros(size // 4)}, path)


def save_numpy(path: Path, size: int) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(size, np.uint8))


@pytest.mark.parametrize("save", [save_text, save_torch, save_safetensors, save_numpy])
@pytest.mark.parametrize("guarded", [True, False], ids=["replacing", "plain"])
def test_full_disk_is_told_whatever_the_size_and_the_library(
    full_disk: Path, save: Callable[[Path, int], None], guarded: bool
) -> None:
    store = Store(full_disk)
    for size in [*range(56_000, 66_000, 500), 100_000, 1_000_000]:

        def write(work: Path, size: int = size) -> None:
            if guarded:
                with replacing(work / "value") as path:
                    save(path, size)
            else:
                save(work / "value", size)

        said_of_disk = ""
        try:
            shutil.rmtree(store.make("thing", {"size": size}, write))
        except MimiaError as error:
            said_of_disk = str(error)
            shutil.rmtree(full_disk / "work")
        if said_of_disk:
            assert re.search(r"disk of the store .* is full: free some space", said_of_disk)
        else:
            assert size < 66_000
    with pytest.raises(MimiaError):
        store.make("thing", {}, lambda work: save(work / "value", 1_000_000))


def test_whole_artifact_of_a_read_only_store_is_used_and_a_new_one_is_refused(
    full_disk: Path, remount: Callable[[Path], None]
) -> None:
    store = Store(full_disk)
    path = store.make("thing", SETTINGS, build)
    remount(full_disk)
    forget()
    assert store.make("thing", SETTINGS, refuse) == path
    with pytest.raises(MimiaError, match=r"The store .* is on a read-only disk: choose another place with --store\."):
        store.make("thing", {"seed": 2}, build)


def test_damaged_artifact_of_a_read_only_store_is_refused(full_disk: Path, remount: Callable[[Path], None]) -> None:
    store = Store(full_disk)
    flip(store.make("thing", SETTINGS, build) / "value", 5)
    remount(full_disk)
    with pytest.raises(MimiaError, match=r"is on a read-only disk"):
        store.make("thing", SETTINGS, build)


@pytest.mark.parametrize("name", ["work", "thing", "quarantine"])
def test_file_where_the_store_needs_a_directory_is_named(store: Store, name: str) -> None:
    flip(store.make("thing", SETTINGS, build) / "value", 5)
    shutil.rmtree(store.root / name, ignore_errors=True)
    (store.root / name).write_text("a file")
    with pytest.raises(MimiaError, match=rf"store/{name}.*(in the way|is a file).*: move it away, or choose another"):
        store.make("thing", SETTINGS, build)


HOLDER = """
import sys, time
from pathlib import Path
from mimia.runtime.store import Store

def build(work):
    print("building", flush=True)
    time.sleep(60)

Store(sys.argv[1]).make("thing", {"seed": 1}, build)
"""


def test_lock_of_another_process_is_told_and_free_when_it_dies(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mimia.runtime.locks._PATIENCE", 0.2)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, store.root], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    threading.Timer(1, holder.kill).start()
    started = time.monotonic()
    store.make("thing", SETTINGS, build)
    assert time.monotonic() - started < 30
    (line,) = said(capsys).splitlines()
    since = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.search(rf"Waiting for thing/.* which process {holder.pid} on .* \(since {since}\) is making", line)
    holder.communicate(timeout=10)


def test_error_of_the_system_in_a_source_is_not_blamed_on_the_store(store: Store, tmp_path: Path) -> None:
    def read_elsewhere(_: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / "photos" / "0.png"))

    with pytest.raises(PermissionError):
        store.make("thing", SETTINGS, read_elsewhere)


def test_disk_that_fills_while_a_signal_is_written_does_not_kill_the_process(full_disk: Path) -> None:
    many = numbered(8000)
    with pytest.raises(MimiaError, match="is full"):
        Store(full_disk).make(
            "signals", {}, lambda work: write_batches(halves, many, np.arange(8000), 1000, "halves", work)
        )


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, r"The disk of out/x is full: free some space and run the same command again, or name another"),
        (errno.EDQUOT, r"The disk of out/x is full, by its quota: free some space"),
        (errno.EROFS, r"out/x is on a read-only disk: name another place\."),
        (errno.EACCES, r"The permissions of out/x do not let this user in: change them, or name another place\."),
        (errno.ENOENT, r"out/x is not there: see that it is spelled as it is on the disk, or name another place\."),
        (errno.EISDIR, r"out/x is a directory, and a file is needed there: move it away, or name another place\."),
        (errno.EIO, r"The disk of out/x reports an error on out/x: it may be failing"),
        (errno.EMFILE, r"Too many files are open: raise the limit with `ulimit -n 4096`"),
        (errno.EXDEV, r"The system refused out/x \(Invalid cross-device link\): see that it can be read and written"),
    ],
)
def test_each_fault_of_a_disk_has_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, sentence: str
) -> None:
    def command() -> None:
        raise OSError(number, os.strerror(number), "out/x")

    monkeypatch.setattr(cli, "app", command)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    (line,) = said(capsys).splitlines()
    assert re.match(rf"Error: {sentence}", line)
    assert (ended.value.code, len(line) <= 300) == (2, True)


@pytest.mark.parametrize("command", ["export checkpoint disk/out", "init disk/mimia.toml"])
def test_full_disk_of_an_output_is_told_and_leaves_nothing_half_written(
    full_disk: Path,
    tmp_path: Path,
    digits: ImageSet,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    recipe = Recipe.model_validate({"preset": "mae-nano"})
    native.save(tmp_path / "checkpoint", untrained(digits, spec_for(digits, recipe), recipe, 0))
    (full_disk / "other").write_bytes(bytes(60_000))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mimia", *command.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert re.search(r"Error: The disk of disk/\S+ is full: free some space", said(capsys))
    assert [path.name for path in full_disk.iterdir()] == ["other"]
