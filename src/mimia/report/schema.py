"""What ``report.json`` holds. Everything else that a reader sees is rendered from it."""

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from mimia.data.imageset import LeftOut
from mimia.evaluation.comparison import Comparison
from mimia.evaluation.downstream import Utility
from mimia.evaluation.epsilon import EpsilonBound
from mimia.evaluation.evaluate import Evaluation
from mimia.evaluation.one_run import OneRunBound
from mimia.report.sections.base import ReportPart
from mimia.report.sections.candidates import Candidate
from mimia.report.sections.curves import Histogram
from mimia.report.sections.gallery import Exhibit
from mimia.report.sections.models import Model
from mimia.report.sections.run import NotRun
from mimia.report.sections.verdict import NearDuplicatePictures
from mimia.validity.controls import Measurements
from mimia.validity.verdict import Verdict

__all__ = [
    "REPORT_FORMAT",
    "SCHEMA_VERSION",
    "AuditReport",
    "Candidate",
    "Exhibit",
    "Histogram",
    "InferenceReport",
    "Model",
    "NearDuplicatePictures",
    "NotRun",
    "Report",
    "Run",
]

SCHEMA_VERSION = 4
"""Rises with every change that an older reader would not understand."""


class ImageSource(ReportPart):
    """What became of the images of one source.

    Attributes:
        name: The source.
        found: Number of images there, and of other files that look like data.
        used: How many are used.
        left_out: How many are not, by the reason.
        notes: What else its reader has to know, such as which split it is.
    """

    name: str
    found: int
    used: int
    left_out: dict[str, int]
    notes: tuple[str, ...]


class Run(ReportPart):
    """What every run records.

    Attributes:
        created: Date and time, UTC.
        command: What repeats the run.
        access: Access level of the adversary.
        settings: All settings.
        settings_toml: The same as a file that ``--config`` takes.
        models: Target and shadows.
        assumed: What the target's checkpoint does not say and was assumed.
        notes: What else a reader has to know of how the target was read and what it is compared with.
        image_shape: Channels, height and width.
        counts: Number of images in each role.
        duplicates: Number of exact duplicates that were removed, by the side on which they were.
        sources: What became of the images of each source.
        left_out: Images that could not be used.
        split: Fingerprint of the split.
        query_id: Fingerprint of the masks under which the models were queried.
        attacks_not_run: Attacks that were not run, each with its reason.
        histograms: Distributions of the attacks' scores.
        gallery: Images as the target reconstructs them.
        versions: Versions of the packages.
        hardware: What the run was computed on.
        seconds: Duration of this run; what the store already had is not counted.
    """

    created: str
    command: str
    access: str
    settings: dict[str, Any]
    settings_toml: str
    models: tuple[Model, ...]
    assumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    image_shape: tuple[int, int, int]
    counts: dict[str, int]
    duplicates: dict[str, int]
    sources: tuple[ImageSource, ...] = ()
    left_out: tuple[LeftOut, ...]
    split: str
    query_id: str
    attacks_not_run: tuple[NotRun, ...]
    histograms: tuple[Histogram, ...]
    gallery: tuple[Exhibit, ...]
    versions: dict[str, str]
    hardware: dict[str, str | int]
    seconds: float


class AuditReport(ReportPart):
    """An audit: membership is known, and attacks are tested on it.

    Attributes:
        schema_version: Version of this schema.
        kind: Distinguishes it from an `InferenceReport`.
        verdict: The answer, with the validity checks.
        evaluations: Of each attack.
        deciding: Name of the attack that decides: the best on the shadows, unless another alone finds a leak.
        comparisons: By each other attack: how much larger the deciding one's AUC is, on the same images.
        validity: What the validity checks measured.
        near_duplicates: Near-duplicates across the sides.
        epsilon: Lower bound on ε at the deciding attack's threshold; its error is that attack's share of 5 %.
        one_run: Lower bound on ε from canaries, if there are any; corrected likewise.
        drawn_at_random: Whether membership was drawn at random, without which no bound on ε follows.
        utility: Utility of the features of the target, of an untrained model, and of the pixels; empty if it was not
            measured.
        run: What every run records.
    """

    schema_version: Literal[4] = 4
    kind: Literal["audit"] = "audit"
    verdict: Verdict
    evaluations: tuple[Evaluation, ...]
    deciding: str
    comparisons: dict[str, Comparison]
    validity: Measurements
    near_duplicates: tuple[NearDuplicatePictures, ...]
    epsilon: EpsilonBound
    one_run: OneRunBound | None
    drawn_at_random: bool
    utility: dict[str, Utility] = Field(default={})
    run: Run


class InferenceReport(ReportPart):
    """An inference: membership is unknown.

    Attributes:
        schema_version: Version of this schema.
        kind: Distinguishes it from an `AuditReport`.
        verdict: The answer for the set of candidates, with the validity checks.
        evaluation: Of the attack that decides: all candidates against the known non-members.
        false_discovery_rate: Bound on the expected proportion of false entries in the list.
        judging: Number of reference images among which each candidate is ranked; None in older reports.
        validity: What the validity checks measured.
        near_duplicates: Near-duplicates across the sides.
        candidates: All of them, those with the lowest p-values first.
        run: What every run records.
    """

    schema_version: Literal[4] = 4
    kind: Literal["inference"] = "inference"
    verdict: Verdict
    evaluation: Evaluation
    false_discovery_rate: float
    judging: int | None = None
    validity: Measurements
    near_duplicates: tuple[NearDuplicatePictures, ...]
    candidates: tuple[Candidate, ...]
    run: Run


Report = AuditReport | InferenceReport
REPORT_FORMAT: TypeAdapter[Report] = TypeAdapter(Annotated[Report, Field(discriminator="kind")])
"""Reads either kind, and has the JSON Schema of both."""
