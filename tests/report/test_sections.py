"""A section is a folder and a line of the registry."""

import sys
from pathlib import Path

import pytest

from mimia.report import html
from mimia.report.html import render_report
from mimia.report.schema import AuditReport, InferenceReport
from mimia.report.sections import SECTIONS
from mimia.report.sections.base import Section
from mimia.runtime.registry import Registry

CODE = '''
from mimia.report.sections.base import Section

class LicenceSection(Section):
    """Who may read the report."""

    def applies(self, report):
        return report.kind == "audit"

    def values(self, report):
        return {"readers": ["<owners>", report.deciding]}
'''


def test_folder_and_registry_line_are_a_section(
    audit_report: AuditReport, inference_report: InferenceReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "licence_section"
    folder.mkdir()
    (folder / "__init__.py").write_text(CODE)
    (folder / "template.html.j2").write_text("<section><h2>For {{ readers | join(' and ') }}</h2></section>")
    monkeypatch.syspath_prepend(tmp_path)
    lines = {
        "verdict": "mimia.report.sections.verdict:VerdictSection",
        "licence": "licence_section:LicenceSection",
        "run": "mimia.report.sections.run:RunSection",
    }
    registry: Registry[type[Section]] = Registry("report section", "mimia.sections", lines)
    monkeypatch.setattr(html, "SECTIONS", registry)
    page = render_report(audit_report)
    heading = f"<h2>For &lt;owners&gt; and {audit_report.deciding.replace('&', '&amp;').replace('<', '&lt;')[:10]}"
    assert page.index(audit_report.verdict.kind) < page.index(heading) < page.index("How to repeat it")
    assert "For &lt;owners&gt;" not in render_report(inference_report)
    sys.modules.pop("licence_section")


@pytest.mark.parametrize("name", SECTIONS)
def test_section_is_shown_where_it_applies_and_says_what_it_is(
    name: str, audit_report: AuditReport, inference_report: InferenceReport
) -> None:
    section = SECTIONS[name]()
    assert section.__doc__ != Section.__doc__
    assert "<section" in section.template
    only = {"attacks": "audit", "privacy": "audit", "candidates": "inference"}.get(name)
    for report in (audit_report, inference_report):
        if name != "utility":  # which was not measured
            assert section.applies(report) == (only in (None, report.kind))
        else:
            assert not section.applies(report)
