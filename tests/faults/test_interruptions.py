"""Runs that end before they are done, and what they left: the same command goes on to the same result."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.faults.numbered import halves, numbered
from torch.optim.optimizer import register_optimizer_step_post_hook

from mimia.cli import app as cli
from mimia.cli.stopping import ending_when_told
from mimia.config.recipes import Recipe
from mimia.data.imageset import ImageSet
from mimia.pretraining import trainer
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.pool import untrained
from mimia.pretraining.specs import spec_for
from mimia.runtime.arrays import Floats, Ids, Pixels
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.interruption import Stopped, saving_before_stop
from mimia.runtime.sealed import is_intact
from mimia.runtime.store import Store
from mimia.signals.cache import write_batches

Fault = Callable[[Path], None]


def contents(work: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in work.iterdir()}


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


IMAGES = numbered(40)


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
    process = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
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
    process = subprocess.Popen(TRAINING, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
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
