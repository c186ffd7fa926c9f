"""What commands do: few real runs, and what goes wrong before one begins."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import typer

from mimia.attacks.registry import ATTACKS
from mimia.attacks.selection import access_of
from mimia.cli.input import run_directory
from mimia.cli.output import print_result
from mimia.config.settings import read_settings
from mimia.experiments.registry import EXPERIMENTS
from mimia.signals.registry import SIGNALS
from mimia.validity.verdict import Verdict

pytestmark = pytest.mark.usefixtures("quick_network")
Run = Callable[[str], tuple[int, str, str]]
PROGRAM = (sys.executable, "-m", "mimia")
NANO = "--recipe mae-nano --set recipe.patch_size=4 --set recipe.mask_ratio=0.5 --set recipe.batch_size=10"
QUICK = f"{NANO} --epochs 40 --store store --device cpu --set compute.threads=1 --set signals.draws=4"


@pytest.fixture
def checkpoint(place: Path, mimia: Run) -> str:
    if not (place / "checkpoint").exists():
        assert mimia(f"pretrain --data members --out checkpoint {QUICK}") == (0, f"{place / 'checkpoint'}\n", "")
        (place / "weightless").mkdir()
        (place / "weightless" / "config.json").write_bytes((place / "checkpoint" / "config.json").read_bytes())
    return "checkpoint"


def assert_one_sentence(code: int, err: str, message: str) -> None:
    assert code == 2
    assert re.fullmatch(r"Error: [^\n]+\.\n", err), err
    assert re.search(message, err), err


def test_audit_writes_a_run_that_its_command_repeats_and_report_renders(place: Path, mimia: Run) -> None:
    code, out, err = mimia(f"audit --data others --attacks threshold,calibrated --out audited {QUICK}")
    audited = place / "audited"
    report = json.loads((audited / "report.json").read_text())
    assert code == 0
    assert "  to train   target, 1 ×" in err  # the plan
    assert {path.name for path in audited.iterdir()} == {"report.json", "report.html", "scores.csv", "settings.toml"}
    assert report["run"]["counts"]["members"] == 160 // 9
    first, *evaluations, last = out.splitlines()
    assert first.endswith(report["verdict"]["sentence"])
    assert [line.split()[0] for line in evaluations] == [each["attack"] for each in report["evaluations"]]
    assert last == str(audited / "report.html")

    command = report["run"]["command"].removeprefix("mimia ").replace("settings.toml", "audited/settings.toml")
    code, out, err = mimia(f"{command} --set out=null")
    assert code == 0
    assert "the store has all models" in err
    assert Path(out.splitlines()[-1]).parent.parent == place / "mimia-runs"
    assert Path(out.splitlines()[-1]).with_name("scores.csv").read_bytes() == (audited / "scores.csv").read_bytes()

    page = (audited / "report.html").read_text()
    (audited / "report.html").unlink()
    assert mimia("report audited") == (0, f"{audited / 'report.html'}\n", "")
    assert (audited / "report.html").read_text() == page


def test_runs_with_equal_settings_and_arguments_share_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = read_settings(None, {"store": "a"})
    directory = run_directory("infer", settings, "candidates")
    assert directory.parent == Path("mimia-runs")
    assert run_directory("infer", read_settings(None, {"store": "b"}), "candidates") == directory
    others = [
        run_directory("infer", settings, "other"),
        run_directory("infer", read_settings(None, {"split": {"seed": 1}}), "candidates"),
    ]
    assert len({directory, *others}) == 3
    assert run_directory("infer", read_settings(None, {"out": "there"})) == Path("there")


@pytest.mark.parametrize("kind", ["invalid", "inconclusive", "no leak found"])
def test_invalid_run_ends_with_exit_code_1(
    kind: Literal["invalid", "inconclusive", "no leak found"], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report: Any = SimpleNamespace(verdict=Verdict(kind, "This is why.", ()))
    with pytest.raises(typer.Exit) if kind == "invalid" else nullcontext() as ended:
        print_result(report, tmp_path)
    assert capsys.readouterr().out == f"{kind.capitalize()}: This is why.\n{tmp_path}\n"
    assert ended is None or ended.value.exit_code == 1


def test_infer_lists_the_candidates(place: Path, mimia: Run, checkpoint: str) -> None:
    line = f"infer --target {checkpoint} --candidates members --reference others --fdr 0.2 --attacks calibrated"
    code, out, err = mimia(f"{line} --out inferred {QUICK}")
    report = json.loads((place / "inferred" / "report.json").read_text())
    assert code == 0
    assert "  images     40 candidates" in err  # the plan
    assert report["verdict"]["sentence"] in out
    assert report["false_discovery_rate"] == 0.2
    assert {candidate["name"] for candidate in report["candidates"]} == {f"{number:04d}.png" for number in range(40)}
    scores = (place / "inferred" / "scores.csv").read_bytes()
    command = report["run"]["command"].removeprefix("mimia ").replace("settings.toml", "inferred/settings.toml")
    assert mimia(f"{command} --out again")[0] == 0
    assert (place / "again" / "scores.csv").read_bytes() == scores


@pytest.mark.parametrize("columns", [80, 200])
def test_attacks_and_signals_are_listed(mimia: Run, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, err = mimia("attacks")
    assert (code, err) == (0, "")
    assert "…" not in out
    assert max(len(line) for line in out.splitlines()) <= columns
    listed = {words[0]: words[1] for line in out.splitlines() if len(words := line.split()) > 1}
    assert {name: access_of(make().requirements) for name, make in ATTACKS.items()}.items() <= listed.items()
    assert SIGNALS.keys() <= listed.keys()


def test_experiments_are_listed(mimia: Run) -> None:
    line = "reproduce --list --profile smoke --store store --device cpu --threads 1 --results unused"
    code, out, err = mimia(line)
    assert (code, err) == (0, "")
    assert all(re.search(rf"^ {name} ", out, re.MULTILINE) for name in EXPERIMENTS)


def test_reproduction_without_its_data_fails_each_audit_and_goes_on(mimia: Run) -> None:
    code, out, err = mimia("reproduce figure-5 --data empty --results unused --store store --pages unused")
    assert code == 1
    begun = re.findall(r"^\d+/\d+ (\S+ \S+)$", out, re.MULTILINE)
    failures = re.findall(r"^(.+) failed: (empty/\w+\.parquet does not exist.*\.)$", out, re.MULTILINE)
    assert [name for name, _ in failures] == begun
    assert len(begun) > 1
    first, *others = err.splitlines()
    assert first == f"{len(begun)} failed:"
    assert others == [f"  {name}: {reason}" for name, reason in failures]


def test_export_opens_in_transformers(place: Path, mimia: Run, checkpoint: str) -> None:
    from transformers import ViTMAEForPreTraining

    assert mimia(f"export {checkpoint} exported")[:2] == (0, f"{place / 'exported'}\n")
    assert ViTMAEForPreTraining.from_pretrained(place / "exported").config.image_size == 8


def test_init_writes_a_settings_file(mimia: Run) -> None:
    assert mimia("init new/mine.toml")[0] == 0
    assert_one_sentence(*mimia("init new/mine.toml")[::2], r"new/mine\.toml exists: pass another name, or --force")
    assert mimia("init new/mine.toml --force")[0] == 0
    assert_one_sentence(*mimia("audit --config new/mine.toml --members members")[::2], "pass --nonmembers too")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("audit --data empty", r"no image files \(.*\.png.*\) in the folder empty"),
        ("audit --data none.parquet", r"none\.parquet does not exist"),
        ("audit --members members --nonmembers members", "Every image of the nonmembers is also on another side"),
        ("audit --target weightless --members members --nonmembers others", "it has no model.safetensors. Pass"),
        ("audit --target empty --members members --nonmembers others", "it has no config.json. Pass"),
        (
            "audit --target checkpoint --members large --nonmembers large",
            "takes images of 8×8 .* have 16×16.*--image-size",
        ),
        ("audit --target checkpoint --members dots --nonmembers others", "0000.png: too small: 1×1 pixels"),
        ("audit --attacks threshold,guess", "no attack 'guess': `mimia attacks` lists"),
        ("audit --attacks ''", "value after --attacks is empty: see whether a variable of the shell is set"),
        ("audit --attacks lira --shadows 2", r"needs 3 shadow models and has 2: raise shadows\.count, or leave it out"),
        ("audit --data others --out file", r"file cannot be written .*: name another"),
        ("audit --data others --out file/run", r"file/run cannot be written .*: name another"),
        ("audit --data others --store file", "file/.*/images is a file, .* choose another place with --store"),
        ("infer --candidates members", r"needs a target \(--target or --embeddings\) and images .* \(--reference\)"),
        ("pretrain --data members --out checkpoint", "checkpoint is not empty: choose another directory"),
        ("pretrain --data members --out ''", "value after --out is empty"),
        ("inspect ' '", "value after inspect is empty"),
        ("store ls --store members", "There is no store at .*members: name another"),
        ("pretrain --data members --out file", "file cannot be written .*: name another"),
        ("export empty exported-text", "empty is no checkpoint of mimia: it has no config.json"),
        ("export checkpoint file/exported", "file/exported cannot be written .*: name another"),
        ("self-test --data others --store store", "needs 1,600 images, and others has 160: pass another source"),
        ("reproduce", "Name one experiment of those that `mimia reproduce --list` shows, or pass --all"),
        ("reproduce attacks --all", "Name one experiment of those that `mimia reproduce --list` shows, or pass --all"),
        ("reproduce figure-0", "no experiment 'figure-0': choose"),
        ("reproduce attacks --profile huge", "no profile 'huge': choose from smoke, mini"),
        ("reproduce attacks --profile smoke --only none", "No audit of attacks has a name that begins with 'none'"),
        ("reproduce attacks --results file", "file cannot be written .*: name another"),
        ("report empty", r"There is no report\.json in empty: pass the directory of a run"),
        ("init file/mimia.toml", "file cannot be written .*: name another"),
        (
            "init others --force",
            "others is a directory, and a file is needed there: move it away, or name another place",
        ),
    ],
)
def test_bad_input_ends_with_one_sentence(mimia: Run, checkpoint: str, line: str, message: str) -> None:
    assert Path(checkpoint).is_dir()
    training = line.startswith(("audit", "infer", "pretrain"))
    code, out, err = mimia(f"{line.split()[0]} {QUICK} {line.partition(' ')[2]}" if training else line)
    assert out == ""
    assert_one_sentence(code, err, message)


def test_program_ends_with_the_exit_code_and_debug_shows_the_traceback(
    execute: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    ended = execute(*PROGRAM, "audit", "--debug", "--config", "none.toml")
    assert ended.returncode == 1
    assert ended.stderr.startswith("Traceback")
    assert "MimiaError: There is no settings file" in ended.stderr


def test_interrupted_training_goes_on_to_the_same_weights(
    place: Path, tmp_path: Path, mimia: Run, execute: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    flags = shlex.split(f"pretrain --data {place / 'members'} {QUICK} --epochs 80")
    line = [*PROGRAM, *flags, "--out", "run"]
    start = partial(subprocess.Popen, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # The tests themselves may run in the background, where a shell has interrupts ignored by all that it starts.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with start(line, preexec_fn=heard) as process:
        give_up = time.monotonic() + 120
        while not (state := [*(tmp_path / "store" / "work").glob("models/*/training")]):
            assert process.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.endswith("\nInterrupted: the same command continues where it stopped.\n")
    assert "Traceback" not in err
    assert state[0].exists()
    assert not (tmp_path / "run").exists()
    assert execute(*line).returncode == 0
    undisturbed = tmp_path / "undisturbed"
    assert mimia(shlex.join([*flags, "--store", str(tmp_path / "other"), "--out", str(undisturbed)]))[0] == 0
    weights = "model.safetensors"
    assert (tmp_path / "run" / weights).read_bytes() == (undisturbed / weights).read_bytes()
