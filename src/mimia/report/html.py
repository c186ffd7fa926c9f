"""A report as one self-contained HTML file that opens offline."""

from collections.abc import Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from mimia.evaluation.estimate import Estimate, p_value_text
from mimia.evaluation.evaluate import Evaluation
from mimia.evaluation.utility import Utility
from mimia.evaluation.verdict import RULE
from mimia.report.figures import histogram_figure, roc_figure, training_figure
from mimia.report.schema import AuditReport, Histogram, InferenceReport, Run

_HISTOGRAMS = 4  # that are shown without a click
_MARKS = {"passed": "✓", "noted": "!", "failed": "✗"}
_ACCENTS = {"leaks": "#b3261e", "no leak found": "#2e7d4f", "invalid": "#a86500"}


def render(report: AuditReport | InferenceReport) -> str:
    """Render a report; the same report gives the same text."""
    values: dict[str, object] = {
        "report": report,
        "run": report.run,
        "accent": _ACCENTS[report.verdict.kind],
        "histograms": [histogram_figure(histogram) for histogram in report.run.histograms],
        "most": _HISTOGRAMS,
        "captions": [_caption(histogram) for histogram in report.run.histograms],
        "training": _training(report.run),
        "rule": RULE,
        "marks": _MARKS,
    }
    if isinstance(report, AuditReport):
        values["rows"] = _rows
        values["utility_rows"] = _utility_rows
        values["roc"] = roc_figure(report.evaluations, report.measured.blind, report.run.counts["non-members"])
    return render_page(report.kind, values)


def render_page(kind: str, values: Mapping[str, object]) -> str:
    """Fill in the template of a kind of page."""
    environment = Environment(
        loader=PackageLoader("mimia.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["p_value"] = p_value_text
    return environment.get_template(f"{kind}.html.j2").render(values)


def _training(run: Run) -> str | None:
    models = [model for model in run.models if model.losses]
    return training_figure(models) if models else None


def _caption(histogram: Histogram) -> str:
    if histogram.attack == "threshold":
        return (
            "Distances between image and reconstruction, the mean over all masks: smaller means better reconstructed."
        )
    return f"Scores of the attack “{histogram.attack}”: higher means more likely a member."


def _rows(evaluation: Evaluation) -> Sequence[tuple[str, Estimate | None]]:
    return (
        ("ROC area", evaluation.area),
        ("found at 1 % false alarms", evaluation.tpr_at_1_percent),
        ("found at 0.1 %", evaluation.tpr_at_01_percent),
        ("balanced accuracy", evaluation.balanced_accuracy),
        ("precision", evaluation.precision),
        ("recall", evaluation.recall),
    )


def _utility_rows(utility: Utility) -> Sequence[tuple[str, Estimate | None]]:
    return (
        ("linear probe", utility.linear_probe),
        ("20 nearest neighbours", utility.nearest_neighbours),
        ("guessed of hidden patches", utility.explained),
    )
