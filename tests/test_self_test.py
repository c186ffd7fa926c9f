from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from mimia.arrays import Floats
from mimia.config import Settings, read_settings
from mimia.evaluation.verdict import Check
from mimia.self_test import CASES, Outcome, altered, self_test

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    store = str(tmp_path_factory.mktemp("store"))  # one for all: what is mutated comes after models and signals
    return read_settings(None, {"store": store, "compute": {"device": "cpu", "threads": 1}})


@pytest.mark.slow
def test_every_verdict_on_what_was_planted_is_right(settings: Settings) -> None:
    outcomes = list(self_test(settings))
    assert [outcome.case for outcome in outcomes] == list(CASES)
    wrong = {outcome.case.name: outcome.verdict for outcome in outcomes if not outcome.right}
    assert not wrong


def test_nothing_is_expected_of_all_cases() -> None:
    assert {case.expected for case in CASES} == {"leaks", "no leak found", "invalid"}


def always_passed(name: str) -> Callable[..., Check]:
    return lambda *_: Check(name, "passed", "")


class WithTiesForTheFirst:
    """A test that takes a tie for a win of the first side."""

    def __init__(self, first: Floats, second: Floats, alternative: Literal["greater", "less"]) -> None:
        raised = np.asarray(first + 1e-9, dtype=np.float64)
        self.pvalue = mannwhitneyu(raised, np.asarray(second, dtype=np.float64), alternative=alternative).pvalue


MUTATIONS: dict[str, tuple[str, Any, Sequence[str]]] = {
    "classifiers without a model are not believed": (
        "mimia.evaluation.verdict._blind_check",
        always_passed("classifiers without a model"),
        ["other files"],
    ),
    "controls are not believed": (
        "mimia.evaluation.verdict._control_check",
        always_passed("models that saw neither side"),
        ["blind to the model"],
    ),
    "near-duplicates are overlooked": ("mimia.gate.near_duplicates", lambda *_: [], ["hidden by copies"]),
    "a wrong sign is overlooked": (
        "mimia.evaluation.verdict._sign_check",
        always_passed("sign of the scores"),
        ["reversed sign"],
    ),
    "ties count as wins": ("mimia.evaluation.evaluate.mannwhitneyu", WithTiesForTheFirst, ["constant"]),
    "everything is significant": ("mimia.evaluation.verdict._LEVEL", 1.1, ["null"]),
    "nothing is significant": ("mimia.evaluation.verdict._LEVEL", 0.0, ["leak"]),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_gate_that_is_broken_breaks_the_self_test(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, mutation: str
) -> None:
    where, what, cases = MUTATIONS[mutation]
    sound = list(self_test(settings, cases))
    assert all(outcome.right for outcome in sound)
    monkeypatch.setattr(where, what)
    broken: list[Outcome] = list(self_test(settings, cases))
    assert not any(outcome.right for outcome in broken)


def test_altered_images_differ_in_one_pixel_by_one_shade() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 1, 8, 8), dtype=np.uint8)
    difference = np.abs(altered(pixels).astype(int) - pixels)
    assert (difference.sum(axis=(1, 2, 3)) == 1).all()


def test_docs_have_every_case() -> None:
    text = (DOCS / "validity.md").read_text()
    for case in CASES:
        assert f"| {case.name} | {case.planted} | *{case.expected}* |" in text
