import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from mimia.report.schema import REPORT_FORMAT, AuditReport, InferenceReport, Run

DOCUMENTED = Path(__file__).resolve().parents[2] / "docs" / "report.schema.json"


def test_documented_schema_is_the_one_that_is_used() -> None:
    rewrite = (
        "from mimia.report.schema import REPORT_FORMAT; import json; "
        "print(json.dumps(REPORT_FORMAT.json_schema(), indent=1))"
    )
    assert json.loads(DOCUMENTED.read_text()) == REPORT_FORMAT.json_schema(), (
        f"write it anew: .venv/bin/python -c '{rewrite}' > docs/report.schema.json"
    )


def test_report_cannot_be_changed(report: AuditReport | InferenceReport) -> None:
    for part, fields in ((report, type(report).model_fields), (report.run, Run.model_fields)):
        for field in fields:
            with pytest.raises(ValidationError, match="frozen"):
                setattr(part, field, getattr(part, field))


def test_report_with_an_unknown_key_is_refused_wherever_it_stands(report: AuditReport | InferenceReport) -> None:
    for part in (
        "",
        "verdict",
        "verdict.checks.0",
        "validity",
        "validity.blind.0",
        "run",
        "run.models.0",
        "run.histograms.0",
        "run.gallery.0",
        "run.left_out.0",
    ):
        values = json.loads(report.model_dump_json())
        place = values
        for key in filter(None, part.split(".")):
            place = place[int(key) if key.isdigit() else key]
        place["surprise"] = 1
        with pytest.raises(ValidationError, match=rf"{part}.*surprise"):
            type(report).model_validate_json(json.dumps(values))
