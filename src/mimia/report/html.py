"""A report as one self-contained HTML file that opens offline."""

from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined

from mimia.evaluation.intervals import p_value_text
from mimia.report.schema import Report
from mimia.report.sections import SECTIONS

_ACCENTS = {
    "Leaks": "#b3261e",  # of reports from before the strength
    "Leaks (slight)": "#c2571a",
    "Leaks (clear)": "#b3261e",
    "Leaks (severe)": "#7a0c0c",
    "No leak found": "#2e7d4f",
    "Inconclusive": "#4a5a78",
    "Invalid": "#a86500",
}
_TITLES = {
    "audit": "Membership audit of an image encoder",
    "inference": "Membership inference for candidate images",
}


def render_report(report: Report) -> str:
    """Return a report as an HTML page; the same report gives the same text."""
    environment = _environment()
    shown = [
        environment.from_string(section.template).render(report=report, run=report.run, **section.values(report))
        for section in (make() for make in SECTIONS.values())
        if section.applies(report)
    ]
    return environment.get_template("report.html.j2").render(
        title=_TITLES[report.kind],
        accent=_ACCENTS[report.verdict.title],
        run=report.run,
        sections="\n".join(shown),
    )


def render_page(template: str, values: Mapping[str, object]) -> str:
    """Fill in the text of a template that may extend ``page.html.j2``."""
    return _environment().from_string(template).render(values)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mimia.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["p_value"] = p_value_text
    return environment
