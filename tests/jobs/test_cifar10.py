"""The figures that the documentation gives for CIFAR-10, measured anew."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mimia.config.settings import read_settings
from mimia.jobs.audit import audit


@pytest.mark.slow
def test_members_of_a_small_training_are_found(data_file: Callable[[str], Path], tmp_path: Path) -> None:
    settings = read_settings(
        None,
        {
            "store": str(tmp_path / "store"),
            "data": {"source": str(data_file("cifar10.parquet"))},
            "split": {"n_members": 400, "n_nonmembers": 4000},
        },
    )
    first = audit(settings=settings)
    aucs = {evaluation.attack: evaluation.auc.value for evaluation in first.report.evaluations}
    assert first.report.verdict.kind == "leaks"
    assert aucs["threshold"] is not None
    assert aucs["threshold"] >= 0.8
    assert aucs["calibrated"] is not None
    assert aucs["calibrated"] >= 0.97
    assert audit(settings=settings).scores == first.scores
