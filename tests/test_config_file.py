import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimia.config import read_settings
from mimia.config_file import to_toml
from mimia.recipes import RECIPES


def set_keys(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is not set: TOML has no word for it."""
    return {
        key: set_keys(value) if isinstance(value, dict) else value for key, value in values.items() if value is not None
    }


@given(
    text=st.text(),
    number=st.floats(min_value=0, allow_infinity=False),
    names=st.lists(st.text(), max_size=3),
)
def test_text_is_toml_of_the_same_values(text: str, number: float, names: list[str]) -> None:
    values = {"store": text, "recipe": {"weight_decay": number}, "attacks": {"names": names}}
    settings = read_settings(None, values)
    assert tomllib.loads(to_toml(settings)) == set_keys(settings.model_dump(mode="json"))


@pytest.mark.parametrize("preset", RECIPES)
def test_settings_come_back_from_a_file(tmp_path: Path, preset: str) -> None:
    values = {
        "store": 's3://bucket/"mimia"',
        "out": "C:\\audits\\größer",
        "data": {"members": "photos", "nonmembers": "imagenet-1k:test"},
        "split": {"n_members": 5},
        "recipe": {"preset": preset, "epochs": 7, "base_learning_rate": 1e-7},
        "attacks": {"names": ["calibrated"]},
        "compute": {"threads": 2},
    }
    settings = read_settings(None, values)
    (tmp_path / "mimia.toml").write_text(to_toml(settings), encoding="utf-8")
    assert read_settings(tmp_path / "mimia.toml", {}) == settings


def test_every_key_has_a_comment_and_what_is_not_set_is_one() -> None:
    lines = to_toml(read_settings(None, {"store": "s"})).splitlines()
    keys = [place for place, line in enumerate(lines) if " =" in line and not line.startswith("[")]
    assert all(lines[place - 1].startswith("# ") for place in keys)
    assert "# target =" in lines
    assert max(map(len, lines)) <= 120
