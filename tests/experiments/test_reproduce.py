"""The smallest profile, from the declared grid to tables and figures."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimia.attacks.registry import ATTACKS
from mimia.config import EvaluationSettings
from mimia.errors import MimiaError
from mimia.evaluation.evaluate import evaluate
from mimia.experiments import registry
from mimia.experiments.attacks import cells, names_at
from mimia.experiments.grid import Cell
from mimia.experiments.registry import EXPERIMENTS
from mimia.experiments.results import declared, read_result, thinned, write_result
from mimia.experiments.runner import render, reproduce

NO_DATA = Path("nowhere")
COMPUTE: dict[str, Any] = {"compute": {"device": "cpu", "threads": 1}}


def quiet(_: str) -> None:
    """Say nothing."""


def run(results: Path, store: Path, only: str | None = None, say: Any = quiet) -> Mapping[str, str]:
    return reproduce("attacks", "smoke", NO_DATA, results, COMPUTE | {"store": str(store)}, say, only)


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
    assert {*failures} == {"digits-masks-1"}
    assert re.search(r"digits-masks-1\.json is no result .*: remove it, and run again", failures["digits-masks-1"])
    assert said[-1] == "2/2 digits-masks-2: there"
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
        assert {*failures} == {"bad"}
        assert "missing.parquet" in failures["bad"]
        found = read_result(tmp_path / "smoke" / "attacks" / "digits-masks-1.json")
        assert found.settings["signals"] == second.settings["signals"]  # another declaration is run anew
        assert found.footnote == second.footnote


@pytest.mark.parametrize(
    ("name", "only", "message"),
    [("figure-0", None, "no experiment 'figure-0': choose from attacks"), ("attacks", "huge", "begins with 'huge'")],
)
def test_unknown_experiment_or_cell_is_refused(name: str, only: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(MimiaError, match=message):
        reproduce(name, "smoke", NO_DATA, tmp_path, {}, quiet, only)


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
