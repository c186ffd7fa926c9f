"""What the public model shows of a model that was continued from it: the figures of docs/references.md."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from mimia.data.loading import load_images
from mimia.jobs.audit import audit
from mimia.models.checkpoints import native
from mimia.pretraining.interface import pretrain
from mimia.runtime.store import Store

DATA = Path(os.environ.get("MIMIA_DATA", "../shared/data"), "cifar10.parquet")
SIZES = {"public": 4000, "private": 200, "others": 1000, "reference": 1200}


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not there: set MIMIA_DATA")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_public_model_alone_shows_the_leak_in_two_minutes(seed: int, tmp_path: Path) -> None:
    store = tmp_path / "store"
    pixels = load_images(str(DATA), store=Store(store)).pixels
    rows = np.random.default_rng(seed).permutation(len(pixels))
    parts = dict(zip(SIZES, np.split(rows, np.cumsum([*SIZES.values()])), strict=False))
    recipe = {"preset": "mae-micro", "seed": seed}
    base, continued = tmp_path / "base", tmp_path / "continued"
    for directory, part, more in (
        (base, "public", {"epochs": 30}),
        (continued, "private", {"epochs": 100, "start_from": str(base)}),
    ):
        model = pretrain(pixels[parts[part]], recipe | more, store=store)
        directory.mkdir()
        native.save(directory, model)
    started = time.monotonic()
    result = audit(
        continued,
        members=pixels[parts["private"]],
        nonmembers=pixels[parts["others"]],
        reference=pixels[parts["reference"]],
        references=[base],
        settings={"store": str(store), "compute": {"device": "cpu", "threads": 1}},
    )
    assert time.monotonic() - started < 120
    assert result.verdict.kind == "leaks"
    aucs = {each.attack: each.auc.value for each in result.evaluations}
    assert aucs["threshold"] is not None
    assert aucs["threshold"] < 0.65
    assert aucs["calibrated"] is not None
    assert aucs["calibrated"] > 0.94
