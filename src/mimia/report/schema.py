"""The truth of a run: what ``report.json`` holds. Everything else that a reader sees is rendered from it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from mimia.encoders.checkpoints.native import Privacy
from mimia.evaluation.comparison import Comparison
from mimia.evaluation.epsilon import EpsilonBound
from mimia.evaluation.evaluate import Evaluation
from mimia.evaluation.one_run import OneRunBound
from mimia.evaluation.utility import Utility
from mimia.evaluation.validity import Measurements
from mimia.evaluation.verdict import Verdict
from mimia.images.imageset import LeftOut


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Model(_Frozen):
    """A model of the run.

    Attributes:
        name: ``target``, or which shadow it is.
        id: SHA-256 of its weights.
        images: Number of its training images, where known.
        seed: Seed of its training, where known.
        losses: Mean training loss of each epoch, where known.
        seconds: Time that its training took.
        hardware: What it was trained on.
        privacy: What its training guarantees, if it was one with differential privacy.
    """

    name: str
    id: str
    images: int | None = None
    seed: int | None = None
    losses: tuple[float, ...] = ()
    seconds: float | None = None
    hardware: dict[str, str | int] = {}
    privacy: Privacy | None = None


class Histogram(_Frozen):
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


class Exhibit(_Frozen):
    """One image as the model sees it; pictures are data URIs of PNG files.

    Attributes:
        name: Where the image came from.
        id: Its content id.
        group: ``member``, ``non-member`` or ``candidate``.
        score: Of the strongest attack.
        distance: Mean squared error over the masked patches under the mask that is shown.
        original: The image.
        masked: What the model was shown.
        reconstructed: Its prediction of the masked patches, among the visible ones.
        error: Absolute error of the masked patches; white is none, dark is large.
    """

    name: str
    id: str
    group: str
    score: float
    distance: float
    original: str
    masked: str
    reconstructed: str
    error: str


class TwinPictures(_Frozen):
    """Two images that show the same picture, one of each side.

    Attributes:
        names: Where they came from.
        pictures: Data URIs of PNG files.
    """

    names: tuple[str, str]
    pictures: tuple[str, str]


class NotRun(_Frozen):
    """An attack that was not run, and why."""

    attack: str
    reason: str


class Run(_Frozen):
    """What every run records.

    Attributes:
        schema_version: Version of this schema.
        created: Date and time, UTC.
        command: What repeats the run.
        access: Access level of the adversary.
        settings: All settings.
        settings_toml: The same as a file that ``--config`` takes.
        models: Target and shadows.
        assumed: What the target's checkpoint does not say of itself and was taken for granted.
        image_shape: Channels, height and width.
        counts: Number of images in each role.
        duplicates: Exact duplicates that were removed, by where they stood.
        left_out: Images that could not be used.
        split: Fingerprint of the split.
        masks: Fingerprint of the masks.
        attacks_not_run: Attacks that were not run, each with its reason.
        histograms: Distributions of the attacks' scores.
        gallery: Images as the target sees them.
        versions: Versions of the packages.
        hardware: What the run was computed on.
        seconds: Time that this run took; what the store had is not counted.
    """

    schema_version: Literal[2] = 2
    created: str
    command: str
    access: str
    settings: dict[str, Any]
    settings_toml: str
    models: tuple[Model, ...]
    assumed: tuple[str, ...] = ()
    image_shape: tuple[int, int, int]
    counts: dict[str, int]
    duplicates: dict[str, int]
    left_out: tuple[LeftOut, ...]
    split: str
    masks: str
    attacks_not_run: tuple[NotRun, ...]
    histograms: tuple[Histogram, ...]
    gallery: tuple[Exhibit, ...]
    versions: dict[str, str]
    hardware: dict[str, str | int]
    seconds: float


class AuditReport(_Frozen):
    """An audit: membership is known, and the question is whether attacks find it.

    Attributes:
        kind: Tells it from an `InferenceReport`.
        verdict: The answer, with the checks of the validity gate.
        evaluations: Of each attack.
        strongest: The attack of the largest ROC area, which decides.
        comparisons: By each other attack: how much larger the strongest one's area is, on the same images.
        measured: What the validity checks measured.
        twins: Near-duplicates across the sides.
        epsilon: Lower bound on ε at the strongest attack's threshold, corrected for the number of attacks.
        one_run: Lower bound on ε from canaries, if there are any; corrected likewise.
        drawn_at_random: Whether each image was a member by chance alone, without which no bound on ε follows.
        utility: What features are good for: those of the target, of an untrained model, and the pixels; empty if it was
            not asked for.
        run: What every run records.
    """

    kind: Literal["audit"] = "audit"
    verdict: Verdict
    evaluations: tuple[Evaluation, ...]
    strongest: str
    comparisons: dict[str, Comparison]
    measured: Measurements
    twins: tuple[TwinPictures, ...]
    epsilon: EpsilonBound
    one_run: OneRunBound | None
    drawn_at_random: bool
    utility: dict[str, Utility] = {}
    run: Run


class Candidate(_Frozen):
    """One image of unknown membership.

    Attributes:
        name: Where it came from.
        id: Content id.
        score: Of the attack that decides.
        p_value: Conformal p-value of "it is not a member".
        listed: Whether it is in the list of members.
    """

    name: str
    id: str
    score: float
    p_value: float
    listed: bool


class InferenceReport(_Frozen):
    """An inference: membership is unknown.

    Attributes:
        kind: Tells it from an `AuditReport`.
        verdict: The answer for the set of candidates, with the checks of the validity gate.
        evaluation: Of the attack that decides: all candidates against the known non-members.
        false_discovery_rate: Bound on the expected share of false entries in the list.
        measured: What the validity checks measured.
        twins: Near-duplicates across the sides.
        candidates: All of them, the most exposed first.
        run: What every run records.
    """

    kind: Literal["inference"] = "inference"
    verdict: Verdict
    evaluation: Evaluation
    false_discovery_rate: float
    measured: Measurements
    twins: tuple[TwinPictures, ...]
    candidates: tuple[Candidate, ...]
    run: Run


Report = AuditReport | InferenceReport
REPORT_FORMAT: TypeAdapter[Report] = TypeAdapter(Annotated[Report, Field(discriminator="kind")])
"""Reads either kind, and gives the JSON Schema of both."""
