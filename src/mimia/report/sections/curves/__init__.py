"""ROC curves, distributions of scores, and training losses."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from mimia.report.sections.base import ReportPart, Section

if TYPE_CHECKING:
    from mimia.report.schema import Report

_SHOWN = 4  # histograms that are shown without a click
_OF_ROC = (
    "ROC curves on logarithmic axes: the left side shows how many members are found when almost no non-member is "
    "accused."
)
_OF_DISTANCES = (
    "Distances between image and reconstruction, the mean over all masks: smaller means better reconstructed."
)
_OF_TRAINING = {
    "audit": "Training loss of the target and of the shadows. Similar curves mean that the shadows imitate the target.",
    "inference": "Training loss of the target, where its checkpoint records it, and of the shadows.",
}


class Histogram(ReportPart):
    """How the scores of an attack are distributed.

    Attributes:
        attack: Its name.
        quantity: What is counted, for the axis.
        edges: Borders of the bins.
        counts: Number of images in each bin, for each group of images.
        threshold: Learned on shadows, in the same quantity.
    """

    attack: str
    quantity: str
    edges: tuple[float, ...]
    counts: dict[str, tuple[int, ...]]
    threshold: float


class _Drawing(NamedTuple):
    svg: str
    caption: str


class CurvesSection(Section):
    """The ROC curves of an audit, the distribution of each attack's scores, and the training losses."""

    def applies(self, report: "Report") -> bool:
        """Return whether there is anything to draw."""
        return report.kind == "audit" or bool(report.run.histograms) or any(each.losses for each in report.run.models)

    def values(self, report: "Report") -> Mapping[str, object]:
        """Return the figures that are shown at once, and those behind a click."""
        from mimia.report.sections.curves.figures import histogram_figure, roc_figure, training_figure

        histograms = [_Drawing(histogram_figure(each), _caption(each)) for each in report.run.histograms]
        shown = histograms[:_SHOWN]
        if report.kind == "audit":
            roc = roc_figure(report.evaluations, report.validity.blind, report.run.counts["non-members"])
            shown.insert(0, _Drawing(roc, _OF_ROC))
        models = [model for model in report.run.models if model.losses]
        if models:
            shown.append(_Drawing(training_figure(models), _OF_TRAINING[report.kind]))
        return {"shown": shown, "others": histograms[_SHOWN:]}


def _caption(histogram: Histogram) -> str:
    if histogram.attack == "threshold":
        return _OF_DISTANCES
    return f"Scores of the attack “{histogram.attack}”: higher means more likely a member."
