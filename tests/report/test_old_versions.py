"""Reports that earlier versions wrote."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mimia.report.files import read_report
from mimia.report.html import render_report
from mimia.report.schema import SCHEMA_VERSION, AuditReport
from mimia.runtime.errors import MimiaError

WRITTEN = Path(__file__).with_name("old") / "audit-2.json"


def leaves(value: Any) -> Iterator[str]:
    """All values that are no lists and no objects."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from leaves(each)
    else:
        yield repr(value)


def test_version_2_is_read_with_todays_names() -> None:
    old, report = json.loads(WRITTEN.read_text()), read_report(WRITTEN)
    assert isinstance(report, AuditReport)
    assert report.schema_version == SCHEMA_VERSION
    for before, evaluation in zip(old["evaluations"], report.evaluations, strict=True):
        assert evaluation.auc.value == before["area"]["value"]
        assert evaluation.p_value_holm == before["corrected"]
        assert (evaluation.fpr, evaluation.tpr) == (before["false_rate"], before["true_rate"])
    assert report.validity.blind_separates is old["measured"]["apart"]
    assert report.validity.controls[0].auc.low == old["measured"]["controls"][0]["area"]["low"]
    assert report.run.counts["population"] == old["run"]["counts"]["known non-members"]
    assert report.run.query_id == old["run"]["masks"]
    assert set(report.comparisons) == set(old["comparisons"])
    assert report.verdict.sentence.partition(";")[0] in render_report(report)


def test_settings_of_version_2_have_todays_names() -> None:
    settings = read_report(WRITTEN).run.settings
    assert settings["recipe"]["defences"] == {"early_stopping": {"patience": 45}}
    assert settings["recipe"]["crop_scale"] == [0.2, 1.0]
    assert "n_population" in settings["split"]
    assert not {"patience", "crop_area", "dp_epsilon"} & set(settings["recipe"])


def test_translation_loses_no_value_but_those_of_defences_that_were_off() -> None:
    old = json.loads(WRITTEN.read_text())
    for content in (old, new := json.loads(read_report(WRITTEN).model_dump_json())):
        del content["run"]["settings"]
    assert Counter(leaves(old)) - Counter(leaves(new)) == Counter(["2"])
    evaluations = len(old["evaluations"]) + len(old["measured"]["blind"])
    # There was no AUC on the shadows, no strength of a leak, and nothing on the preparation.
    added = {repr(SCHEMA_VERSION): 1, "None": evaluations + 2}
    assert Counter(leaves(new)) - Counter(leaves(old)) == Counter(added)


def test_version_3_is_read_with_todays_names() -> None:
    file = WRITTEN.with_name("audit-3.json")
    old, report = json.loads(file.read_text()), read_report(file)
    assert isinstance(report, AuditReport)
    assert report.deciding == old["strongest"]
    assert [each.auc.value for each in report.evaluations] == [each["auc"]["value"] for each in old["evaluations"]]
    assert report.deciding in render_report(report)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda old: old["run"].update(schema_version=1), "version 1, from before the validity checks: repeat the run"),
        (lambda old: old.update(schema_version=9), r"version 9, .* up to 4: upgrade mimia\."),
        (lambda old: old.update(surprise=1), r"not a report that this version of mimia reads \(.*surprise.*\)"),
    ],
    ids=["too old", "newer", "damaged"],
)
def test_what_cannot_be_translated_is_refused_in_one_sentence(
    change: Callable[[dict[str, Any]], None], reason: str, tmp_path: Path
) -> None:
    old = json.loads(WRITTEN.read_text())
    change(old)
    (tmp_path / "report.json").write_text(json.dumps(old))
    with pytest.raises(MimiaError, match=reason) as refusal:
        read_report(tmp_path)
    assert "\n" not in str(refusal.value)
