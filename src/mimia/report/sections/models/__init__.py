"""The models of a run."""

from pydantic import Field

from mimia.models.checkpoints.native import Privacy
from mimia.report.sections.base import ReportPart, Section


class Model(ReportPart):
    """A model of the run.

    Attributes:
        name: ``target``, or which shadow it is.
        id: SHA-256 of its weights.
        images: Number of its training images, where known.
        seed: Seed of its training, where known.
        losses: Mean training loss of each epoch, where known.
        seconds: Duration of its training.
        hardware: What it was trained on.
        privacy: What its training guarantees, if it was one with differential privacy.
    """

    name: str
    id: str
    images: int | None = None
    seed: int | None = None
    losses: tuple[float, ...] = ()
    seconds: float | None = None
    hardware: dict[str, str | int] = Field(default={})
    privacy: Privacy | None = None


class ModelsSection(Section):
    """A table of the target and the shadows, what was assumed about the target, and notes on both."""
