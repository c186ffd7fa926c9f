"""mimia's own checkpoint directory: weights, what the model is, and how it came about.

``model.safetensors`` has the parameter names of the family's official code; ``config.json`` the `ModelSpec` and the
architecture; ``training.json`` the recipe, the loss curve, versions and hardware.
"""

import hashlib
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError
from safetensors.torch import save_file

from mimia.config.recipes import Recipe
from mimia.models.base import MaskedImageModel, ModelSpec
from mimia.models.checkpoints.safe import load_safetensors
from mimia.models.checkpoints.strict import build_for
from mimia.models.registry import AnyArchitecture
from mimia.runtime.errors import MimiaError, first_mistake
from mimia.runtime.store import replacing
from mimia.runtime.strict_json import read_object

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
TRAINING = "training.json"
_T = TypeVar("_T", bound=BaseModel)


class Config(BaseModel):
    """Content of ``config.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["mimia"] = "mimia"
    version: Literal[1] = 1
    spec: ModelSpec
    architecture: AnyArchitecture


class Privacy(BaseModel):
    """What a training with DP-SGD guarantees (Abadi et al., arXiv 1607.00133).

    Attributes:
        epsilon: What the steps that were taken spent, by the accountant.
        delta: At which δ.
        noise_multiplier: Standard deviation of the noise on the summed gradients, in units of the clip.
        clip: Norm of an image's gradient at most.
        sample_rate: Probability that an image takes part in a step.
        steps: Steps that were taken.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epsilon: float = Field(ge=0)
    delta: float = Field(ge=0, le=1)
    noise_multiplier: float = Field(ge=0)
    clip: float = Field(ge=0)
    sample_rate: float = Field(ge=0, le=1)
    steps: NonNegativeInt

    def __str__(self) -> str:
        return (
            f"ε = {self.epsilon:.2f} at δ = {self.delta:g}, by noise of {self.noise_multiplier:.4g} clips of "
            f"{self.clip:g} in {self.steps:,} steps, each with a proportion of {self.sample_rate:.4g} of the images"
        )


class Training(BaseModel):
    """How a model came about; content of ``training.json``.

    Attributes:
        recipe: Settings of the training.
        seed: Seed of this model; initial weights, order, masks and augmentation follow from it.
        images: Number of training images.
        images_fingerprint: Name of exactly these images in their order.
        losses: Mean training loss of each epoch; none of a training with differential privacy, as they are not private.
        kept_epoch: Whose weights these are, if the training was stopped early.
        seconds: Time that it took, without interruptions.
        hardware: What it ran on.
        versions: Versions of the packages.
        privacy: What it guarantees, if it was trained with differential privacy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    recipe: Recipe
    seed: int
    images: NonNegativeInt
    images_fingerprint: str
    losses: tuple[float, ...]
    kept_epoch: int | None = None
    seconds: float = Field(ge=0)
    hardware: dict[str, str | int]
    versions: dict[str, str]
    privacy: Privacy | None = None


def save(directory: Path, model: MaskedImageModel, training: Training | None = None) -> None:
    """Write a checkpoint directory; the weights come last, so that a directory with weights is whole."""
    directory.mkdir(parents=True, exist_ok=True)
    config = Config.model_validate({"spec": model.spec, "architecture": model.architecture})
    weights = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
    with replacing(directory / CONFIG) as path:
        path.write_text(config.model_dump_json(indent=1))
    if training is not None:
        with replacing(directory / TRAINING) as path:
            path.write_text(training.model_dump_json(indent=1))
    with replacing(directory / WEIGHTS) as path:
        save_file(weights, path)


def load_config(directory: Path) -> Config:
    """Read what a checkpoint directory holds, without its weights.

    Raises:
        MimiaError: It is no checkpoint directory, or one without weights.
    """
    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            raise MimiaError(
                f"{directory} is no checkpoint of mimia: it has no {name}. Pass the directory that "
                "`mimia pretrain` wrote."
            )
    return _parse(Config, directory / CONFIG)


def load(directory: Path) -> MaskedImageModel:
    """Open a checkpoint directory; its weights are mapped, not copied, into memory.

    Raises:
        MimiaError: Something is missing, damaged or not finite.
    """
    config = load_config(directory)
    weights = load_safetensors(directory / WEIGHTS)
    return build_for(weights, config.spec, config.architecture, str(directory / WEIGHTS), CONFIG)


def load_training(directory: Path) -> Training | None:
    """Read how a model came about, if its directory says so."""
    path = directory / TRAINING
    return _parse(Training, path) if path.is_file() else None


def model_id(directory: Path) -> str:
    """Name a model by its weights: SHA-256 of the file."""
    with (directory / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parse(kind: type[_T], path: Path) -> _T:
    content = read_object(path)
    try:
        return kind.model_validate(content)
    except (ValidationError, MimiaError) as error:  # the latter of a family that is not there
        reason = first_mistake(error) if isinstance(error, ValidationError) else str(error).rstrip(".")
        raise MimiaError(f"{path} is not what mimia wrote ({reason}): copy it again.") from error
