from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mimia.config.settings import read_settings
from mimia.data.imageset import ImageSet
from mimia.jobs.audit import audit
from mimia.pretraining.command import pretrain
from mimia.runtime.errors import MimiaError

pytestmark = pytest.mark.usefixtures("quick_network")
RECIPE = {"preset": "mae-nano", "patch_size": 4, "mask_ratio": 0.5, "epochs": 250, "base_learning_rate": 0.016}


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    store = str(tmp_path_factory.mktemp("store"))
    quick = {"compute": {"device": "cpu", "threads": 1}, "signals": {"draws": 4}}
    return {"store": store, "recipe": RECIPE, "attacks": {"names": ["calibrated"]}, **quick}


def write(folder: Path, images: ImageSet) -> str:
    folder.mkdir()
    for number, pixels in enumerate(images.pixels):
        Image.fromarray(pixels[0]).save(folder / f"{number:04d}.png")
    return str(folder)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, common: dict[str, Any], digits: ImageSet) -> tuple[Path, str]:
    """A model with 120 canaries among its images, and images like them that it has not seen."""
    root = tmp_path_factory.mktemp("planted")
    rows = np.random.default_rng(0).permutation(len(digits))
    source = write(root / "source", digits.take(rows[:200]))
    reference = write(root / "reference", digits.take(rows[200:900]))
    split = {"n_members": 60}
    settings = read_settings(None, common | {"data": {"source": source}, "split": split, "canaries": {"count": 120}})
    return pretrain(settings, root / "model"), reference


def test_canaries_bound_epsilon_from_one_training(common: dict[str, Any], planted: tuple[Path, str]) -> None:
    model, reference = planted
    data = {"canaries": str(model / "canaries"), "reference": reference}
    report = audit(settings=read_settings(None, common | {"target": str(model), "data": data})).report
    assert report.verdict.kind == "leaks"
    assert report.drawn_at_random
    assert report.one_run is not None
    assert 0.3 < report.one_run.value <= report.one_run.ceiling < 4
    assert report.run.counts["members"] + report.run.counts["non-members"] == 120


def test_audit_of_given_sides_claims_no_bound(common: dict[str, Any], planted: tuple[Path, str]) -> None:
    model, reference = planted
    canaries = model / "canaries"
    data = {"members": str(canaries / "included"), "nonmembers": str(canaries / "excluded"), "reference": reference}
    report = audit(settings=read_settings(None, common | {"target": str(model), "data": data})).report
    assert report.one_run is None
    assert not report.drawn_at_random


@pytest.mark.parametrize(
    "data", [{"reference": None}, {"members": "digits"}, {"nonmembers": "digits"}], ids=["alone", "members", "others"]
)
def test_canaries_are_both_sides_and_need_a_reference(
    common: dict[str, Any], planted: tuple[Path, str], data: dict[str, str | None]
) -> None:
    model, reference = planted
    given = {"canaries": str(model / "canaries"), "reference": reference} | data
    with pytest.raises(MimiaError, match="pass --canaries and --reference"):
        audit(settings=read_settings(None, common | {"target": str(model), "data": given}))
