"""Audits of models that others trained: the layout of the file changes nothing."""

import hashlib
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from mimia.cli.app import app
from mimia.config.recipes import Recipe
from mimia.config.settings import AttackSettings, Settings, read_settings
from mimia.config.toml import to_toml
from mimia.data.imageset import ImageSet
from mimia.data.loading import load_images
from mimia.jobs.audit import audit
from mimia.models.checkpoints import native
from mimia.models.checkpoints.export import export
from mimia.models.mae import MAEArchitecture, of_decoder
from mimia.pipeline.context import prepare
from mimia.pretraining.command import pretrain
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.pool import pretrained
from mimia.pretraining.specs import spec_for
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store

pytestmark = pytest.mark.usefixtures("quick_network")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, digits: ImageSet) -> Path:
    """A store, and folders of members and non-members."""
    folder = tmp_path_factory.mktemp("run")
    rows = np.random.default_rng(0).permutation(len(digits))
    for side, chosen in {"members": rows[:30], "nonmembers": rows[30:130]}.items():
        (folder / side).mkdir()
        for row in chosen:
            Image.fromarray(digits.pixels[row, 0]).save(folder / side / f"{row:04d}.png")
    return folder


def settings_of(folder: Path, preset: str = "mae-nano", **changes: Any) -> Settings:
    values = {
        "store": str(folder / "store"),
        "data": {"members": str(folder / "members"), "nonmembers": str(folder / "nonmembers")},
        "recipe": {"preset": preset, "patch_size": 4, "mask_ratio": 0.5, "epochs": 60, "batch_size": 30},
        "signals": {"draws": 2},
        "compute": {"device": "cpu", "threads": 1},
    }
    return read_settings(None, values | changes)


def trained(folder: Path, preset: str) -> Path:
    """Train a model on the members, for mimia's own layout."""
    settings = settings_of(folder, preset, data={"source": str(folder / "members")})
    return pretrain(settings, folder / f"trained {preset}")


@pytest.fixture(scope="module")
def own(folder: Path) -> Path:
    return trained(folder, "mae-nano")


def said_of(directory: Path) -> dict[str, Any]:
    """What mimia's own directory says of its model, for files that do not say it."""
    spec = native.load_config(directory).spec
    return {"mean": spec.mean, "std": spec.std, "heads": 4, "decoder_heads": 4, "mask_ratio": spec.mask_ratio}


def as_official(own: Path, path: Path) -> Path:
    torch.save({"model": native.load(own).state_dict(), "args": Namespace(norm_pix_loss=False)}, path)
    return path


def as_transformers(own: Path, path: Path) -> Path:
    export(own, path)
    return path


@pytest.mark.parametrize("write", [as_official, as_transformers])
def test_layout_of_the_target_changes_no_score_and_no_figure(
    tmp_path: Path, folder: Path, own: Path, write: Callable[[Path, Path], Path]
) -> None:
    expected = audit(settings=settings_of(folder, target=str(own)))
    target = write(own, tmp_path / "target")
    found = audit(settings=settings_of(folder, target=str(target), checkpoint=said_of(own)))
    assert found.scores == expected.scores
    assert found.report.evaluations == expected.report.evaluations
    weights = target if target.is_file() else target / "model.safetensors"
    assert found.report.run.models[0].id == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert found.report.run.models[1:] == expected.report.run.models[1:]


def test_shadows_are_trained_as_the_file_says_and_the_written_settings_repeat_it(
    tmp_path: Path, folder: Path, own: Path
) -> None:
    args = Namespace(norm_pix_loss=False, mask_ratio=0.5, epochs=40, batch_size=30, blr=4e-3, weight_decay=0.1)
    torch.save({"model": native.load(own).state_dict(), "args": args}, tmp_path / "mae.pth")
    changes: dict[str, Any] = {"target": str(tmp_path / "mae.pth"), "checkpoint": said_of(own)}
    result = audit(settings=settings_of(folder, recipe={"weight_decay": 0.05}, **changes))
    recipe = result.report.run.settings["recipe"]
    assert {name: recipe[name] for name in ("epochs", "batch_size", "base_learning_rate")} == {
        "epochs": 40,
        "batch_size": 30,
        "base_learning_rate": 4e-3,
    }
    assert recipe["weight_decay"] == 0.05  # what is given wins
    again = audit(settings=result.save(tmp_path / "run").parent / "settings.toml")
    assert again.scores == result.scores
    assert [each.id for each in again.report.run.models] == [each.id for each in result.report.run.models]
    named = audit(settings=settings_of(folder, "mae-nano", **changes))
    assert named.report.run.settings["recipe"]["epochs"] == 60  # a recipe that is named says all


@pytest.fixture(scope="module")
def unstated(folder: Path) -> dict[str, Any]:
    """Settings with a file that says nothing of its training, which took 100 epochs, and is no size that has a name."""
    recipe = {"patch_size": 4, "mask_ratio": 0.5, "epochs": 100, "batch_size": 30}
    pool = load_images(str(folder / "members"), store=Store(folder / "store"))
    sizes = MAEArchitecture(width=96, depth=3, heads=4, decoder_width=32, decoder_depth=1, decoder_heads=4)
    trained = Recipe.model_validate({"preset": "mae-micro", **recipe})
    context = TrainingContext(ComputeSettings(device="cpu", threads=1), Store(folder / "store"), architecture=sizes)
    directory = pretrained(pool, spec_for(pool, trained), trained, 5, context)
    path = folder / "unstated.pth"
    torch.save({"model": native.load(directory).state_dict()}, path)
    return {
        "target": str(path),
        "checkpoint": said_of(directory) | {"target_space": "normalised"},
        "recipe": {"batch_size": 30},
    }


def test_epochs_that_no_file_states_are_found_by_the_errors_on_unseen_images(
    tmp_path: Path, folder: Path, unstated: dict[str, Any]
) -> None:
    result = audit(settings=settings_of(folder, **unstated))
    chosen = result.report.run.settings["shadows"]
    assert chosen["size"] == "target"
    assert 50 <= chosen["epochs"] <= 200
    assert any(f"shadows are trained for {chosen['epochs']}" in each for each in result.report.run.notes)
    assert any("continued from a public checkpoint, pass that" in each for each in result.report.run.notes)
    again = audit(settings=result.save(tmp_path / "run").parent / "settings.toml")
    assert [each.id for each in again.report.run.models] == [each.id for each in result.report.run.models]
    assert again.scores == result.scores


def test_shadows_of_a_target_that_takes_too_long_are_smaller_and_the_report_says_so(
    folder: Path, unstated: dict[str, Any]
) -> None:
    result = audit(settings=settings_of(folder, shadows={"minutes": 1e-4, "epochs": 5}, **unstated))
    assert result.report.run.settings["shadows"]["size"] == "nano"
    assert any("shadows of the target's size would train for about" in each for each in result.report.run.notes)


def test_simmim_is_audited_with_shadows_of_its_own_kind(tmp_path: Path, folder: Path) -> None:
    directory = trained(folder, "simmim-nano")
    torch.save({"model": native.load(directory).state_dict()}, tmp_path / "simmim.pth")
    changes: dict[str, Any] = {
        "target": str(tmp_path / "simmim.pth"),
        "checkpoint": said_of(directory) | {"cell_size": 4},
    }
    result = audit(settings=settings_of(folder, "simmim-nano", **changes))
    assert result.scores == audit(settings=settings_of(folder, "simmim-nano", target=str(directory))).scores
    with pytest.raises(MimiaError, match=r"of another family than the recipe mae-nano, .*simmim-nano, simmim-micro"):
        audit(settings=settings_of(folder, **changes))


def test_encoder_alone_is_audited_with_a_decoder_that_is_fitted_to_it(tmp_path: Path, folder: Path, own: Path) -> None:
    state = {name: value for name, value in native.load(own).state_dict().items() if not of_decoder(name)}
    torch.save(state, tmp_path / "mae.pth")
    changes: dict[str, Any] = {"target": str(tmp_path / "mae.pth"), "checkpoint": said_of(own)}
    assert audit(settings=settings_of(folder, **changes)).report.run.access.startswith("encoder (D3")
    with pytest.raises(MimiaError, match=r"mae\.pth has no decoder of its own"):
        audit(settings=settings_of(folder, **changes, decoder={"source": "own"}))


def encoder_of(family: str, trained: Path, to: Path) -> Path:
    """Write the encoder alone of a model, as the family's own tools do; that of SimMIM has no mask token."""
    model: Any = native.load(trained)
    if family == "simmim":
        state = {name: value for name, value in model.state_dict().items() if name.startswith("encoder.")}
        del state["encoder.mask_token"]
        torch.save({"model": state}, to)
    else:
        model.model.base_model.save_pretrained(to)
    return to


@pytest.mark.parametrize(
    "family", ["simmim", *(pytest.param(name, marks=pytest.mark.slow) for name in ("swin", "beit"))]
)
def test_encoder_of_any_family_is_audited_by_the_attacks_that_inspect_lists(
    tmp_path: Path, folder: Path, family: str
) -> None:
    recipe: dict[str, Any] = {"preset": f"{family}-nano", "patch_size": 2, "epochs": 3, "batch_size": 30}
    recipe |= {"vocabulary": 16} if family == "beit" else {}
    source = {"source": str(folder / "members")}
    own = pretrain(settings_of(folder, data=source, recipe=recipe), tmp_path / "trained")
    spec = native.load_config(own).spec
    facts: dict[str, Any] = {"mean": spec.mean, "std": spec.std, "mask_ratio": spec.mask_ratio}
    facts |= {} if family == "beit" else {"cell_size": spec.cell * spec.patch_size}
    target = encoder_of(family, own, tmp_path / "encoder")
    settings = settings_of(
        folder, recipe=recipe, target=str(target), checkpoint=facts, decoder={"epochs": 1}, attacks={"names": ["all"]}
    )
    (tmp_path / "settings.toml").write_text(to_toml(settings))
    context = prepare(settings, {"members": str(folder / "members"), "nonmembers": str(folder / "nonmembers")}, {})
    described = CliRunner().invoke(app, ["inspect", str(target), "--config", str(tmp_path / "settings.toml")]).output
    (listed,) = (line.removeprefix("attacks").strip() for line in described.splitlines() if line.startswith("attacks"))
    assert listed.split(", ") == [*context.attacks]
    assert "dov4mm" in context.not_run
    assert "calibrated" in context.attacks
    result = audit(settings=settings.model_copy(update={"attacks": AttackSettings(names=("calibrated",))}))
    assert result.report.run.access.startswith("encoder (D3")
    scores = np.array(result.scores["calibrated score"], dtype=float)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > len(scores) // 2
