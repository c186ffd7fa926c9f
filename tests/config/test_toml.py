import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimia.config.families import recipe_presets
from mimia.config.settings import read_settings
from mimia.config.toml import to_toml

SCALARS = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
OF_ONE = st.dictionaries(st.text(max_size=20), SCALARS | st.lists(SCALARS, max_size=3), max_size=3)
OPTIONS = st.dictionaries(st.text(max_size=20), OF_ONE, min_size=1, max_size=2)
RECIPES = recipe_presets()


@settings(max_examples=15, deadline=None)
@given(
    text=st.text(min_size=1, max_size=20),
    number=st.floats(min_value=0, allow_infinity=False),
    names=st.lists(st.text(max_size=20), max_size=3),
    options=OPTIONS,
)
def test_text_is_toml_of_the_same_values(text: str, number: float, names: list[str], options: dict[str, Any]) -> None:
    values = {"store": text, "recipe": {"weight_decay": number}, "attacks": {"names": names, "options": options}}
    chosen = read_settings(None, values)
    expected = chosen.model_dump(mode="json", exclude_none=True)
    expected["recipe"] = {"weight_decay": number}  # the keys that nobody gave are comments
    assert tomllib.loads(to_toml(chosen)) == expected


@pytest.mark.parametrize("preset", RECIPES)
def test_settings_come_back_from_a_file(tmp_path: Path, preset: str) -> None:
    values = {
        "store": 's3://bucket/"mimia"',
        "out": "C:\\audits\\größer",
        "data": {"members": "photos", "nonmembers": "imagenet-1k:test"},
        "split": {"n_members": 5},
        "recipe": {
            "preset": preset,
            "epochs": 7,
            "base_learning_rate": 1e-7,
            "defences": {"early_stopping": {"patience": 3}},
        },
        "attacks": {"names": ["calibrated"], "options": {"rmia": {"gamma": 2, "temperatures": [1.0, 2.5]}}},
        "compute": {"threads": 2},
    }
    written = read_settings(None, values)
    (tmp_path / "mimia.toml").write_text(to_toml(written), encoding="utf-8")
    assert read_settings(tmp_path / "mimia.toml", {}) == written


def test_attacks_options_can_be_added_to_a_file_without(tmp_path: Path) -> None:
    text = to_toml(read_settings(None, {})).replace("[evaluation]", "[attacks.options.rmia]\ngamma = 2\n[evaluation]")
    (tmp_path / "mimia.toml").write_text(text, encoding="utf-8")
    assert read_settings(tmp_path / "mimia.toml", {}).attacks.options == {"rmia": {"gamma": 2}}


def test_every_key_has_a_comment_and_what_is_not_set_is_one() -> None:
    lines = to_toml(read_settings(None, {"store": "s"})).splitlines()
    keys = [place for place, line in enumerate(lines) if " =" in line and not line.startswith("[")]
    assert all(lines[place - 1].startswith("# ") for place in keys)
    assert "# target =" in lines
    assert max(map(len, lines)) <= 120
