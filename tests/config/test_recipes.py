"""Defences among the settings of a recipe."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mimia.config.recipes import Recipe
from mimia.config.settings import read_settings
from mimia.pretraining.defences import DPSGD, EMA, CrossFitting, Deduplicate, EarlyStopping
from mimia.runtime.errors import MimiaError


def make_recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate({"preset": "mae-nano", "epochs": 5} | changes)


def test_defences_are_tables_of_a_file_and_come_back_from_json(tmp_path: Path) -> None:
    (tmp_path / "mimia.toml").write_text("[recipe.defences.dp_sgd]\nepsilon = 8\n[recipe.defences.ema]\n")
    recipe = read_settings(tmp_path / "mimia.toml", {"recipe": {"defences": {"ema": {"decay": 0.9}}}}).recipe
    assert recipe.defences == {"dp_sgd": DPSGD(epsilon=8), "ema": EMA(decay=0.9)}
    again = Recipe.model_validate_json(recipe.model_dump_json())
    assert again == recipe
    assert len({again, recipe, recipe.undefended}) == 2


def test_defence_is_switched_on_and_off_by_true_and_false() -> None:
    recipe = make_recipe(defences={"deduplicate": True, "ema": False})
    assert recipe.defences == {"deduplicate": Deduplicate()}
    assert recipe.with_defence(EarlyStopping(patience=3)).defences.keys() == {"deduplicate", "early_stopping"}


def test_keys_of_recipes_from_before_there_were_defences_are_read() -> None:
    unset = {
        "patience": None,
        "deduplicate": False,
        "cross_fits": 0,
        "dp_epsilon": None,
        "dp_delta": 1e-5,
        "dp_clip": 1,
    }
    assert make_recipe(**unset) == make_recipe()
    private = unset | {"patience": 3, "dp_epsilon": 8.0, "dp_delta": 1e-6, "dp_clip": 0.5}
    expected = {"dp_sgd": DPSGD(epsilon=8, delta=1e-6, clip=0.5), "early_stopping": EarlyStopping(patience=3)}
    assert make_recipe(**private).defences == expected
    others = make_recipe(**(unset | {"deduplicate": True, "cross_fits": 2}))
    assert others.defences == {"deduplicate": Deduplicate(), "cross_fitting": CrossFitting(pairs=2)}


def test_identity_has_what_was_set_alone_so_that_older_models_are_found() -> None:
    plain = make_recipe()
    assert plain.identity.keys() == set(Recipe.model_fields) - {
        "preset",
        "seed",
        "stop_epoch",
        "defences",
        "start_from",
    }
    used = make_recipe(defences={"early_stopping": {"patience": 3}, "dp_sgd": {"epsilon": 8, "delta": 1e-5}})
    set_alone = {"dp_sgd": {"epsilon": 8.0}, "early_stopping": {"patience": 3}}
    assert used.identity == plain.identity | {"defences": set_alone}
    assert json.dumps(used.identity) == json.dumps(plain.identity | {"defences": set_alone})
    assert used.undefended == make_recipe(stop_epoch=3).undefended == plain


@pytest.mark.parametrize(
    ("defences", "message"),
    [
        ({"magic": {}}, r"recipe\.defences: There is no defence 'magic': choose one of dp_sgd, .*ema"),
        ({"dp_sgd": {}}, r"recipe\.defences: dp_sgd\.epsilon: Field required"),
        ({"ema": {"decay": 2}}, r"recipe\.defences: ema\.decay: Input should be less than 1"),
        ({"ema": {}, "early_stopping": {"patience": 1}}, "ema and early_stopping both choose the final weights"),
    ],
)
def test_mistake_in_a_defence_is_told_with_its_place(defences: dict[str, Any], message: str) -> None:
    with pytest.raises(MimiaError, match=message):
        read_settings(None, {"recipe": {"defences": defences}})


def test_training_is_not_left_after_its_end() -> None:
    with pytest.raises(ValidationError, match="stop_epoch is 7, and there are 5 epochs: lower it"):
        make_recipe(stop_epoch=7)
