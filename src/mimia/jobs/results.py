"""What the two jobs return: a report with the scores of every image, that prints, draws and saves itself."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from mimia.evaluation.evaluate import Evaluation
from mimia.evaluation.roc_display import RocDisplay
from mimia.report.files import write_run
from mimia.report.schema import AuditReport, InferenceReport
from mimia.validity.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_HEADER = "<tr><th>attack</th><th>AUC</th><th>95 % interval</th><th>TPR at 1 % FPR</th></tr>"


R = TypeVar("R", AuditReport, InferenceReport)


@dataclass(frozen=True, repr=False)
class _Result(ABC, Generic[R]):
    report: R
    scores: Mapping[str, Sequence[object]]

    @property
    def verdict(self) -> Verdict:
        """Return the answer with its reasons."""
        return self.report.verdict

    @property
    @abstractmethod
    def evaluations(self) -> tuple[Evaluation, ...]:
        """Return the figures of each attack."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(verdict={self.verdict.kind!r}, images={len(self.scores['id'])})"

    def _repr_html_(self) -> str:
        rows = "".join(map(_row, self.evaluations))
        return f"<p><b>{escape(self.verdict.sentence)}</b></p><table>{_HEADER}{rows}</table>"

    def to_frame(self) -> "pd.DataFrame":
        """Return the scores as a pandas DataFrame, one row an image."""
        import pandas as pd

        return pd.DataFrame(dict(self.scores))

    def save(self, directory: str | Path) -> Path:
        """Write ``report.json``, ``report.html``, ``scores.csv`` and ``settings.toml``; return the page's path."""
        return write_run(Path(directory), self.report, self.scores)


class AuditResult(_Result[AuditReport]):
    """The result of an audit.

    Attributes:
        report: Everything that ``report.json`` holds.
        scores: Columns of ``scores.csv``: name, id, role, and each attack's score and p-value, one row an image.
    """

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """Return the figures of each attack."""
        return self.report.evaluations

    def plot_roc(self, *, ax: "Axes | None" = None) -> "Axes":
        """Draw the ROC curve of each attack on logarithmic axes, and return the matplotlib axes."""
        roles = np.asarray(self.scores["role"])
        on_sides = roles != "holdout"
        for each in self.evaluations:
            values = np.asarray(self.scores[f"{each.attack} score"], dtype=np.float64)[on_sides]
            ax = RocDisplay.from_scores(values, roles[on_sides] == "member", name=each.attack).plot(ax)
        assert ax is not None, "an audit runs at least one attack"
        return ax


class InferenceResult(_Result[InferenceReport]):
    """The result of an inference.

    Attributes:
        report: Everything that ``report.json`` holds.
        scores: Columns of ``scores.csv``: name, id, whether it is listed, p-value, and each attack's score.
    """

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """Return the figures of the attack that decides."""
        return (self.report.evaluation,)


def _row(evaluation: Evaluation) -> str:
    auc, tpr = evaluation.auc, evaluation.tpr_at_1_percent
    interval = "" if auc.low is None or auc.high is None else f"{auc.low:.3f} – {auc.high:.3f}"
    values = (_number(auc.value), interval, _number(tpr.value))
    return f"<tr><td>{escape(evaluation.attack)}</td>{''.join(f'<td>{value}</td>' for value in values)}</tr>"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
