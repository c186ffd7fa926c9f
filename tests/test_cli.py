import json
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet
from pyarrow import table as make_table
from sklearn.datasets import load_digits

from mimia import cli
from mimia.arrays import Pixels
from mimia.attacks.registry import ATTACKS
from mimia.attacks.selection import Offer, access_of, obstacle
from mimia.errors import MimiaError
from mimia.experiments.registry import EXPERIMENTS
from mimia.signals.registry import KINDS

SCRIPT = str(Path(sysconfig.get_path("scripts")) / "mimia")
NANO = "--recipe mae-nano --set recipe.patch_size=4 --set recipe.mask_ratio=0.5 --set recipe.batch_size=10"
QUICK = f"{NANO} --epochs 40 --store store --device cpu --set compute.threads=1"
SMALL = f"{QUICK} --set signals.draws=4"
IMPORTS = """
import sys
from mimia.cli import main
sys.argv = ["mimia", "--help"]
try:
    main()
finally:
    print("imported:", *sys.modules)
"""

Run = Callable[[str], tuple[int, str, str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory in which the commands run, with good and bad input."""
    root = tmp_path_factory.mktemp("place")
    digits = (load_digits().images * (255 / 16)).round().astype(np.uint8)
    shuffled = digits[np.random.default_rng(0).permutation(len(digits))]
    write_images(root / "members", shuffled[:40])
    write_images(root / "others", shuffled[40:200])
    write_images(root / "bright", np.minimum(shuffled[:40], 225) + 30)
    write_images(root / "large", shuffled[:40].repeat(2, axis=1).repeat(2, axis=2))
    write_images(root / "dots", np.arange(100, dtype=np.uint8)[:, None, None])
    for name in ("empty", "text", "weightless"):
        (root / name).mkdir()
    (root / "text" / "notes.txt").write_text("no image")
    (root / "file").write_text("no directory")
    (root / "key.toml").write_text("[recipe]\nepoch = 3\n")
    (root / "broken.toml").write_text("recipe = [")
    parquet.write_table(make_table({"label": [1, 2]}), root / "table.parquet")
    return root


@pytest.fixture
def mimia(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in this process; give its exit code, output and errors without the progress bars."""
    monkeypatch.chdir(place)

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mimia", *shlex.split(line)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        assert isinstance(code, int)
        out, err = capsys.readouterr()
        return code, out, "".join(text for text in err.splitlines(keepends=True) if "━" not in text)

    return run


@pytest.fixture
def checkpoint(place: Path, mimia: Run) -> str:
    if not (place / "checkpoint").exists():
        assert mimia(f"pretrain --data members --out checkpoint {QUICK}")[0] == 0
        (place / "weightless" / "config.json").write_bytes((place / "checkpoint" / "config.json").read_bytes())
    return "checkpoint"


@pytest.fixture
def audited(place: Path, mimia: Run) -> Path:
    if not (place / "audited").exists():
        assert mimia(f"audit --data others --out audited {SMALL}")[0] == 0
    return place / "audited"


@pytest.fixture
def execute(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command line as a user does."""
    start = partial(subprocess.run, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return start(command)

    return run


def write_images(folder: Path, images: Pixels) -> None:
    folder.mkdir()
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).convert("RGB").save(folder / f"{number:04d}.png")


def assert_one_sentence(code: int, err: str, message: str) -> None:
    assert code == 2
    assert re.fullmatch(r"Error: [^\n]+\.\n", err), err
    assert re.search(message, err), err


def test_help_is_answered_without_importing_what_is_heavy(
    execute: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    ended = execute(sys.executable, "-c", IMPORTS)
    assert ended.returncode == 0
    assert "Does this image encoder give away the images" in ended.stdout
    imported = set(ended.stdout.rpartition("imported:")[2].split())
    assert "mimia.cli" in imported
    assert not imported & {"torch", "transformers", "matplotlib", "sklearn", "datasets"}


def test_every_command_has_help(mimia: Run) -> None:
    commands = (
        "audit",
        "infer",
        "pretrain",
        "export",
        "inspect",
        "attacks",
        "reproduce",
        "report",
        "init",
        "self-test",
        "doctor",
    )
    for command in commands:
        code, out, _ = mimia(f"{command} --help")
        assert code == 0
        assert f"mimia {command}" in out


def test_audit_writes_its_files_and_tells_the_verdict(audited: Path, mimia: Run) -> None:
    assert {path.name for path in audited.iterdir()} == {"report.json", "report.html", "scores.csv", "settings.toml"}
    code, out, err = mimia(f"audit --data others --out audited {SMALL}")
    report = json.loads((audited / "report.json").read_text())
    assert (code, err) == (0, "")
    assert report["verdict"]["sentence"] in out
    assert out.splitlines()[-1] == str(audited / "report.html")
    assert report["run"]["counts"]["members"] == 160 // 9


def test_runs_have_directories_of_their_own_and_equal_ones_the_same(place: Path, mimia: Run, audited: Path) -> None:
    store = f"--data others {SMALL}"
    pages = [mimia(f"audit {store} {more}")[1].splitlines()[-1] for more in ("", "", "--set split.seed=1")]
    assert pages[0] == pages[1] != pages[2]
    assert all(Path(page).is_relative_to(place / "mimia-runs") for page in pages)
    scores = Path(pages[0]).with_name("scores.csv").read_bytes()
    assert scores == (audited / "scores.csv").read_bytes()


def test_flag_wins_over_set_and_set_over_the_file(place: Path, mimia: Run) -> None:
    (place / "some.toml").write_text("[recipe]\nepochs = 1\nseed = 1\n[split]\nseed = 1\n")
    line = f"audit --config some.toml --data others --set split.seed=2 --set recipe.seed=2 --seed 3 --out won {SMALL}"
    assert mimia(line)[0] == 0
    settings = json.loads((place / "won" / "report.json").read_text())["run"]["settings"]
    assert (settings["recipe"]["epochs"], settings["recipe"]["seed"], settings["split"]["seed"]) == (40, 3, 2)


@pytest.mark.parametrize(
    "line", ["audit --data others", "infer --target checkpoint --candidates members --reference others"]
)
def test_command_of_the_report_repeats_the_run(place: Path, mimia: Run, checkpoint: str, line: str) -> None:
    assert Path(checkpoint).is_dir()
    assert mimia(f"{line} --out repeated {SMALL}")[0] == 0
    scores = (place / "repeated" / "scores.csv").read_bytes()
    program, _, command = json.loads((place / "repeated" / "report.json").read_text())["run"]["command"].partition(" ")
    assert program == "mimia"
    assert mimia(f"{command.replace('settings.toml', 'repeated/settings.toml')} --out again")[0] == 0
    assert (place / "again" / "scores.csv").read_bytes() == scores


def test_infer_lists_the_candidates(place: Path, mimia: Run, checkpoint: str) -> None:
    code, out, err = mimia(
        f"infer --target {checkpoint} --candidates members --reference others --fdr 0.2 --out inferred {SMALL}"
    )
    report = json.loads((place / "inferred" / "report.json").read_text())
    assert (code, err) == (0, "")
    assert report["verdict"]["sentence"] in out
    assert report["false_discovery_rate"] == 0.2
    assert {candidate["name"] for candidate in report["candidates"]} == {f"{number:04d}.png" for number in range(40)}


@pytest.mark.parametrize("columns", [80, 200])
def test_attacks_are_listed_by_the_names_and_levels_that_they_have(
    mimia: Run, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, err = mimia("attacks")
    assert (code, err) == (0, "")
    assert "…" not in out
    assert max(len(line) for line in out.splitlines()) <= columns
    of_attacks, _, of_signals = out.partition("asks of an image")
    assert all(kind in of_signals for kind in KINDS)
    listed = {words[0]: words[1] for line in of_attacks.splitlines() if len(words := line.split()) > 1}
    assert {name: access_of(make().needs) for name, make in ATTACKS.items()}.items() <= listed.items()


def test_attacks_are_chosen_by_name_or_all(place: Path, mimia: Run, audited: Path) -> None:
    assert audited.is_dir()  # so that the store has the models
    line = f"audit --data others --out chosen {SMALL} --n-nonmembers 30 --attacks"
    offer = Offer("decoder", shadows=2, online=0)
    for names, expected in (
        ("threshold, gradient", ["threshold", "gradient"]),
        ("all", [name for name, make in ATTACKS.items() if obstacle(make().needs, offer) is None]),
    ):
        code, out, err = mimia(f"{line} {shlex.quote(names)}")
        report = json.loads((place / "chosen" / "report.json").read_text())
        assert (code, err) == (0, "")
        assert [each["attack"] for each in report["evaluations"]] == expected
        assert [words[0] for row in out.splitlines()[1:-1] if (words := row.split())] == expected
        left_out = {each["attack"] for each in report["run"]["attacks_not_run"]}
        assert left_out == {*ATTACKS} - {*expected}


def test_reproduction_writes_results_and_pages(place: Path, mimia: Run) -> None:
    line = "reproduce attacks --profile smoke --only digits-masks-1 --store store --device cpu --threads 1"
    code, out, err = mimia(f"{line} --pages pages")
    assert (code, err) == (0, "")
    assert out.splitlines() == ["1/1 attacks digits-masks-1", "pages/masks.svg"]
    assert (place / "results" / "smoke" / "attacks" / "digits-masks-1.json").is_file()
    assert mimia(line) == (0, "1/1 attacks digits-masks-1: there\n", "")


def test_experiments_are_listed_with_their_trainings_and_time(mimia: Run) -> None:
    line = "reproduce --list --profile smoke --store store --device cpu --threads 1 --results unused"
    code, out, err = mimia(line)
    assert (code, err) == (0, "")
    for name in EXPERIMENTS:
        assert re.search(rf"^ {name} +\d+ +0 +\d+ +about \d+ min", out, re.MULTILINE), name
    # 2 × 2 audits: the target and its two shadows at each of two ratios
    assert re.search(r"^ figure-5 +4 +0 +6 ", out, re.MULTILINE)
    assert mimia(line)[1] == out  # the speeds that were measured are kept


def test_reproduction_without_its_data_says_so_of_each_audit_and_goes_on(place: Path, mimia: Run) -> None:
    code, out, err = mimia("reproduce --all --data empty --results unused --store store --pages unused")
    assert code == 1
    begun = re.findall(r"^\d+/\d+ (\S+ \S+)$", out, re.MULTILINE)
    failures = re.findall(r"^(.+) failed: (empty/\w+\.parquet does not exist.*\.)$", out, re.MULTILINE)
    assert [name for name, _ in failures] == begun
    assert {name.split()[0] for name in begun} == {*EXPERIMENTS}
    first, *others = err.splitlines()
    assert first == f"{len(begun)} failed:"
    assert others == [f"  {name}: {reason}" for name, reason in failures]
    assert "epochs" in {path.name for path in (place / "unused").iterdir()}


def test_export_opens_in_transformers(place: Path, mimia: Run, checkpoint: str) -> None:
    from transformers import ViTMAEForPreTraining

    assert mimia(f"export {checkpoint} exported")[0] == 0
    assert ViTMAEForPreTraining.from_pretrained(place / "exported").config.image_size == 8


def test_report_is_rendered_anew(audited: Path, mimia: Run) -> None:
    page = (audited / "report.html").read_text()
    (audited / "report.html").unlink()
    code, out, err = mimia("report audited")
    assert (code, out, err) == (0, f"{audited / 'report.html'}\n", "")
    assert (audited / "report.html").read_text() == page


def test_init_writes_settings_that_audit_takes(place: Path, mimia: Run) -> None:
    assert mimia("init new/mine.toml")[0] == 0
    assert_one_sentence(*mimia("init new/mine.toml")[::2], r"new/mine\.toml exists: pass another name, or --force")
    assert mimia("init new/mine.toml --force")[0] == 0
    assert mimia(f"audit --config new/mine.toml --data others --out from-file {SMALL}")[0] == 0
    assert (place / "from-file" / "report.html").is_file()


def test_doctor_finds_nothing_or_ends_with_an_error(mimia: Run) -> None:
    code, out, _ = mimia("doctor --store store")
    assert [line.split()[:2] for line in out.splitlines()[:3]] == [
        ["ok", "versions"],
        ["ok", "device"],
        ["ok", "store"],
    ]
    assert code in (0, 2)  # this disk may be nearly full
    code, out, _ = mimia("doctor --store file")
    assert code == 2
    assert "!!  store" in out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("audit --data empty", r"no image files \(.*\.png.*\) in the folder empty"),
        ("audit --data text", r"no image files \(.*\.png.*\) in the folder text"),
        ("audit --data dots", "patches of 4 px do not tile images of 1 px: choose a patch size that divides 1"),
        ("audit --data table.parquet", "no column 'image' .* only: label. Rename the column"),
        ("audit --data ./none", r"\./none does not exist: pass a folder of images or a parquet file"),
        ("audit --data none.parquet", r"none\.parquet does not exist"),
        ("audit --data file", "file is a file, but neither a folder of images nor a parquet file"),
        ("audit --data nowhere", "No images at 'nowhere': .* Check the path"),
        ("audit --members members --nonmembers members", "Every image of the nonmembers stands on another side too"),
        ("audit --members members", "pass --nonmembers too"),
        ("audit --data others --n-members 1000", "needs 4,001 different images, and there are 160"),
        ("audit --target weightless --members members --nonmembers others", "it has no model.safetensors. Pass"),
        ("audit --target empty --members members --nonmembers others", "it has no config.json. Pass"),
        ("audit --target checkpoint --members large --nonmembers large", "takes images of 8×8 .* have 16×16: pass"),
        ("audit --target checkpoint --members dots --nonmembers others", "0099.png is too small: 1×1 pixels"),
        ("audit --recipe none", "no recipe 'none': choose one of mae-nano"),
        ("audit --set 'attacks.names=[\"guess\"]'", "no attack 'guess': `mimia attacks` lists"),
        ("audit --attacks threshold,guess", "no attack 'guess': `mimia attacks` lists"),
        ("audit --attacks ''", "no attack '': `mimia attacks` lists"),
        ("audit --attacks all,threshold", "'all' stands for every attack that can be run: name no other with it"),
        ("audit --attacks threshold,threshold", "at least one attack, and each once: `mimia attacks` lists them"),
        ("audit --attacks rmia-online", r"'rmia-online' needs 4 models .* and has 0: set shadows\.online to 4 or more"),
        ("audit --attacks gradient --decoder fitted", "needs the target's decoder, and this run has the encoder alone"),
        ("audit --attacks lira --shadows 2", r"needs 3 shadow models and has 2: raise shadows\.count, or leave it out"),
        ("infer --target checkpoint --candidates members --reference others --attacks guess", "no attack 'guess'"),
        ("audit --set recipe.epochs", "--set takes KEY=VALUE, .* and got 'recipe.epochs'"),
        ("audit --set recipe.epoch=3", r"There is no setting recipe\.epoch: `mimia init` writes"),
        ("audit --set recipe=3", r"recipe=3 gives one value to a table of settings: name a key, recipe\.KEY"),
        ("audit --set recipe.seed=x", r"Setting recipe\.seed: .*integer.* \(given: 'x'\)"),
        ("audit --config key.toml", r"There is no setting recipe\.epoch: `mimia init` writes"),
        ("audit --config broken.toml", r"broken\.toml is not valid TOML"),
        ("audit --config none.toml", r"no settings file none\.toml: `mimia init` writes one"),
        ("audit --data others --out file", r"file cannot be written .*: name another"),
        ("audit --data others --out file/run", r"file/run cannot be written .*: name another"),
        ("infer --candidates members", r"needs a target \(--target or --embeddings\) and images .* \(--reference\)"),
        ("infer --target checkpoint --candidates members --reference members", "Every image of the reference stands"),
        ("pretrain --data members --out checkpoint", "checkpoint is not empty: choose another directory"),
        ("pretrain --data members --out file", "file cannot be written .*: name another"),
        ("pretrain --data members --out larger --n-images 41", "41 images are asked for, and there are 40"),
    ],
)
def test_bad_input_ends_with_one_sentence(mimia: Run, checkpoint: str, line: str, message: str) -> None:
    assert Path(checkpoint).is_dir()
    code, out, err = mimia(f"{line} {QUICK}" if "--recipe" not in line else f"{line} --store store")
    assert out == ""
    assert_one_sentence(code, err, message)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("audit --store file", "store file cannot be written: choose another place with --store"),
        ("export text exported-text", "text is no checkpoint of mimia: it has no config.json"),
        ("export checkpoint file/exported", "file/exported cannot be written .*: name another"),
        ("export checkpoint others", "There is something at others: name a new directory"),
        ("self-test --data others --store store", "needs 1,600 images, and others has 160: give another source"),
        ("reproduce", "Name one experiment of those that `mimia reproduce --list` shows, or pass --all"),
        ("reproduce attacks --all", "Name one experiment of those that `mimia reproduce --list` shows, or pass --all"),
        ("reproduce figure-0", "no experiment 'figure-0': choose from attacks"),
        ("reproduce attacks --profile huge", "no profile 'huge': choose from smoke, mini"),
        ("reproduce attacks --profile smoke --only none", "No audit of attacks has a name that begins with 'none'"),
        ("reproduce attacks --results file", "file cannot be written .*: name another"),
        ("report text", r"There is no report\.json in text: pass the directory of a run"),
        ("init file/mimia.toml", "file cannot be written .*: name another"),
        ("init others --force", r"Is a directory: 'others'\): name another place"),
    ],
)
def test_bad_place_ends_with_one_sentence(mimia: Run, checkpoint: str, line: str, message: str) -> None:
    assert Path(checkpoint).is_dir()
    code, out, err = mimia(line)
    assert out == ""
    assert_one_sentence(code, err, message)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("audit --data others --out on-full-disk {quick} --store {disk}", "disk of the store .* is full: free some"),
        ("audit --data others --out {disk}/run {small}", "No space left on device"),
        ("pretrain --data members --out {disk}/checkpoint {quick}", "No space left on device"),
    ],
)
def test_full_disk_is_told(mimia: Run, audited: Path, full_disk: Path, line: str, message: str) -> None:
    assert audited.is_dir()  # so that the store has it, and only the report is new
    code, _, err = mimia(line.format(disk=full_disk, quick=QUICK, small=SMALL))
    assert_one_sentence(code, err, message)


def test_sides_that_were_prepared_otherwise_end_with_exit_code_1(place: Path, mimia: Run) -> None:
    code, out, err = mimia(f"audit --members bright --nonmembers others --out invalid {SMALL}")
    assert (code, err) == (1, "")
    assert out.startswith("Invalid: ")
    assert (place / "invalid" / "report.html").is_file()


def test_program_ends_with_the_exit_code_and_debug_shows_the_traceback(
    execute: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    ended = execute(SCRIPT, "audit", "--config", "none.toml")
    assert_one_sentence(ended.returncode, ended.stderr, "no settings file")
    debugged = execute(SCRIPT, "audit", "--debug", "--config", "none.toml")
    assert debugged.stderr.startswith("Traceback")
    assert f"{MimiaError.__name__}: There is no settings file" in debugged.stderr


def test_interrupted_training_goes_on_to_the_same_scores(
    place: Path, tmp_path: Path, mimia: Run, execute: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    line = [SCRIPT, "audit", "--data", str(place / "others"), *shlex.split(f"{SMALL} --epochs 80 --out run")]
    start = partial(subprocess.Popen, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # The tests themselves may run in the background, where a shell has interrupts ignored by all that it starts.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = start(line, preexec_fn=heard)
    give_up = time.monotonic() + 120
    while not (len(trained := models(tmp_path)) == 1 and any(tmp_path.glob("store/work/models/*/training"))):
        assert process.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.endswith("\nInterrupted: the same command goes on where it stopped.\n")
    assert "Traceback" not in err
    assert models(tmp_path) == trained
    assert execute(*line).returncode == 0
    assert trained.items() < models(tmp_path).items()  # the target was not trained again
    undisturbed = tmp_path / "undisturbed"
    assert mimia(shlex.join([*line[1:], "--store", str(undisturbed), "--out", str(undisturbed)]))[0] == 0
    assert (tmp_path / "run" / "scores.csv").read_bytes() == (undisturbed / "scores.csv").read_bytes()


def models(place: Path) -> dict[str, int]:
    """Give the models of the store, and when their weights were written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in place.glob("store/models/*/model.safetensors")}
