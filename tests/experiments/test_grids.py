"""The grids that are declared: all of them are valid."""

from pathlib import Path
from typing import get_args

import pytest

from mimia.config.settings import read_settings
from mimia.experiments.attacks import cells as attack_cells
from mimia.experiments.grid import Profile
from mimia.experiments.registry import EXPERIMENTS
from mimia.experiments.results import declared


@pytest.mark.parametrize("profile", get_args(Profile))
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_cells_have_names_and_coordinates_of_their_own_and_valid_settings(name: str, profile: Profile) -> None:
    cells = EXPERIMENTS[name].cells(profile, Path("data"))
    assert len({cell.name for cell in cells}) == len(cells)
    if name != "attacks":  # where two access levels have the same coordinates
        assert len({tuple(cell.coordinates.items()) for cell in cells}) == len(cells)
    for cell in cells:
        read_settings(None, cell.settings)
        assert "data/" not in str(declared(cell))


@pytest.mark.parametrize("profile", get_args(Profile))
def test_last_of_the_epochs_is_the_end_of_the_training(profile: Profile) -> None:
    *earlier, last = EXPERIMENTS["epochs"].cells(profile, Path("data"))
    recipe = read_settings(None, last.settings).recipe
    assert (recipe.stop_epoch, recipe.epochs) == (None, last.coordinates["epochs"])
    assert [read_settings(None, cell.settings).recipe.stop_epoch for cell in earlier] == [
        cell.coordinates["epochs"] for cell in earlier
    ]


def test_declared_data_files_have_no_folders() -> None:
    cell = next(iter(attack_cells("mini", Path("/somewhere/else"))))
    assert str(cell.settings["data"]["source"]) == "/somewhere/else/cifar10.parquet"
    assert declared(cell)["data"] == {"source": "cifar10.parquet"}
    assert declared(next(iter(attack_cells("mini", Path("here"))))) == declared(cell)
