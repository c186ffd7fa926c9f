"""Each family from images to a report, at the size of a smoke test."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mimia.audit import AuditResult, audit
from mimia.cli import app
from mimia.config import read_settings
from mimia.encoders.beit import Beit
from mimia.encoders.checkpoints import native
from mimia.report.files import read_report, write_run

FAMILIES = {"mae": "mae", "simmim": "simmim", "swin": "transformers", "beit": "beit"}
every_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture
def images(data_file: Callable[[str], Path], tmp_path: Path) -> dict[str, Path]:
    """20 images of CIFAR-10 that are trained on, 100 that are not, and a file of both."""
    table = pq.read_table(data_file("cifar10.parquet"))
    table = table.take(np.random.default_rng(0).permutation(len(table))[:120])
    parts = {"members": table.slice(0, 20), "nonmembers": table.slice(20), "all": table}
    for name, part in parts.items():
        pq.write_table(part, tmp_path / f"{name}.parquet")
    return {name: tmp_path / f"{name}.parquet" for name in parts}


def run_audit(family: str, store: Path, **values: Any) -> AuditResult:
    recipe = {"preset": f"{family}-micro", "size": "nano", "epochs": 2, "batch_size": 10} | values.pop("recipe", {})
    settings = {
        "store": str(store),
        "recipe": recipe,
        "signals": {"draws": 2},
        "compute": {"device": "cpu", "threads": 1},
    }
    return audit(read_settings(None, settings | values))


def check_report(result: AuditResult, directory: Path) -> None:
    run = result.report.run
    assert [model.name for model in run.models] == ["target", "shadow 1", "shadow 2"]
    assert len({model.id for model in run.models}) == 3
    assert [model.images for model in run.models] == [20, 20, 20]
    assert run.image_shape == (3, 32, 32)
    assert run.counts["members"] == 20
    assert np.isfinite([exhibit.distance for exhibit in run.gallery]).all()
    scores = np.array(result.scores["calibrated score"], dtype=float)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) == len(scores)
    page = write_run(directory, result.report, result.scores)
    assert "</html>" in page.read_text()
    assert read_report(directory) == result.report


@every_family
def test_model_that_was_pretrained_is_audited(family: str, images: dict[str, Path], tmp_path: Path) -> None:
    target, store = tmp_path / "target", tmp_path / "store"
    done = CliRunner().invoke(
        app,
        [
            *("pretrain", "--data", str(images["members"]), "--recipe", f"{family}-micro", "--epochs", "2"),
            *(
                "--set",
                "recipe.size=nano",
                "--set",
                "recipe.batch_size=10",
                "--device",
                "cpu",
                "--set",
                "compute.threads=1",
            ),
            *("--store", str(store), "--out", str(target)),
        ],
    )
    assert done.exit_code == 0, done.output
    config = native.load_config(target)
    assert config.architecture.family == FAMILIES[family]
    assert config.spec.image_size == 32
    inspected = CliRunner().invoke(app, ["inspect", str(target)])
    assert inspected.exit_code == 0, inspected.output
    assert re.search(rf"^family +{FAMILIES[family]}$", inspected.output, re.MULTILINE)
    assert re.search(r"^access +decoder", inspected.output, re.MULTILINE)
    sides = {side: str(images[side]) for side in ("members", "nonmembers")}
    # Its shadows are trained as it was, whatever recipe is named here.
    result = run_audit(family, store, target=str(target), data=sides, recipe={"epochs": 1})
    check_report(result, tmp_path / "report")
    assert [len(model.losses) for model in result.report.run.models] == [2, 2, 2]
    assert result.report.run.models[0].id == native.model_id(target)


@every_family
def test_model_that_is_trained_here_is_audited_twice_alike(
    family: str, images: dict[str, Path], tmp_path: Path
) -> None:
    values = {"data": {"source": str(images["all"])}, "split": {"n_members": 20}}
    result = run_audit(family, tmp_path / "store", **values)
    check_report(result, tmp_path / "report")
    models = [native.load(path) for path in (tmp_path / "store" / "models").iterdir() if path.is_dir()]
    assert len(models) == 4  # the last is untrained
    assert len({model.tokenizer.fingerprint for model in models if isinstance(model, Beit)}) == (family == "beit")
    again = run_audit(family, tmp_path / "other store", **values)
    assert again.scores == result.scores
    assert again.report.evaluations == result.report.evaluations
