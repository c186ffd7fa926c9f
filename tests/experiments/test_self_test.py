from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from mimia.config.settings import read_settings
from mimia.experiments.self_test import CASES, Bed, Findings, altered, findings_of, rescored, self_test
from mimia.jobs.results import AuditResult
from mimia.runtime.arrays import Floats
from mimia.validity.checks import ValidityCheck
from mimia.validity.verdict import judge

DOCS = Path(__file__).parents[2] / "docs"
COMPUTE = {"device": "cpu", "threads": 1}


@pytest.mark.slow
def test_every_verdict_on_what_was_planted_is_right(tmp_path: Path) -> None:
    outcomes = list(self_test(read_settings(None, {"store": str(tmp_path), "compute": COMPUTE})))
    assert [outcome.case for outcome in outcomes] == list(CASES)
    wrong = {outcome.case.name: outcome.verdict for outcome in outcomes if not outcome.right}
    assert not wrong


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Bed:
    """A bed whose target is trained for seconds, so that it leaks nothing: leaks are planted in the scores."""
    settings = {
        "store": str(tmp_path_factory.mktemp("store")),
        "compute": COMPUTE,
        "recipe": {"patch_size": 4, "mask_ratio": 0.5, "epochs": 25, "base_learning_rate": 0.016, "batch_size": 50},
        "attacks": {"names": ["threshold"]},
    }
    return Bed(read_settings(None, settings), tmp_path_factory.mktemp("bed"))


@pytest.fixture(scope="module")
def null(bed: Bed) -> AuditResult:
    with patch("mimia.validity.pixel_network._STEPS", 10):
        return bed.audit(bed.write("unseen", bed.unseen), bed.beside())


@pytest.fixture(scope="module")
def planted(bed: Bed, null: AuditResult) -> Callable[[str], Findings]:
    """Plant a case by its name; audits are made once."""
    roles = np.array(null.scores["role"])
    is_member = roles[roles != "holdout"] == "member"
    by_name = {case.name: case for case in CASES}
    with patch("mimia.validity.pixel_network._STEPS", 10):
        audited = {name: by_name[name].plant(bed) for name in ("other files", "hidden by copies")}

    def leaking(scores: Floats) -> Floats:
        raised: Floats = scores / scores.std() + is_member
        return raised

    def plant(name: str) -> Findings:
        match name:
            case "null":
                return findings_of(null)
            case "leak":
                return rescored(null, leaking)
            case "constant":
                return rescored(null, np.ones_like)
            case "blind to the model":
                return rescored(null, leaking, by_every_model=True)
            case "reversed sign":
                return rescored(null, lambda scores: -leaking(scores))
        return audited[name]

    return plant


def always_passed(name: str) -> Callable[..., ValidityCheck]:
    return lambda *_: ValidityCheck(name, "passed", "")


class WithTiesForTheFirst:
    """A test that takes a tie for a win of the first side."""

    def __init__(self, first: Floats, second: Floats, alternative: Literal["greater", "less"]) -> None:
        raised = np.asarray(first + 1e-9, dtype=np.float64)
        self.pvalue = mannwhitneyu(raised, np.asarray(second, dtype=np.float64), alternative=alternative).pvalue


MUTATIONS: dict[str, tuple[str, Any, str]] = {
    "classifiers without a model are not believed": (
        "mimia.validity.checks.blind_check",
        always_passed("classifiers without a model"),
        "other files",
    ),
    "controls are not believed": (
        "mimia.validity.checks.control_check",
        always_passed("models that saw neither side"),
        "blind to the model",
    ),
    "near-duplicates are overlooked": (
        "mimia.validity.checks.duplicate_check",
        always_passed("near-duplicates"),
        "hidden by copies",
    ),
    "a wrong sign is overlooked": (
        "mimia.validity.checks.sign_check",
        always_passed("sign of the scores"),
        "reversed sign",
    ),
    "ties count as wins": ("mimia.evaluation.evaluate.mannwhitneyu", WithTiesForTheFirst, "constant"),
    "everything is significant": ("mimia.validity.verdict.LEVEL", 1.1, "null"),
    "nothing is significant": ("mimia.validity.verdict.LEVEL", 0.0, "leak"),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_broken_gate_fails_the_case_that_is_made_for_it(
    planted: Callable[[str], Findings], monkeypatch: pytest.MonkeyPatch, mutation: str
) -> None:
    where, what, name = MUTATIONS[mutation]
    expected = next(case.expected for case in CASES if case.name == name)
    assert judge(*planted(name)).kind == expected
    monkeypatch.setattr(where, what)
    assert judge(*planted(name)).kind != expected


def test_findings_of_an_audit_gives_its_verdict(null: AuditResult) -> None:
    assert judge(*findings_of(null)) == null.report.verdict


def test_each_verdict_is_expected_of_a_case() -> None:
    assert {case.expected for case in CASES} == {"leaks", "no leak found", "inconclusive", "invalid"}


def test_altered_images_differ_in_one_pixel_by_one_shade() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 1, 8, 8), dtype=np.uint8)
    difference = np.abs(altered(pixels).astype(int) - pixels)
    assert (difference.sum(axis=(1, 2, 3)) == 1).all()


def test_docs_have_every_case() -> None:
    text = (DOCS / "validity.md").read_text()
    for case in CASES:
        assert f"| {case.name} | {case.planted} | *{case.expected}* |" in text
