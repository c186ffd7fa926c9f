"""Each family from pre-training to the result of an audit, at the size of a smoke test."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mimia.config.families import FAMILIES
from mimia.config.settings import read_settings
from mimia.jobs.audit import audit
from mimia.models.checkpoints import native
from mimia.models.registry import family_named
from mimia.models.tokenizer import TokenModel

pytestmark = pytest.mark.usefixtures("quick_network")


@pytest.mark.parametrize("family", FAMILIES)
def test_model_is_trained_and_audited(family: str, data_file: Callable[[str], Path], tmp_path: Path) -> None:
    table = pq.read_table(data_file("cifar10.parquet"))
    pq.write_table(table.take(np.random.default_rng(0).permutation(len(table))[:60]), tmp_path / "images.parquet")
    settings = {
        "store": str(tmp_path / "store"),
        "data": {"source": str(tmp_path / "images.parquet"), "image_size": 16},
        "split": {"n_members": 10},
        "recipe": {"preset": f"{family}-micro", "size": "nano", "epochs": 2, "batch_size": 10},
        "signals": {"draws": 2},
        "attacks": {"names": ["calibrated"]},
        "compute": {"device": "cpu", "threads": 1},
    }
    result = audit(settings=read_settings(None, settings))
    run = result.report.run
    assert [(model.name, model.images) for model in run.models] == [("target", 10), ("shadow 1", 10), ("shadow 2", 10)]
    assert len({model.id for model in run.models}) == 3
    assert np.isfinite([exhibit.distance for exhibit in run.gallery]).all()
    scores = np.array(result.scores["calibrated score"], dtype=float)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) == len(scores)
    models = [native.load(path) for path in (tmp_path / "store" / "models").iterdir() if path.is_dir()]
    assert len(models) == 4  # the last is untrained
    assert {model.architecture.family for model in models} == {family_named(family).architecture_name}
    tokenizers = {model.tokenizer.fingerprint for model in models if isinstance(model, TokenModel)}
    assert len(tokenizers) == family_named(family).predicts_tokens
