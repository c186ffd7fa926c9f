import pickle
from pathlib import Path
from typing import Any

import pytest

from mimia.config.families import recipe_presets
from mimia.config.mistakes import RENAMED
from mimia.config.settings import Settings, read_settings
from mimia.runtime.errors import MimiaError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "audit.toml"
    path.write_text("""
        store = "from file"
        [data]
        source = "photos"
        image_size = 32
        [recipe]
        preset = "mae-tiny"
        epochs = 7
        batch_size = 64
        [attacks]
        names = ["threshold"]
    """)
    return path


def test_shadows_are_trained_as_the_target_but_for_what_is_said_otherwise() -> None:
    recipe = read_settings(None, {}).recipe
    assert read_settings(None, {}).shadows.imitating(recipe) == recipe
    changes = {"size": "nano", "mask_ratio": 0.5, "epochs": 3, "augmentation": "flip"}
    found = read_settings(None, {"shadows": changes}).shadows.imitating(recipe)
    assert found == recipe.model_copy(update=changes)


def test_value_given_wins_over_the_file_and_the_file_over_recipe_and_defaults(file: Path) -> None:
    settings = read_settings(file, {"store": "given", "recipe": {"epochs": 3}, "data": {"image_size": 48}})
    assert settings.store == "given"
    assert settings.data.image_size == 48
    assert settings.data.source == "photos"
    assert settings.attacks.names == ("threshold",)
    assert settings.recipe.epochs == 3
    assert settings.recipe.batch_size == 64
    assert settings.recipe.base_learning_rate == recipe_presets()["mae-tiny"]["base_learning_rate"]
    assert settings.recipe.weight_decay == 0.05


def test_file_may_choose_the_recipe_and_a_value_another(file: Path) -> None:
    assert read_settings(file, {}).recipe.size == "tiny"
    settings = read_settings(file, {"recipe": {"preset": "mae-base"}})
    assert (settings.recipe.size, settings.recipe.patch_size, settings.recipe.epochs) == ("base", 16, 7)


def test_renamed_keys_lead_to_keys_that_exist() -> None:
    tables = {name: field.annotation for name, field in Settings.model_fields.items()}
    for old, new in RENAMED.items():
        (table, key), (old_table, old_key) = new.split("."), old.split(".")
        assert key in getattr(tables[table], "model_fields", ())
        assert old_key not in getattr(tables[old_table], "model_fields", ())


@pytest.mark.parametrize("preset", recipe_presets())
def test_every_recipe_is_valid(preset: str) -> None:
    recipe = read_settings(None, {"recipe": {"preset": preset}}).recipe
    assert recipe.model_dump().items() >= recipe_presets()[preset].items()


@pytest.mark.parametrize(
    ("data", "preset"),
    [
        ({}, "mae-nano"),
        ({"members": "digits", "nonmembers": "digits"}, "mae-nano"),
        ({"source": "photos"}, "mae-micro"),
        ({"members": "photos", "nonmembers": "digits"}, "mae-micro"),
        ({"reference": "photos"}, "mae-micro"),
    ],
)
def test_smallest_recipe_is_for_digits_alone(data: dict[str, str], preset: str) -> None:
    assert read_settings(None, {"data": data}).recipe.preset == preset


def test_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_settings(None, {"store": "given"})
    for name in Settings.model_fields:
        monkeypatch.setenv(name.upper(), '{"preset": "mae-huge"}')
    assert read_settings(None, {"store": "given"}) == expected


def test_settings_compare_by_value_and_can_be_sent_elsewhere(file: Path) -> None:
    settings = read_settings(file, {})
    assert read_settings(file, {}) == settings
    assert read_settings(file, {"store": "given"}) != settings
    assert pickle.dumps(settings)  # a class that only this call knows could not be


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sede": 1}, "There is no setting sede"),
        ({"split": {"sede": 1}}, r"There is no setting split\.sede"),
        ({"data": {"sauce": "x"}}, r"There is no setting data\.sauce"),
        ({"recipe": {"epoch": 1}}, r"There is no setting recipe\.epoch"),
        ({"recipe": {"crop_area": (0.2, 1)}}, r"Setting recipe\.crop_area is now called recipe\.crop_scale: rename it"),
        ({"attacks": {"options": {"rmia": {"gamma": {}}}}}, r"Setting attacks\.options\.rmia\.gamma"),
        ({"data": {"image_size": 0}}, r"Setting data\.image_size.*: .* greater than or equal to 1 \(given: 0\)"),
        ({"split": {"seed": -1}}, r"Setting split\.seed: .* greater than or equal to 0"),
        ({"recipe": {"mask_ratio": 1}}, r"Setting recipe\.mask_ratio: .* less than 1 \(given: 1\)"),
        ({"recipe": {"base_learning_rate": float("nan")}}, r"Setting recipe\.base_learning_rate: "),
        ({"recipe": {"preset": "mae"}}, f"there is no recipe 'mae': choose one of {', '.join(recipe_presets())}"),
        ({"recipe": {"preset": ["mae-tiny"]}}, r"there is no recipe \['mae-tiny'\]: choose one of"),
        ({"compute": {"device": "tpu"}}, r"Setting compute\.device: .*'cuda'.* \(given: 'tpu'\)"),
        ({"data": "photos"}, r"Setting data: .* \(given: 'photos'\)"),
    ],
)
def test_mistake_is_told_with_its_place(values: dict[str, Any], message: str) -> None:
    with pytest.raises(MimiaError, match=message):
        read_settings(None, values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"store = x", r"audit\.toml is not valid TOML: .*line 1"),
        (b'store = "\xff"', r"audit\.toml is not valid TOML: .*utf-8"),
        (b"[recipe]\nepoch = 3", r"There is no setting recipe\.epoch"),
    ],
)
def test_mistake_in_the_file_is_told(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(MimiaError, match=message):
        read_settings(file, {})


def test_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(MimiaError, match=r"no settings file .*none\.toml: `mimia init` writes one"):
        read_settings(tmp_path / "none.toml", {})


ENDLESS = "9" * 5000


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"recipe": {"preset": "mae-nano", "betas": [1.5, 0.9]}}, r"recipe.betas.0: .* less than 1 \(given: 1.5\)"),
        ({"recipe": {"preset": "mae-nano", "betas": [0.9, -0.1]}}, "recipe.betas.1: .* greater than or equal to 0"),
        ({"recipe": {"preset": "mae-nano", "crop_scale": [5, 9]}}, "recipe.crop_scale.0: .* less than or equal to 1"),
        ({"recipe": {"preset": "mae-nano", "crop_scale": [0, 0]}}, "recipe.crop_scale.0: .* greater than 0"),
        ({"recipe": {"preset": "mae-nano", "crop_scale": [0.9, 0.1]}}, "from 0.9 to 0.1: put the smaller first"),
        ({"recipe": {"preset": "mae-nano", "defences": {"dp_sgd": {"epsilon": 1e30}}}}, "dp_sgd.epsilon: .* 10000"),
        ({"recipe": {"preset": "mae-nano", "epochs": 10**9}}, "recipe.epochs: .* 1000000"),
        ({"recipe": {"preset": "x" * 100_000}}, "there is no recipe 'xxx"),
        ({"signals": {"draws": 10**22}}, "signals.draws: .* 4096"),
        ({"signals": {"batch_size": 10**12}}, "signals.batch_size: .* 1000000"),
        ({"shadows": {"count": 10**9}}, "shadows.count: .* 10000"),
        ({"compute": {"threads": 10**6}}, "compute.threads: .* 1024"),
        ({"split": {"n_probe": 1}}, "split.n_probe: .* greater than or equal to 2"),
        ({"store": ""}, "Setting store is empty: is a variable of the shell not set"),
        ({"target": ""}, "Setting target is empty"),
        ({"out": ""}, "Setting out is empty"),
        ({"data": {"source": ""}}, "Setting data.source is empty"),
        ({"data": {"members": ""}}, "Setting data.members is empty"),
        ({"x" * 100_000: 1}, "There is no setting xxx"),
    ],
)
def test_values_without_a_bound_or_a_meaning_are_refused_in_a_short_sentence(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(MimiaError, match=message) as refused:
        read_settings(None, values)
    assert len(str(refused.value)) <= 400


@pytest.mark.parametrize(
    "text", [f"x = {ENDLESS}", f"[recipe]\nepochs = {ENDLESS}", "x = " + "[" * 3000 + "]" * 3000, "\\xff ="]
)
def test_file_that_no_parser_reads_is_refused_in_a_short_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.toml").write_text(text)
    with pytest.raises(MimiaError, match="is not valid TOML") as refused:
        read_settings(tmp_path / "settings.toml", {})
    assert len(str(refused.value)) <= 300 + len(str(tmp_path))
