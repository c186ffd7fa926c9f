"""What is made of the results in ``results/mini``: documented pages, lists of audits, the page of the defences."""

from pathlib import Path

import pytest

from mimia.evaluation.intervals import Estimate
from mimia.experiments.defend import defences_page
from mimia.experiments.registry import EXPERIMENTS
from mimia.experiments.results import CellResult, declared, read_result
from mimia.experiments.runner import write_pages
from mimia.experiments.status import list_cells, list_experiments, missing_data

ROOT = Path(__file__).resolve().parents[2]
DOCS, RESULTS = ROOT / "docs", ROOT / "results"
OF_THEIR_OWN = {"attacks": ("attacks.md", "comparison"), "defences": ("defences.md", "defences")}
SHOWN = [name for name in EXPERIMENTS if (RESULTS / "mini" / name).is_dir()]


def place_of(name: str) -> tuple[Path, str]:
    """Return the page that shows an experiment, and the folder of its tables and figures."""
    page, folder = OF_THEIR_OWN.get(name, ("paper.md", f"paper/{name}"))
    return DOCS / page, folder


def results_of(name: str) -> list[CellResult]:
    paths = [RESULTS / "mini" / name / f"{cell.name}.json" for cell in EXPERIMENTS[name].cells("mini", Path())]
    return [read_result(path) for path in paths if path.exists()]


def figures_of(result: CellResult, name: str) -> list[Estimate | None]:
    """Return what the pages of an experiment have to show of a cell."""
    evaluations, utility = result.report.evaluations, result.report.utility
    if name == "figure-1":
        return [each.linear_probe for each in utility.values()]
    if name == "defences":
        deciding = next(each for each in evaluations if each.attack == result.report.deciding)
        return [deciding.auc, deciding.tpr_at_1_percent, utility["target"].linear_probe, utility["target"].explained]
    return [each.auc for each in evaluations if not set(result.coordinates) & {"masks", "shadows"} or name == "masks"]


@pytest.mark.parametrize("name", SHOWN)
def test_documentation_shows_every_result_and_nothing_else(name: str, tmp_path: Path) -> None:
    page, folder = place_of(name)
    written = write_pages(name, "mini", RESULTS, tmp_path)
    rendered = {path.name: path.read_bytes() for path in written}
    assert {path.name: path.read_bytes() for path in (DOCS / folder).iterdir()} == rendered, (
        f"render them anew: mimia reproduce {name} --profile mini --pages docs/{folder}"
    )
    assert [file for file in rendered if f"{folder}/{file}" not in page.read_text()] == []
    tables = "".join(path.read_text() for path in written if path.suffix == ".md").replace("\N{NO-BREAK SPACE}", " ")
    for result in results_of(name):
        assert [figure for figure in figures_of(result, name) if str(figure) not in tables] == []


def test_no_documented_table_is_without_results() -> None:
    folders = {place_of(name)[1] for name in SHOWN}
    assert {f"paper/{path.name}" for path in (DOCS / "paper").iterdir() if path.is_dir()} <= folders


@pytest.mark.parametrize("name", SHOWN)
def test_stored_results_are_of_the_declared_settings(name: str) -> None:
    stored = {result.cell: result for result in results_of(name)}
    for cell in EXPERIMENTS[name].cells("mini", Path()):
        if cell.name in stored:
            assert stored[cell.name].coordinates == cell.coordinates
            assert _as_json(stored[cell.name].settings) == _as_json(declared(cell))


def _as_json(value: object) -> object:
    if isinstance(value, dict):
        return {key: _as_json(each) for key, each in value.items()}
    return [_as_json(each) for each in value] if isinstance(value, list | tuple) else value


def test_audits_that_two_experiments_share_have_the_same_figures() -> None:
    def aucs(result: CellResult) -> dict[str, float | None]:
        return {each.attack: each.auc.value for each in result.report.evaluations if each.attack != "ensemble"}

    alone = {result.coordinates["mask ratio"]: aucs(result) for result in results_of("mask-ratio")}
    matched = {
        result.coordinates["target's mask ratio"]: aucs(result)
        for result in results_of("figure-5")
        if len(set(result.coordinates.values())) == 1
    }
    assert matched == alone


def test_time_of_a_missing_audit_is_that_of_comparable_results(tmp_path: Path) -> None:
    complete = list_cells("masks", "mini", Path("data"), RESULTS)
    assert {row["state"] for row in complete} == {"done"}
    folder = tmp_path / "mini" / "masks"
    folder.mkdir(parents=True)
    for name in ("1", "2", "4"):
        (folder / f"{name}.json").write_bytes((RESULTS / "mini" / "masks" / f"{name}.json").read_bytes())
    (folder / "8.json").write_text("damaged")
    times = {row["audit"]: row["time"] for row in complete}
    minutes = sorted(int(times[name].split()[0]) for name in ("1", "2", "4"))
    some = {row["audit"]: (row["state"], row["time"]) for row in list_cells("masks", "mini", Path("data"), tmp_path)}
    assert some["2"] == ("done", times["2"])
    assert some["8"] == some["64"] == ("missing", f"about {minutes[1]} min")
    assert list_cells("epochs", "mini", Path("data"), tmp_path)[0]["time"] == "unknown"
    counts = {row["experiment"]: (row["audits"], row["done"]) for row in list_experiments("mini", Path(), tmp_path)}
    assert counts["masks"] == ("7", "3")
    assert {*counts} == {*EXPERIMENTS}


def test_data_files_that_are_missing_are_listed_once(tmp_path: Path) -> None:
    (tmp_path / "cifar10.parquet").touch()
    missing = missing_data([*EXPERIMENTS], "mini", tmp_path)
    assert [path.name for path in missing] == ["miniimagenet64.parquet", "tinyimagenet32.parquet"]
    assert missing_data([*EXPERIMENTS], "smoke", tmp_path) == []


def test_page_of_the_defences_shows_each_with_its_utility() -> None:
    results = results_of("defences")
    page = defences_page(results, {"a defence": "It failed."}, "cifar10.parquet")
    assert page.count("<svg ") == 3
    assert "Not measured: a defence.</strong> It failed." in page
    for result in results:
        assert f"<th>{result.coordinates['defence']}</th>" in page
        linear_probe = result.report.utility["target"].linear_probe
        assert f"{linear_probe.value:.3f}<small>" in page
