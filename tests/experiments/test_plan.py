"""What audits are planned to take, from their settings alone."""

import os
import time
from pathlib import Path
from typing import Any, get_args

import pytest

from mimia.config import read_settings
from mimia.errors import MimiaError
from mimia.experiments import speed
from mimia.experiments.attacks import cells as attack_cells
from mimia.experiments.grid import IMAGE_SIZES, Cell, Profile
from mimia.experiments.plan import Scoring, Training, Work, about, missing_data, seconds_of, trainings, work_of
from mimia.experiments.registry import EXPERIMENTS
from mimia.experiments.speed import Machine
from mimia.images.decode import shorter_side
from mimia.images.sources import open_source
from mimia.store import Store

DATA = Path(os.environ.get("MIMIA_DATA", "../shared/data"))
SMALL: dict[str, Any] = {
    "split": {"n_members": 40, "n_nonmembers": 100, "n_holdout": 40},
    "recipe": {"epochs": 40, "batch_size": 20},
    "signals": {"draws": 2},
    "attacks": {"names": ("threshold",)},
}


@pytest.fixture
def machine(store: Store) -> Machine:
    return Machine(read_settings(None, {"compute": {"device": "cpu", "threads": 1}}).compute, store)


def plan(**changes: Any) -> Work:
    work = work_of(Cell("any", {}, SMALL | changes))
    assert work is not None
    return work


def planned(*names: str) -> list[Work | None]:
    return [work_of(cell) for name in names for cell in EXPERIMENTS[name].cells("smoke", Path())]


def of_one(role: str, work: Work) -> frozenset[Training | Scoring]:
    return frozenset(piece for piece in work if isinstance(piece, Training) and piece.role == role)


@pytest.mark.parametrize("profile", get_args(Profile))
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_audit_is_planned(name: str, profile: Profile) -> None:
    for cell in EXPERIMENTS[name].cells(profile, Path("data")):
        settings, models = read_settings(None, cell.settings), trainings([work_of(cell)])
        online = settings.shadows.online if any("online" in attack for attack in settings.attacks.names or ()) else 0
        each = 1 + 2 * settings.recipe.cross_fits  # a model and its teachers
        assert len(models) == each * (1 + settings.shadows.count + online), cell.name


def test_experiments_share_trainings() -> None:
    assert trainings(planned("figure-2")) == trainings(planned("figure-3"))
    assert len(trainings(planned("figure-2", "figure-3"))) == 3
    # shadows of each ratio are the same, whatever the ratio of the target
    assert trainings(planned("figure-5")) == trainings(planned("mask-ratio"))
    assert not trainings(planned("figure-2")) & trainings(planned("attacks"))


def test_name_of_a_preset_and_what_does_not_concern_training_decide_over_no_model() -> None:
    named = SMALL["recipe"] | {"preset": "mae-nano", "size": "micro", "patch_size": 4}
    other = SMALL["recipe"] | {"preset": "mae-micro", "base_learning_rate": 8e-3}
    assert trainings([plan(recipe=named)]) == trainings([plan(recipe=other)])
    more = SMALL["split"] | {"n_nonmembers": 200, "n_holdout": 50}
    assert trainings([plan(split=more, signals={"draws": 8})]) == trainings([plan()])


@pytest.mark.parametrize(
    "changes",
    [
        {"split": SMALL["split"] | {"n_members": 50}},
        {"split": SMALL["split"] | {"seed": 1}},
        {"recipe": SMALL["recipe"] | {"seed": 1}},
        {"recipe": SMALL["recipe"] | {"mask_ratio": 0.5}},
        {"recipe": SMALL["recipe"] | {"stop_epoch": 20}},
        {"data": {"source": "cifar10.parquet"}},
        {"data": {"image_size": 4}},
    ],
    ids=str,
)
def test_another_setting_of_the_training_shares_no_model(changes: dict[str, Any]) -> None:
    assert not trainings([plan(**changes)]) & trainings([plan()])


def test_fitted_decoder_is_no_training_but_makes_another_model_to_ask() -> None:
    own, fitted = plan(), plan(decoder={"source": "fitted"}, split=SMALL["split"] | {"n_decoder": 50})
    assert trainings([own]) == trainings([fitted])
    assert [piece for piece in own & fitted if isinstance(piece, Scoring)] == []
    # of the target, of two shadows, and of the untrained model
    assert len(of_one("decoder", fitted)) == 4


def test_training_that_goes_on_takes_the_steps_that_are_left(machine: Machine) -> None:
    whole, stopped, later = (
        of_one("target", plan(recipe=SMALL["recipe"] | changes))
        for changes in ({}, {"stop_epoch": 10}, {"stop_epoch": 30})
    )
    (all_of_it,) = seconds_of([whole], [], machine)
    assert all_of_it is not None
    (training,) = trainings([whole])
    assert all_of_it == pytest.approx(2 * 40 * machine.seconds_a_step(training.recipe, (1, 8, 8), 20))
    shares = [each / all_of_it for each in seconds_of([stopped, later, whole, whole], [], machine) if each is not None]
    assert shares == pytest.approx([1 / 4, 1 / 2, 1 / 4, 0])
    # what has come to its end left no state to go on from
    shares = [each / all_of_it for each in seconds_of([whole, later, stopped], [], machine) if each is not None]
    assert shares == pytest.approx([1, 3 / 4, 1 / 4])
    assert seconds_of([later], [stopped], machine) == pytest.approx([all_of_it / 2])


def test_estimate_is_in_proportion_to_the_images_that_are_asked_about(machine: Machine) -> None:
    estimates = []
    for nonmembers in (100, 360):
        work = plan(split=SMALL["split"] | {"n_nonmembers": nonmembers}, shadows={"count": 1})
        estimates += seconds_of([work], [frozenset(piece for piece in work if isinstance(piece, Training))], machine)
    # target and shadow: members, non-members, holdout and the shadows' pool; the untrained model: both sides
    asked = [2 * (40 + nonmembers + 40 + 2 * 40) + 40 + nonmembers for nonmembers in (100, 360)]
    assert estimates[0] is not None
    assert estimates[1] == pytest.approx(estimates[0] * asked[1] / asked[0])


def test_speeds_are_measured_once_for_each_architecture_and_question(machine: Machine, tmp_path: Path) -> None:
    first = seconds_of([plan()], [], machine)
    kept = sorted((tmp_path / "store" / "speeds").iterdir())
    assert len(kept) == 2  # of training, and of the distances
    assert seconds_of([plan(split=SMALL["split"] | {"seed": 1})], [], machine) == first
    assert sorted((tmp_path / "store" / "speeds").iterdir()) == kept


def test_every_kind_of_signals_has_a_speed(machine: Machine) -> None:
    works = [work_of(cell) for cell in attack_cells("smoke", Path())]
    kinds = {piece.kind for work in works for piece in work or () if isinstance(piece, Scoring)}
    assert kinds >= {"distances", "surroundings", "latents", "gradients", "parts", "views", "predictability"}
    assert all(each is not None and each > 0 for each in seconds_of(works[:2], [], machine))


def test_step_that_takes_long_is_not_waited_for(machine: Machine) -> None:
    recipe = read_settings(None, {"recipe": {"preset": "mae-tiny"}}).recipe
    started = time.monotonic()
    seconds = machine.seconds_a_step(recipe, (3, 32, 32), 4096)
    assert time.monotonic() - started < seconds / 4
    assert seconds > 16 * machine.seconds_a_step(recipe, (3, 32, 32), 64)  # which is measured whole


def test_what_work_costs_whatever_the_images_is_counted_once() -> None:
    assert speed._seconds(lambda images: time.sleep(0.1 + 0.001 * images), 3200) == pytest.approx(3.3, rel=0.3)


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {"source": "mine.parquet"}},  # nobody knows how large its images are
        {"split": {"n_members": 40}},
        {"decoder": {"source": "fitted"}},
        {"recipe": {"epochs": -1}},
        {"attacks": {"names": ("none",)}},
    ],
    ids=str,
)
def test_time_is_unknown_where_settings_do_not_tell_or_are_wrong(changes: dict[str, Any], machine: Machine) -> None:
    works = [plan(), work_of(Cell("any", {}, SMALL | changes))]
    assert works[1] is None
    known, unknown = seconds_of(works, [], machine)
    assert known is not None
    assert unknown is None
    assert about([known, unknown]) == "?"
    assert len(trainings(works)) == 3


def test_recipe_that_does_not_fit_the_images_has_no_time(machine: Machine) -> None:
    unfit = plan(recipe=SMALL["recipe"] | {"patch_size": 3})
    with pytest.raises(MimiaError, match="do not tile"):
        machine.seconds_a_step(next(iter(trainings([unfit]))).recipe, (1, 8, 8), 20)
    assert seconds_of([unfit], [], machine) == [None]


@pytest.mark.parametrize("name", IMAGE_SIZES)
def test_images_are_as_large_as_the_plan_takes_them_for(name: str) -> None:
    path = DATA / name
    if name != "digits" and not path.exists():
        pytest.skip(f"there is no {path}")
    source = open_source(name if name == "digits" else str(path))
    assert shorter_side(next(iter(source))[1]) == IMAGE_SIZES[name]


def test_data_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "cifar10.parquet").touch()
    assert [path.name for path in missing_data("mini", tmp_path)] == [
        "miniimagenet64.parquet",
        "tinyimagenet32.parquet",
    ]
    assert missing_data("smoke", tmp_path) == []
