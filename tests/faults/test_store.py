"""What disks, copies, other processes and signals do to a store: one sentence, and never another result."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.optim.optimizer import register_optimizer_step_post_hook

from mimia.cli import app as cli
from mimia.cli.stopping import ending_when_told
from mimia.config.recipes import Recipe
from mimia.config.settings import DecoderSettings, SignalSettings
from mimia.data.imageset import ImageSet
from mimia.models.checkpoints import native
from mimia.models.mae import MAE
from mimia.pretraining import trainer
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.decoders import borrowed_decoder, fitted_decoder
from mimia.pretraining.pool import pretrained, untrained
from mimia.pretraining.specs import spec_for
from mimia.runtime import artifacts
from mimia.runtime.arrays import Floats, Ids, Pixels
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.errors import MimiaError
from mimia.runtime.interruption import Stopped, saving_before_stop
from mimia.runtime.sealed import is_intact
from mimia.runtime.store import Store, replacing
from mimia.signals.base import QueryConfig
from mimia.signals.cache import write_batches
from mimia.signals.extract import extract_signals
from mimia.signals.queried import QueriedModel

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


def record_of_another_type(artifact: Path) -> None:
    (artifact / "artifact.json").write_text("[1]")


def record_with_another_checksum(artifact: Path) -> None:
    record = json.loads((artifact / "artifact.json").read_text())
    record["files"].pop("value")
    (artifact / "value").unlink()
    (artifact / "artifact.json").write_text(json.dumps(record))


FAULTS = [
    *(cut, empty, lose_file, lose_record, add_file, put_directory, put_directory_for_record, put_file_for_artifact),
    *(put_dangling_link, put_dangling_link_for_artifact, empty_record, record_of_another_type),
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

        try:
            path = store.make("thing", {"size": size}, write)
        except MimiaError as error:
            assert re.search(r"disk of the store .* is full: free some space", str(error))  # noqa: PT017 - some sizes fit
            shutil.rmtree(full_disk / "work")
        else:
            shutil.rmtree(path)
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
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, store.root], stdout=subprocess.PIPE)  # noqa: S603 - our own script
    assert holder.stdout is not None
    holder.stdout.readline()
    killer = subprocess.Popen(["sh", "-c", f"sleep 1; kill -9 {holder.pid}"])  # noqa: S603, S607 - our own script
    started = time.monotonic()
    store.make("thing", SETTINGS, build)
    assert time.monotonic() - started < 30
    (line,) = said(capsys).splitlines()
    since = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.search(rf"Waiting for thing/.* which process {holder.pid} on .* \(since {since}\) is making", line)
    for process in (holder, killer):
        process.communicate(timeout=10)


def test_error_of_the_system_in_a_source_is_not_blamed_on_the_store(store: Store, tmp_path: Path) -> None:
    def read_elsewhere(_: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / "photos" / "0.png"))

    with pytest.raises(PermissionError):
        store.make("thing", SETTINGS, read_elsewhere)


IMAGES = ImageSet(
    pixels=np.arange(40 * 4, dtype=np.uint8).reshape(40, 1, 2, 2),
    ids=np.array([f"{number:032x}" for number in range(40)]),
    names=np.array([f"{number}.png" for number in range(40)]),
    facts=np.zeros((40, 1), np.float32),
)


def halves(pixels: Pixels, _: Ids) -> Floats:
    values: Floats = pixels.reshape(len(pixels), -1) / 2
    return values


def compute_batches(work: Path, stop_at: int | None = None) -> None:
    """Compute four batches, of which the one with the image that is named is interrupted."""

    def compute(pixels: Pixels, ids: Ids) -> Floats:
        if stop_at is not None and IMAGES.ids[stop_at] in ids:
            raise KeyboardInterrupt
        return halves(pixels, ids)

    write_batches(compute, IMAGES, np.arange(40), 10, "halves", work)


def test_interrupted_signal_that_is_damaged_is_computed_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "whole").mkdir()
    compute_batches(tmp_path / "whole")
    whole, bits = contents(tmp_path / "whole"), np.random.default_rng(0)
    work = tmp_path / "work"
    for name in ["values.npy", "done"] * 20:
        work.mkdir()
        with pytest.raises(KeyboardInterrupt):
            compute_batches(work, stop_at=25)
        size = min((work / name).stat().st_size, 128 + 20 * 16)  # what was computed
        flip(work / name, int(bits.integers(8 * size)))
        capsys.readouterr()
        compute_batches(work)
        assert contents(work) == whole
        assert "run has computed of halves is damaged: it is computed anew." in said(capsys)
        shutil.rmtree(work)


def cut_values(work: Path) -> None:
    (work / "values.npy").write_bytes((work / "values.npy").read_bytes()[:200])


def lose_values(work: Path) -> None:
    (work / "values.npy").unlink()


def put_directory_for_values(work: Path) -> None:
    lose_values(work)
    (work / "values.npy").mkdir()


def empty_done(work: Path) -> None:
    (work / "done").write_text("")


def write_old_done(work: Path) -> None:
    (work / "done").write_text("20")


@pytest.mark.parametrize("fault", [cut_values, lose_values, put_directory_for_values, empty_done, write_old_done])
def test_interrupted_signal_that_is_not_whole_is_computed_anew(tmp_path: Path, fault: Fault) -> None:
    (tmp_path / "whole").mkdir()
    compute_batches(tmp_path / "whole")
    (tmp_path / "work").mkdir()
    with pytest.raises(KeyboardInterrupt):
        compute_batches(tmp_path / "work", stop_at=25)
    fault(tmp_path / "work")
    compute_batches(tmp_path / "work")
    assert contents(tmp_path / "work") == contents(tmp_path / "whole")


def test_disk_that_fills_while_a_signal_is_written_does_not_kill_the_process(full_disk: Path) -> None:
    many = IMAGES.take(np.arange(8000) % 40)
    with pytest.raises(MimiaError, match="is full"):
        Store(full_disk).make(
            "signals", {}, lambda work: write_batches(halves, many, np.arange(8000), 1000, "halves", work)
        )


RECIPE = Recipe.model_validate({"preset": "mae-nano", "epochs": 3, "batch_size": 16})


def train(images: ImageSet, work: Path) -> dict[str, torch.Tensor]:
    context = TrainingContext(ComputeSettings(device="cpu", threads=1), Store(work.parent / "store"))
    model = untrained(images, spec_for(images, RECIPE), RECIPE, 0)
    work.mkdir(exist_ok=True)
    trainer.Trainer(RECIPE, context).fit(model, images, 0, work)
    return {name: value.clone() for name, value in model.state_dict().items()}


def flip_somewhere(state: Path) -> None:
    flip(state, 8 * (state.stat().st_size // 2) + 3)


def cut_in_half(state: Path) -> None:
    state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])


def empty_file(state: Path) -> None:
    state.write_bytes(b"")


def directory_instead(state: Path) -> None:
    state.unlink()
    state.mkdir()


def lose_checksum(state: Path) -> None:
    state.with_name(f"{state.name}.xxh3").unlink()


@pytest.mark.parametrize("fault", [flip_somewhere, cut_in_half, empty_file, directory_instead, lose_checksum])
def test_interrupted_training_whose_state_is_damaged_begins_anew(
    digits: ImageSet,
    tmp_path: Path,
    counted_steps: Callable[..., AbstractContextManager[list[int]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: Fault,
) -> None:
    images = digits.take(np.arange(64))
    undisturbed = train(images, tmp_path / "undisturbed")
    monkeypatch.setattr(trainer, "_SAVE_EVERY", -1.0)
    with counted_steps(interrupt_at=6), pytest.raises(KeyboardInterrupt):
        train(images, tmp_path / "work")
    fault(tmp_path / "work" / trainer.STATE)
    capsys.readouterr()
    with counted_steps() as steps:
        resumed = train(images, tmp_path / "work")
    assert steps == [12]
    assert all(torch.equal(resumed[name], value) for name, value in undisturbed.items())
    assert "The state of the interrupted training (pre-training) is damaged: it begins anew." in said(capsys)


@contextmanager
def told_to_end_at_step(number: int) -> Iterator[None]:
    """Send this process SIGTERM in the middle of a step of a training."""
    steps = [0]

    def hook(*_: object) -> None:
        steps[0] += 1
        if steps[0] == number:
            signal.raise_signal(signal.SIGTERM)

    handle = register_optimizer_step_post_hook(hook)
    try:
        with ending_when_told():
            yield
    finally:
        handle.remove()


def test_training_that_is_told_to_end_saves_its_last_step(
    digits: ImageSet, tmp_path: Path, counted_steps: Callable[..., AbstractContextManager[list[int]]]
) -> None:
    images = digits.take(np.arange(64))
    undisturbed = train(images, tmp_path / "undisturbed")
    with pytest.raises(Stopped), told_to_end_at_step(7):
        train(images, tmp_path / "work")
    with counted_steps() as steps:
        resumed = train(images, tmp_path / "work")
    assert steps == [5]
    assert all(torch.equal(resumed[name], value) for name, value in undisturbed.items())


def test_signal_that_is_told_to_end_keeps_the_batch_it_was_at(tmp_path: Path) -> None:
    computed = []

    def compute(pixels: Pixels, ids: Ids) -> Floats:
        computed.append(ids[0])
        if len(computed) == 2:
            signal.raise_signal(signal.SIGTERM)
        return halves(pixels, ids)

    with pytest.raises(Stopped), ending_when_told():
        write_batches(compute, IMAGES, np.arange(40), 10, "halves", tmp_path)
    write_batches(compute, IMAGES, np.arange(40), 10, "halves", tmp_path)
    assert computed == IMAGES.ids[::10].tolist()


def work_on_when_told() -> None:
    signal.raise_signal(signal.SIGTERM)
    time.sleep(30)


def test_work_without_a_state_to_save_ends_at_once_when_told() -> None:
    with pytest.raises(Stopped), ending_when_told():
        work_on_when_told()


def test_command_that_is_told_to_end_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "app", work_on_when_told)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 143
    assert said(capsys) == "\nStopped by SIGTERM: the same command continues where it stopped.\n"


def test_step_that_takes_too_long_is_left_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mimia.cli.stopping._TO_SAVE", 0.1)
    with pytest.raises(Stopped), ending_when_told(), saving_before_stop():
        work_on_when_told()


BUSY = """
import sys, torch
from mimia.cli import app as cli
from mimia.cli.stopping import ending_when_told

with ending_when_told():
    print("busy", flush=True)
    matrix = torch.ones(2500, 2500, dtype=torch.float64)
    torch.matrix_exp(matrix.expand(60, -1, -1) / 1e5)  # one call of a library, in which Python handles no signal
"""
TRAINING = [
    *(sys.executable, "-m", "mimia", "pretrain", "--data", "digits", "--recipe", "mae-nano", "--epochs", "2000"),
    *("--device", "cpu", "--out", "out", "--store", "store"),
]


def ended_after_sigterm(process: subprocess.Popen[bytes]) -> tuple[float, str]:
    """Return how long a process took to end, and what it said."""
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    return time.monotonic() - started, said.decode()


@pytest.mark.slow
def test_process_that_computes_in_a_library_ends_within_5_seconds_when_told() -> None:
    process = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: S603 - our own script
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(1)
    seconds, err = ended_after_sigterm(process)
    assert process.returncode == 143
    assert seconds < 5.5
    assert err.endswith("Stopped by SIGTERM: the same command continues where it stopped.\n")


@pytest.mark.slow
def test_command_that_trains_ends_within_5_seconds_when_told_and_saves_its_state(
    tmp_path: Path, store_with_digits: Callable[[Path], Path]
) -> None:
    store_with_digits(tmp_path / "store")
    process = subprocess.Popen(TRAINING, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: S603 - our own program
    give_up = time.monotonic() + 120
    while not (found := [*(tmp_path / "store" / "work").glob("models/*/training")]):
        assert process.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.01)
    time.sleep(8)  # the first step takes a while
    seconds, err = ended_after_sigterm(process)
    assert process.returncode == 143
    assert seconds < 5
    assert err.endswith("\nStopped by SIGTERM: the same command continues where it stopped.\n")
    assert "Traceback" not in err
    assert is_intact(found[0] / trainer.STATE)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"base_learning_rate": 1e30}, r"its loss became .* in epoch 2: lower recipe\.base_learning_rate\."),
        ({"base_learning_rate": 1e30, "epochs": 1}, "after the last step: lower recipe"),  # no loss shows it
        ({"base_learning_rate": 1e30, "epochs": 1, "defences": {"ema": {"decay": 0.5}}}, "after the last step"),
        ({"base_learning_rate": 1e30, "epochs": 3, "stop_epoch": 1}, "after the last step"),
    ],
)
def test_training_that_diverges_leaves_no_artifact(
    digits: ImageSet, store: Store, changes: dict[str, Any], what: str
) -> None:
    images = digits.take(np.arange(64))
    recipe = Recipe.model_validate({"preset": "mae-nano", "epochs": 3, "batch_size": 64, "warmup": 0} | changes)
    context = TrainingContext(ComputeSettings(device="cpu", threads=1), store)
    with pytest.raises(MimiaError, match=rf"The training \(pre-training\) diverged, .*{what}"):
        pretrained(images, spec_for(images, recipe), recipe, 0, context)
    assert not [*store.root.rglob("model.safetensors"), *store.root.rglob(trainer.STATE)]


def test_decoder_that_diverges_names_its_own_setting(digits: ImageSet, store: Store, tmp_path: Path) -> None:
    images = digits.take(np.arange(64))
    native.save(tmp_path / "encoder", untrained(images, spec_for(images, RECIPE), RECIPE, 0))
    settings = DecoderSettings(epochs=3, batch_size=16, base_learning_rate=1e30)
    context = TrainingContext(ComputeSettings(device="cpu", threads=1), store, description="decoder: target")
    with pytest.raises(MimiaError, match=r"\(decoder: target\) diverged, .*: lower decoder\.base_learning_rate\."):
        fitted_decoder(tmp_path / "encoder", images, RECIPE, settings, context)
    assert not list(store.root.rglob("model.safetensors"))


def test_latents_that_cannot_be_aligned_give_no_decoder(digits: ImageSet, store: Store, tmp_path: Path) -> None:
    images = digits.take(np.arange(64))
    for name, factor in {"encoder": 3e38, "donor": 1.0}.items():
        model = untrained(images, spec_for(images, RECIPE), RECIPE, 0)
        assert isinstance(model, MAE)
        with torch.no_grad():
            model.norm.weight.mul_(factor)  # to numbers that are finite, and make latents that are not
        native.save(tmp_path / name, model)
    with pytest.raises(MimiaError, match=r"cannot be aligned, .*: set decoder\.source \(--decoder\) to fitted"):
        borrowed_decoder(tmp_path / "encoder", tmp_path / "donor", store, images)
    assert not list(store.root.rglob("model.safetensors"))


def test_signal_that_is_not_finite_is_not_kept(digits: ImageSet, store: Store) -> None:
    query = QueryConfig(SignalSettings(), RECIPE, ComputeSettings(device="cpu"), spec_for(digits, RECIPE))
    answers = iter([1.0, np.nan])  # what names the function, and its signal

    def embed(pixels: Pixels) -> Floats:
        return np.full((len(pixels), 3), next(answers))

    queried = QueriedModel("target", embed, ComputeSettings(device="cpu"))
    with pytest.raises(MimiaError, match="gives embeddings that are not finite"):
        extract_signals(["embeddings"], [queried], digits, np.arange(5), query, store)
    assert not list(store.root.glob("signals/*"))
