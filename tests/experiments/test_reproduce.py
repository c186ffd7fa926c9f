"""The smallest profile, from the declared grid to tables and figures."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimia.attacks.registry import ATTACKS
from mimia.config import EvaluationSettings
from mimia.encoders.checkpoints import native
from mimia.errors import MimiaError
from mimia.evaluation.evaluate import evaluate
from mimia.experiments import registry
from mimia.experiments.attacks import cells, names_at
from mimia.experiments.grid import Cell
from mimia.experiments.plan import trainings, work_of
from mimia.experiments.registry import EXPERIMENTS
from mimia.experiments.results import declared, read_result, thinned, write_result
from mimia.experiments.runner import render, reproduce

NO_DATA = Path("nowhere")
COMPUTE: dict[str, Any] = {"compute": {"device": "cpu", "threads": 1}}


def quiet(_: str) -> None:
    """Say nothing."""


def run(results: Path, store: Path, only: str | None = None, say: Any = quiet) -> Mapping[str, str]:
    return reproduce(["attacks"], "smoke", NO_DATA, results, COMPUTE | {"store": str(store)}, say, only)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def results(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    assert run(folder, store) == {}
    return folder


def test_every_cell_has_a_result_and_every_attack_a_place(results: Path) -> None:
    found = {path.stem: read_result(path) for path in (results / "smoke" / "attacks").glob("*.json")}
    assert {*found} == {cell.name for cell in cells("smoke", NO_DATA)}
    evaluated = {each.attack for result in found.values() for each in result.report.evaluations}
    assert evaluated == {*ATTACKS} - {"lira-online"}
    assert "lira-online" in found["digits-decoder"].footnote
    for result in found.values():
        assert {*result.sets} == {each.attack for each in result.report.evaluations}
        assert all(each.tpr_at_1_percent.value is not None for each in result.report.evaluations)


def test_models_of_the_store_are_those_of_the_plan(results: Path, store: Path) -> None:
    assert results.exists()
    trained = [native.load_training(path.parent) for path in (store / "models").glob("*/artifact.json")]
    made = Counter((each.images, each.recipe.epochs) for each in trained if each is not None)
    planned = trainings(work_of(cell) for cell in cells("smoke", NO_DATA))
    assert Counter((each.images, each.recipe.epochs) for each in planned) == made
    assert sum(each.role == "online" for each in planned) == 4


def test_results_hold_no_path_of_a_machine(results: Path, store: Path) -> None:
    for path in (results / "smoke" / "attacks").glob("*.json"):
        text = path.read_text()
        assert str(store) not in text
        assert str(Path.home()) not in text
        assert json.loads(text)["settings"]["data"] == {"source": "digits"}
        assert re.findall(r'"(?:/|[A-Za-z]:\\|file:)[^"]*"', text) == []  # no string is an absolute path


def test_files_of_a_declaration_have_no_folders() -> None:
    cell = next(iter(cells("mini", Path("/somewhere/else"))))
    assert str(cell.settings["data"]["source"]) == "/somewhere/else/cifar10.parquet"
    assert declared(cell)["data"] == {"source": "cifar10.parquet"}
    elsewhere = next(iter(cells("mini", Path("here"))))
    assert declared(elsewhere) == declared(cell)


def test_result_is_read_as_it_was_written(results: Path, tmp_path: Path) -> None:
    for path in (results / "smoke" / "attacks").glob("*.json"):
        result = read_result(path)
        write_result(tmp_path / path.name, result)
        assert read_result(tmp_path / path.name) == result
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_what_is_there_is_not_computed_again(results: Path, store: Path) -> None:
    said: list[str] = []
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*.json")}
    run(results, store, say=said.append)
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*.json")} == before
    assert all(line.endswith(": there") for line in said)


def test_damaged_result_is_reported_and_stops_no_other(results: Path, store: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "results")
    damaged = tmp_path / "results" / "smoke" / "attacks" / "digits-masks-1.json"
    damaged.write_text(damaged.read_text()[:-100])
    said: list[str] = []
    failures = run(tmp_path / "results", store, "digits-masks", said.append)
    assert {*failures} == {"attacks digits-masks-1"}
    assert re.search(
        r"digits-masks-1\.json is no result .*: remove it, and run again", failures["attacks digits-masks-1"]
    )
    assert said[-1] == "2/2 attacks digits-masks-2: there"
    damaged.unlink()
    assert run(tmp_path / "results", store, "digits-masks") == {}
    assert read_result(damaged).sets == read_result(results / "smoke" / "attacks" / damaged.name).sets


def test_tables_and_figures_are_rendered_from_results_alone(results: Path, tmp_path: Path) -> None:
    written = render("attacks", "smoke", results, tmp_path / "first")
    again = render("attacks", "smoke", results, tmp_path / "second")
    assert [path.name for path in written] == ["digits.md", "digits.svg", "masks.svg", "shadows.svg"]
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in again]
    table = (tmp_path / "first" / "digits.md").read_text()
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) == len(names_at("decoder")) + len(names_at("encoder"))
    assert {(row[0].strip("| `"), row[1]) for row in rows} >= {
        ("threshold", "D1"),
        ("threshold", "D3"),
        ("encodermi-v", "embeddings"),
        ("partcrop", "encoder"),
        ("gradient", "D1"),
    }
    areas = [float(row[2].split()[0]) for row in rows]
    assert areas == sorted(areas, reverse=True)


def test_cell_that_fails_is_reported_and_stops_no_other(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = next(cell for cell in cells("smoke", NO_DATA) if cell.name == "digits-masks-1")
    bad = Cell("bad", {"target": "nothing"}, {**good.settings, "data": {"source": str(tmp_path / "missing.parquet")}})
    changed = replace(good, settings={**good.settings, "signals": {"draws": 2}})
    noted = replace(changed, footnote="Read this.")
    for second in (good, changed, noted):
        both = [bad, second]
        declared_so = replace(EXPERIMENTS["attacks"], cells=lambda *_, both=both: both)
        monkeypatch.setitem(registry.EXPERIMENTS, "attacks", declared_so)
        failures = run(tmp_path, store)
        assert {*failures} == {"attacks bad"}
        assert "missing.parquet" in failures["attacks bad"]
        found = read_result(tmp_path / "smoke" / "attacks" / "digits-masks-1.json")
        assert found.settings["signals"] == second.settings["signals"]  # another declaration is run anew
        assert found.footnote == second.footnote


def test_whatever_stops_one_audit_stops_no_other_experiment(store: Path, tmp_path: Path) -> None:
    (tmp_path / "tinyimagenet32.parquet").write_text("damaged")
    (tmp_path / "results" / "mini" / "figure-2" / "cifar-10.json").mkdir(parents=True)
    said: list[str] = []
    common = COMPUTE | {"store": str(store)}
    failures = reproduce(["figure-2", "figure-3"], "mini", tmp_path, tmp_path / "results", common, said.append)
    assert [*failures] == [
        "figure-2 cifar-10",
        "figure-3 cifar-10",
        "figure-3 tinyimagenet",
        "figure-3 miniimagenet",
    ]
    directory, missing, damaged, other = failures.values()
    assert directory.startswith("IsADirectoryError: ")
    assert re.search(r"cifar10\.parquet does not exist", missing)
    assert re.search(r"tinyimagenet32\.parquet is not a readable parquet file", damaged)
    assert re.search(r"miniimagenet64\.parquet does not exist", other)
    assert [line for line in said if "failed: " in line] == [f"{name} failed: {why}" for name, why in failures.items()]


def test_interrupted_run_goes_on_with_the_trainings_that_are_left(
    tmp_path: Path, counted_steps: Callable[..., AbstractContextManager[list[int]]]
) -> None:
    common = COMPUTE | {"store": str(tmp_path / "store")}
    with counted_steps(interrupt_at=60), pytest.raises(KeyboardInterrupt):  # within the second of three trainings
        reproduce(["figure-2"], "smoke", NO_DATA, tmp_path, common, quiet)
    assert list(tmp_path.rglob("digits.json")) == []
    with counted_steps() as steps:
        assert reproduce(["figure-2", "figure-3"], "smoke", NO_DATA, tmp_path, common, quiet) == {}
    assert steps == [2 * 40]  # and none for the second experiment
    assert len(list(tmp_path.rglob("digits.json"))) == 2


@pytest.mark.parametrize(
    ("name", "only", "message"),
    [("figure-0", None, "no experiment 'figure-0': choose from attacks"), ("attacks", "huge", "begins with 'huge'")],
)
def test_unknown_experiment_or_cell_is_refused(name: str, only: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(MimiaError, match=message):
        reproduce([name], "smoke", NO_DATA, tmp_path, {}, quiet, only)


def test_thinned_curve_keeps_what_low_rates_show() -> None:
    generator = np.random.default_rng(0)
    members = np.arange(6000) < 1000
    full = evaluate("any", generator.normal(size=6000) + 2 * members, members, EvaluationSettings())
    fewer = thinned(full)
    assert len(fewer.false_rate) < 250 < len(full.false_rate)
    for rate in (0.001, 0.01, 1.0):
        highest = [
            max(true for false, true in zip(each.false_rate, each.true_rate, strict=True) if false <= rate + 1e-9)
            for each in (full, fewer)
        ]
        assert highest[0] == pytest.approx(highest[1], abs=1e-6)
