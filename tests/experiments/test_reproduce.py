"""A tiny experiment for real, from the declared grid to a table."""

import json
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimia.attacks.registry import ATTACKS
from mimia.config.settings import EvaluationSettings, read_settings
from mimia.evaluation.evaluate import evaluate
from mimia.experiments import runner
from mimia.experiments.attacks import cells as attack_cells
from mimia.experiments.attacks import names_at
from mimia.experiments.defend import defend
from mimia.experiments.grid import Cell, Experiment, Profile
from mimia.experiments.pages import table_pages
from mimia.experiments.registry import EXPERIMENTS
from mimia.experiments.results import is_result_of, read_result, thinned, write_result
from mimia.experiments.runner import Selection, reproduce, write_pages
from mimia.runtime.errors import MimiaError

pytestmark = pytest.mark.usefixtures("quick_network")
COMPUTE: dict[str, Any] = {"compute": {"device": "cpu", "threads": 1}}
STEPS = 4  # of each training
TINY: dict[str, Any] = {
    "data": {"source": "digits"},
    "recipe": {"preset": "mae-nano", "patch_size": 2, "epochs": STEPS, "batch_size": 20},
    "split": {"n_members": 20, "n_nonmembers": 30, "n_holdout": 10, "shadow_size": 20},
    "signals": {"draws": 1},
    "attacks": {"names": ("threshold",)},
    "shadows": {"count": 2},
}
GOOD = Cell("good", {"data": "digits"}, TINY)
BAD = Cell("bad", {"data": "nothing"}, {**TINY, "data": {"source": "/nowhere/missing.parquet"}})


class Declared(dict[str, Experiment]):
    """A registry of the experiments of a test."""

    def find(self, name: str) -> Experiment:
        return self[name]


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[Cell]], None]:
    """Declare the cells of the experiment ``tiny``."""

    def replaced(cells: Sequence[Cell]) -> None:
        experiment = Experiment("Does it work?", lambda *_: cells, table_pages)
        monkeypatch.setattr(runner, "EXPERIMENTS", Declared({"tiny": experiment}))

    return replaced


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, store_with_digits: Callable[[Path], Path]) -> Path:
    return store_with_digits(tmp_path_factory.mktemp("store"))


def run(
    results: Path, store: Path, only: str = "", names: Sequence[str] = ("tiny",)
) -> tuple[dict[str, str], list[str]]:
    """Return the failures, and what was said."""
    said: list[str] = []
    selection = Selection(names, "smoke", Path("nowhere"), results, only)
    pages = dict.fromkeys(names, results / "pages")
    return reproduce(selection, COMPUTE | {"store": str(store)}, said.append, pages), said


def test_audit_becomes_a_result_and_a_table_and_is_not_run_again(
    declare: Callable[[Sequence[Cell]], None], store: Path, tmp_path: Path
) -> None:
    declare([GOOD, BAD])
    failures, said = run(tmp_path, store)
    assert said[0] == "1/2 tiny good"
    assert {*failures} == {"tiny bad"}
    assert "missing.parquet" in failures["tiny bad"]
    path = tmp_path / "smoke" / "tiny" / "good.json"
    result = read_result(path)
    assert [each.attack for each in result.report.evaluations] == [*result.set_power] == ["threshold"]
    assert {group: sum(counts) for group, counts in result.report.run.histograms[0].counts.items()} == {
        "members": 20,
        "non-members": 30,
    }
    table = (tmp_path / "pages" / "table.md").read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert f"| digits | {result.report.evaluations[0].auc}<br>" in table
    text = path.read_text()
    assert re.findall(r'"(?:/|[A-Za-z]:\\|file:)[^"]*"', text) == []  # no string is an absolute path
    write_result(tmp_path / "copy.json", result)
    assert (tmp_path / "copy.json").read_text() == text

    declare([GOOD])
    before = path.stat().st_mtime_ns
    assert run(tmp_path, store) == ({}, ["1/1 tiny good: done", str(tmp_path / "pages" / "table.md")])
    assert path.stat().st_mtime_ns == before
    declare([replace(GOOD, settings={**TINY, "evaluation": {"seed": 2}})])  # another declaration is run anew
    assert run(tmp_path, store)[0] == {}
    assert read_result(path).settings["evaluation"] == {"seed": 2}
    assert not is_result_of(result, replace(GOOD, footnote="Read this."))

    path.write_text(text[:-100])
    failures, _ = run(tmp_path, store)
    assert re.search(r"good\.json is not a result .*: remove it, and run again", failures["tiny good"])
    path.unlink()
    path.mkdir()
    failures, _ = run(tmp_path, store)
    assert failures["tiny good"].startswith("IsADirectoryError: ")


def test_interrupted_run_continues_with_the_remaining_trainings(
    declare: Callable[[Sequence[Cell]], None],
    tmp_path: Path,
    counted_steps: Callable[..., AbstractContextManager[list[int]]],
) -> None:
    declare([GOOD])
    with counted_steps(interrupt_at=STEPS + 2), pytest.raises(KeyboardInterrupt):  # in the second of three trainings
        run(tmp_path, tmp_path / "store")
    assert list(tmp_path.rglob("good.json")) == []
    with counted_steps() as steps:
        assert run(tmp_path, tmp_path / "store")[0] == {}
    assert steps == [2 * STEPS]


@pytest.mark.parametrize(
    ("name", "only", "message"),
    [("figure-0", "", "no experiment 'figure-0': choose one of attacks"), ("attacks", "huge", "begins with 'huge'")],
)
def test_unknown_experiment_or_audit_is_refused(name: str, only: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(MimiaError, match=message):
        run(tmp_path, tmp_path, only, [name])


def test_experiment_without_results_has_no_pages(tmp_path: Path) -> None:
    assert write_pages("figure-4", "mini", tmp_path / "none", tmp_path / "pages") == []


def test_thinned_curve_keeps_what_low_rates_show() -> None:
    generator = np.random.default_rng(0)
    members = np.arange(6000) < 1000
    full = evaluate("any", generator.normal(size=6000) + 2 * members, members, EvaluationSettings())
    fewer = thinned(full)
    assert len(fewer.fpr) < 250 < len(full.fpr)
    for rate in (0.001, 0.01, 1.0):
        highest = [
            max(tpr for fpr, tpr in zip(each.fpr, each.tpr, strict=True) if fpr <= rate + 1e-9)
            for each in (full, fewer)
        ]
        assert highest[0] == pytest.approx(highest[1], abs=1e-6)


@pytest.mark.slow
def test_every_attack_is_compared(store: Path, tmp_path: Path) -> None:
    assert run(tmp_path, store, names=["attacks"])[0] == {}
    found = {path.stem: read_result(path) for path in (tmp_path / "smoke" / "attacks").glob("*.json")}
    assert {*found} == {cell.name for cell in attack_cells("smoke", Path())}
    evaluated = {each.attack for result in found.values() for each in result.report.evaluations}
    assert evaluated == {*ATTACKS} - {"lira-online"}
    assert "lira-online" in found["digits-decoder"].footnote
    table = (tmp_path / "pages" / "digits.md").read_text()
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) == len(names_at("decoder")) + len(names_at("encoder"))
    assert {(row[0].strip("| `"), row[1]) for row in rows} >= {
        ("threshold", "D1"),
        ("threshold", "D3"),
        ("encodermi-v", "embeddings"),
        ("partcrop", "encoder"),
        ("gradient", "D1"),
    }
    aucs = [float(row[2].split()[0]) for row in rows]
    assert aucs == sorted(aucs, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name != "attacks"])
def test_smallest_profile_of_the_paper_runs(name: str, store: Path, tmp_path: Path) -> None:
    assert run(tmp_path, store, names=[name])[0] == {}
    profile: Profile = "smoke"
    folder = tmp_path / profile / name
    assert json.loads(next(folder.iterdir()).read_text())["settings"]["data"] == {"source": "digits"}
    if name == "defences":
        plain = EXPERIMENTS[name].cells(profile, Path())[0]
        settings = read_settings(None, {**plain.settings, **COMPUTE, "store": str(store)})
        page, failures = defend(settings, tmp_path / "defend", print)
        assert failures == {}
        assert page.read_text().count("<svg ") == 3
