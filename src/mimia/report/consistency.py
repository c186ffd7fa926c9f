"""What the schema of a report does not say: its parts fit together, and none is missing."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

from mimia.evaluation.evaluate import Evaluation
from mimia.evaluation.intervals import Estimate
from mimia.report.schema import AuditReport, Report, Run
from mimia.report.sections.curves import Histogram
from mimia.validity.verdict import Verdict

_LARGEST = 1e100  # of a number; figures cannot show larger ones
_LONGEST = 200  # characters of a name


def check_consistency(report: Report) -> None:
    """Raise if parts of a report contradict each other or are missing.

    Raises:
        ValueError: They do, or are.
    """
    for part in _parts(report):
        mistake = _mistake(part)
        if mistake:
            raise ValueError(mistake)


def _parts(value: Any) -> Iterator[Any]:
    """Yield a value and all that it consists of."""
    yield value
    if isinstance(value, BaseModel):
        inner: Any = [each for _, each in value]
    elif is_dataclass(value):
        inner = [getattr(value, field.name) for field in fields(value)]
    elif isinstance(value, dict):
        inner = value.values()
    elif isinstance(value, list | tuple):
        inner = value
    else:
        return
    for each in inner:
        yield from _parts(each)


def _mistake(part: Any) -> str:
    """Return what is wrong with one part, or an empty text."""
    match part:
        case float():
            return "" if abs(part) <= _LARGEST else "a number is too large"  # NaN is not smaller either
        case Estimate():
            return _of_estimate(part)
        case Evaluation():
            return _of_evaluation(part)
        case Histogram():
            return _of_histogram(part)
        case Verdict() if part.strength is not None and part.kind != "leaks":
            return "verdict: only a leak has a strength"
        case Run():
            return _of_run(part)
        case AuditReport():
            return _of_audit(part)
    return ""


def _of_estimate(estimate: Estimate) -> str:
    low, high = estimate.low, estimate.high
    if (low is None) != (high is None):
        return "an interval has one end"
    return "an interval ends before it begins" if low is not None and high is not None and low > high else ""


def _of_evaluation(evaluation: Evaluation) -> str:
    if len(evaluation.fpr) != len(evaluation.tpr) or not evaluation.fpr:
        return f"a ROC curve has {len(evaluation.fpr)} and {len(evaluation.tpr)} rates"
    p_values = (evaluation.p_value, evaluation.p_value_holm, evaluation.p_value_lower)
    estimates = [each for each in vars(evaluation).values() if isinstance(each, Estimate)]
    ends = [end for each in estimates for end in (each.value, each.low, each.high) if end is not None]
    if not all(0 <= rate <= 1 for rate in (*evaluation.fpr, *evaluation.tpr, *p_values, *ends)):
        return "a rate, an AUC or a p-value is not between 0 and 1"
    return "" if len(evaluation.attack) <= _LONGEST else "the name of an attack is too long"


def _of_histogram(histogram: Histogram) -> str:
    bins = len(histogram.edges) - 1
    if bins < 1 or any(low >= high for low, high in pairwise(histogram.edges)):
        return "the edges of a histogram do not rise"
    if any(len(counts) != bins or min(counts) < 0 for counts in histogram.counts.values()):
        return f"a histogram of {bins} bins has other counts"
    return ""


def _of_run(run: Run) -> str:
    if not run.models:
        return "run.models is empty"
    if "mimia" not in run.versions:
        return "run.versions lacks mimia"
    return "" if min(run.image_shape) > 0 else "run.image_shape has no pixels"


def _of_audit(report: AuditReport) -> str:
    names = [evaluation.attack for evaluation in report.evaluations]
    if report.deciding not in names:
        return "the attack that decides has no evaluation"
    return "" if report.run.counts.get("non-members", 0) > 0 else "run.counts lacks non-members"
