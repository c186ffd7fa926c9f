"""The figures that the documentation gives for CIFAR-10, measured anew."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mimia.audit import audit
from mimia.config import read_settings


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
    first = audit(settings)
    areas = {evaluation.attack: evaluation.area.value for evaluation in first.report.evaluations}
    assert first.report.verdict.kind == "leaks"
    assert areas["threshold"] is not None
    assert areas["threshold"] >= 0.8
    assert areas["calibrated"] is not None
    assert areas["calibrated"] >= 0.97
    assert audit(settings).scores == first.scores
