"""The Python interface: what `import mimia` offers, on objects in memory."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

import mimia
from mimia.config.defences import Defence
from mimia.pretraining.hooks import TrainerHooks
from mimia.runtime.arrays import Floats, Pixels

pytestmark = pytest.mark.usefixtures("quick_network")
ROOT = Path(__file__).parents[1]
MEMBERSHIP = np.array([[True, False, False, True], [False, True, False, False]])
QUICK = {"shadows": {"count": 2}, "recipe": {"preset": "mae-nano", "epochs": 2}, "compute": {"device": "cpu"}}


@pytest.fixture(scope="module")
def digits() -> Pixels:
    pixels: Pixels = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    return pixels


class Unregistered(Defence):
    def hooks(self) -> TrainerHooks:
        return TrainerHooks()


def audited_function(pixels: Pixels) -> Floats:
    """Embed images by their rows' means."""
    vectors: Floats = pixels.mean(axis=(1, 3), dtype=np.float64)
    return vectors


def test_everything_offered_is_there_and_nothing_is_imported_before_it_is_used() -> None:
    script = (
        "import sys, mimia; print({'torch', 'sklearn', 'matplotlib'} & set(sys.modules), len(dir(mimia))); "
        "[getattr(mimia, name) for name in reversed(mimia.__all__)]; mimia.defences.EMA()"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("set()")
    assert {"audit", "infer", "pretrain", "load_model", "load_images", "extract_signals"} <= set(mimia.__all__)


def test_script_of_the_documentation_runs_as_it_stands(tmp_path: Path) -> None:
    script = ROOT / "docs" / "audit_in_python.py"
    *_, audit_cell = script.read_text(encoding="utf-8").split("# %%\n")
    code = [line for line in audit_cell.splitlines() if line.strip() and not line.startswith("#")]
    assert len(code) <= 14  # ten statements, of which the settings take five lines
    environment = os.environ | {"MPLBACKEND": "agg"}
    ended = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "AuditResult(verdict='leaks'" in ended.stdout
    for name in ("roc.png", "report/report.html", "report/scores.csv"):
        assert (tmp_path / name).stat().st_size > 0


def test_function_is_audited_on_arrays(digits: Pixels, tmp_path: Path) -> None:
    settings = QUICK | {"store": str(tmp_path / "store"), "attacks": {"names": ["similarity"]}}
    result = mimia.audit(audited_function, members=digits[:50], nonmembers=digits[50:300], settings=settings)
    assert repr(result).startswith("AuditResult(verdict=")
    assert result.report.run.access == "embeddings"
    frame = result.to_frame()
    assert (frame["role"] == "member").sum() == 50
    sides = frame[frame["role"] != "holdout"]
    expected = roc_auc_score(sides["role"] == "member", sides["similarity score"])
    assert result.evaluations[0].auc.value == pytest.approx(expected)
    axes = result.plot_roc()
    assert f"similarity (AUC = {expected:.3f})" in [line.get_label() for line in axes.lines]
    assert "<table>" in result._repr_html_()
    assert result.save(tmp_path / "out").is_file()


def test_candidates_in_memory_are_judged(digits: Pixels, tmp_path: Path) -> None:
    settings = QUICK | {"store": str(tmp_path / "store"), "attacks": {"names": ["similarity"]}}
    result = mimia.infer(audited_function, candidates=digits[:40], reference=digits[40:200], settings=settings)
    assert len(result.to_frame()) == 40
    assert "images in memory" in result.report.run.command


def test_settings_name_what_is_wrong(digits: Pixels) -> None:
    with pytest.raises(mimia.MimiaError, match=r"There is no setting recipe\.epoch"):
        mimia.audit(members=digits, nonmembers=digits, settings={"recipe": {"epoch": 1}})
    with pytest.raises(mimia.MimiaError, match="cannot be read from a value of type int"):
        mimia.audit(audited_function, members=3, nonmembers=digits, settings=QUICK)  # type: ignore[arg-type] # the fault under test


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: mimia.attacks.Calibrated().fit(-np.ones((2, 4)), MEMBERSHIP), "reconstruction has negative ones"),
        (lambda _: mimia.attacks.LiRA().fit(np.ones((1, 4)), MEMBERSHIP[:1]), "needs 2 shadow models and has 1"),
        (lambda _: mimia.load_images(np.zeros((8, 8, 3), np.uint8)), "may be one image in colour"),
        (lambda _: mimia.load_images(np.zeros((2, 8, 8), np.uint8), image_size=0), "image_size is 0"),
        (lambda _: mimia.load_images(np.zeros((2, 8, 8), np.uint8), channels=257), "channels is 257"),
        (lambda digits: mimia.pretrain(digits[:20], "mae-nano", seed=-1), "The seed is -1"),
        (lambda digits: mimia.pretrain(digits[:20], "mae-nano", defence=Unregistered()), "is no registered defence"),
        (lambda digits: mimia.extract_signals("model", digits, ["embeddings"]), "models is 'model': pass a list"),
        (lambda digits: mimia.extract_signals([], digits, ["embeddings"]), "models is .*: pass a list"),
        (
            lambda digits: mimia.extract_signals(["model"], digits, ("embeddings")),
            "signals is 'embeddings': pass a list",
        ),
        (lambda digits: mimia.extract_signals([audited_function], digits, ["embeddings"], n_masks=0), "n_masks is 0"),
        (lambda _: mimia.load_model("nowhere", {"mean": "grey"}), "The settings of the checkpoint are wrong"),
    ],
    ids=lambda value: value if isinstance(value, str) else "call",
)
def test_wrong_arguments_are_refused_in_one_sentence(
    digits: Pixels, call: Callable[[Pixels], object], message: str
) -> None:
    with pytest.raises(mimia.MimiaError, match=message):
        call(digits)


def test_arrays_are_images_everywhere_and_0_and_1_are_membership(digits: Pixels) -> None:
    found = mimia.extract_signals([audited_function], digits[:6], ["embeddings", "embeddings"], n_masks=1)
    assert found["embeddings"].shape[:2] == (1, 6)
    losses = np.random.default_rng(0).random((2, 6))
    membership = np.array([[1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 1, 0]])
    whole, truth = (mimia.attacks.Calibrated().fit(losses, each) for each in (membership, membership.astype(bool)))
    assert np.array_equal(whole.score(losses[0]), truth.score(losses[0]))


def test_types_of_the_examples_are_checked(tmp_path: Path) -> None:
    """Mypy accepts the interface as README and docs use it, and refuses wrong arguments."""
    (tmp_path / "right.py").write_text(
        "import numpy as np\nimport mimia\n"
        "losses, membership = np.zeros((4, 9)), np.zeros((4, 9), dtype=bool)\n"
        "scores = mimia.attacks.LiRA(online=False).fit(losses, membership).score(losses[0])\n"
        "auc: float = mimia.metrics.roc_auc(scores, membership[0])\n"
        "model = mimia.pretrain(mimia.load_images('photos/'), 'mae-micro', "
        "defence=mimia.defences.EMA(decay=0.99))\n"
        "result: mimia.AuditResult = mimia.audit(model, members='a/', nonmembers=np.zeros((9, 8, 8), np.uint8))\n"
    )
    (tmp_path / "wrong.py").write_text(
        "import mimia\nmimia.audit(member='a/')\nmimia.metrics.roc_auc('scores')\nmimia.nothing\n"
    )
    assert (ROOT / "src" / "mimia" / "py.typed").exists()
    command = [sys.executable, "-m", "mypy", "--strict"]  # with the cache that `make check` has filled
    files = [tmp_path / "right.py", tmp_path / "wrong.py"]
    checked = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True)
    errors = [line for line in checked.stdout.splitlines() if "error: " in line]
    assert {line.partition(":")[0].rpartition("/")[2] for line in errors} == {"wrong.py"}, checked.stdout
    assert {int(line.split(":")[1]) for line in errors} == {2, 3, 4}
