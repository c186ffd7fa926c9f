"""The grids of the paper: all are valid, and the smallest profile runs from declaration to tables and figures."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest

from mimia.config import read_settings
from mimia.encoders.checkpoints import native
from mimia.evaluation.estimate import Estimate
from mimia.experiments.defend import defend
from mimia.experiments.grid import Cell, Profile
from mimia.experiments.plan import overview, trainings, work_of
from mimia.experiments.registry import EXPERIMENTS
from mimia.experiments.results import CellResult, declared, read_result
from mimia.experiments.runner import render, reproduce
from mimia.report.figures import curve_figure

OF_THE_PAPER = [name for name in EXPERIMENTS if name != "attacks"]
COMPUTE: dict[str, Any] = {"compute": {"device": "cpu", "threads": 1}}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def results(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    common = COMPUTE | {"store": str(store)}
    assert reproduce(OF_THE_PAPER, "smoke", Path("nowhere"), folder, common, print) == {}
    return folder


def results_of(results: Path, name: str) -> list[CellResult]:
    cells = EXPERIMENTS[name].cells("smoke", Path())
    return [read_result(results / "smoke" / name / f"{cell.name}.json") for cell in cells]


def models_of(store: Path) -> Counter[str]:
    """Tell the numbers of images and the recipes of the models that were trained."""
    trained = [native.load_training(path.parent) for path in (store / "models").glob("*/artifact.json")]
    return Counter(f"{each.images} {each.recipe.identity}" for each in trained if each is not None)


def models_planned(cells: Sequence[Cell]) -> Counter[str]:
    return Counter(f"{each.images} {each.recipe.identity}" for each in trainings(work_of(cell) for cell in cells))


def area(result: CellResult, attack: str) -> float | None:
    return next(each.area.value for each in result.report.evaluations if each.attack == attack)


@pytest.mark.parametrize("profile", get_args(Profile))
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_cells_have_names_and_places_of_their_own_and_settings_that_are_valid(name: str, profile: Profile) -> None:
    cells = EXPERIMENTS[name].cells(profile, Path("data"))
    assert len({cell.name for cell in cells}) == len(cells)
    if name != "attacks":  # where two levels of access share a place
        assert len({tuple(cell.at.items()) for cell in cells}) == len(cells)
    for cell in cells:
        read_settings(None, cell.settings)
        assert "data/" not in str(declared(cell))


def figures_of(result: CellResult, name: str) -> list[Estimate | None]:
    """Give what the pages of an experiment have to show of a cell."""
    evaluations, utility = result.report.evaluations, result.report.utility
    if name == "figure-1":
        return [each.linear_probe for each in utility.values()]
    if name == "defences":
        strongest = next(each for each in evaluations if each.attack == result.report.strongest)
        return [strongest.area, strongest.tpr_at_1_percent, utility["target"].linear_probe, utility["target"].explained]
    return [each.area for each in evaluations]


@pytest.mark.parametrize("name", OF_THE_PAPER)
def test_pages_show_every_cell_and_its_figures(results: Path, name: str, tmp_path: Path) -> None:
    written = render(name, "smoke", results, tmp_path / "first")
    again = render(name, "smoke", results, tmp_path / "second")
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in again]
    text = "".join(path.read_text() for path in written if path.suffix == ".md").replace("\N{NO-BREAK SPACE}", " ")
    for result in results_of(results, name):
        assert all(str(value) in text for value in result.at.values())
        assert all(str(figure) in text for figure in figures_of(result, name))


def test_models_of_the_store_are_those_of_the_plan(results: Path, store: Path) -> None:
    cells = [cell for name in OF_THE_PAPER for cell in EXPERIMENTS[name].cells("smoke", Path())]
    assert len({*results.rglob("*.json")}) == len(cells)
    assert models_of(store) == models_planned(cells)


def test_what_has_a_result_takes_no_time(results: Path, store: Path) -> None:
    common = COMPUTE | {"store": str(store)}
    *rows, together = overview("smoke", Path("nowhere"), results, common)
    of_paper = [row for row in rows if row["experiment"] != "attacks"]
    assert all((row["done"], row["time here"]) == (row["audits"], "none") for row in of_paper)
    assert int(together["trainings"]) < sum(int(row["trainings"]) for row in rows)
    assert [together["audits"], together["done"]] == [
        str(sum(int(row[column]) for row in rows)) for column in ("audits", "done")
    ]


def test_audits_that_two_experiments_share_give_the_same_figures(results: Path) -> None:
    alone = {result.at["mask ratio"]: area(result, "calibrated") for result in results_of(results, "mask-ratio")}
    matched = {
        result.at["target's mask ratio"]: area(result, "calibrated")
        for result in results_of(results, "figure-5")
        if result.at["target's mask ratio"] == result.at["shadows' mask ratio"]
    }
    assert matched == alone


def test_squared_error_of_masked_patches_is_what_a_model_of_pixels_is_trained_by(results: Path) -> None:
    of_training = {result.at["mask ratio"]: area(result, "calibrated") for result in results_of(results, "mask-ratio")}
    measured = {result.at["distance"]: area(result, "calibrated") for result in results_of(results, "distance")}
    assert measured["mse"] == of_training[0.75]
    assert measured["ssim"] != measured["mse"]


@pytest.mark.parametrize("profile", get_args(Profile))
def test_last_of_the_epochs_is_the_end_of_the_training(profile: Profile) -> None:
    *earlier, last = EXPERIMENTS["epochs"].cells(profile, Path("data"))
    recipe = read_settings(None, last.settings).recipe
    assert (recipe.stop_epoch, recipe.epochs) == (None, last.at["epochs"])
    assert [read_settings(None, cell.settings).recipe.stop_epoch for cell in earlier] == [
        cell.at["epochs"] for cell in earlier
    ]


def test_distances_of_both_sides_are_kept_for_their_figure(results: Path, tmp_path: Path) -> None:
    (result,) = results_of(results, "figure-3")
    (histogram,) = result.report.run.histograms
    assert {group: sum(counts) for group, counts in histogram.counts.items()} == {"members": 40, "non-members": 100}
    assert "digits.svg" in {path.name for path in render("figure-3", "smoke", results, tmp_path)}


def test_experiment_without_results_has_no_pages(tmp_path: Path) -> None:
    assert render("figure-4", "mini", tmp_path / "none", tmp_path / "pages") == []


def test_axis_of_a_curve_is_logarithmic_where_its_numbers_grow_eightfold(results: Path) -> None:
    estimate = results_of(results, "masks")[0].report.evaluations[0].area
    doubling = curve_figure({"any": [(1, estimate), (4, estimate), (16, estimate)]}, "masks", "area")
    linear = curve_figure({"any": [(0.25, estimate), (0.5, estimate)]}, "mask ratio", "area")
    assert all(f">{tick}<" in doubling for tick in (1, 4, 16))
    assert all(f">{tick}<" in linear for tick in (0.25, 0.5))


def test_defences_of_somebodys_images_have_a_page(results: Path, store: Path, tmp_path: Path) -> None:
    plain = EXPERIMENTS["defences"].cells("smoke", Path())[0]
    settings = read_settings(None, {**plain.settings, **COMPUTE, "store": str(store)})
    page, failures = defend(settings, tmp_path, print)
    assert failures == {}
    text = page.read_text()
    assert text.count("<svg ") == 3
    for result in results_of(results, "defences"):
        assert f"<th>{result.at['defence']}</th>" in text
        linear_probe = result.report.utility["target"].linear_probe
        assert linear_probe.value is not None
        assert f"{linear_probe.value:.3f}<small>" in text
    again, _ = defend(settings, tmp_path, print)
    assert again.read_text() == text


def test_use_of_features_is_that_of_images_with_labels(results: Path) -> None:
    (result,) = results_of(results, "figure-1")
    pixels = result.report.utility["pixels"].linear_probe
    assert pixels.value is not None
    assert pixels.value > 0.85
