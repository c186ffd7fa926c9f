"""Tables of the settings that are about images: where they come from, and what they are used for."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveInt

from mimia.config.recipes import Seed
from mimia.config.sizes import Size
from mimia.runtime.text import MASK

CanaryKind = Literal["image", "noise", "patches"]


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _with_secrets(value: str) -> str:
    if "://" in value and MASK in value:
        raise ValueError(f"its secrets are masked ({MASK}): type them again, or leave them to ~/.netrc")
    return value


Name = Annotated[str, Field(min_length=1), BeforeValidator(_as_text), AfterValidator(_with_secrets)]
"""A path, an address or a name; an empty one comes of a variable that is not set."""


class Table(BaseModel):
    """A table of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSettings(Table):
    """Where the images come from."""

    source: Name = Field(
        "digits",
        description="source of members, non-members and reference images: 'digits' (built in), a folder of images, a "
        "parquet file or a folder of some, a data set that datasets opens (a saved one, NAME or NAME:SPLIT), or a URL",
    )
    members: Name | None = Field(None, description="source of the members")
    nonmembers: Name | None = Field(None, description="source of the non-members")
    canaries: Name | None = Field(
        None,
        description="directory of canaries that `mimia pretrain` wrote: those that it trained on are the members, the "
        "others the non-members",
    )
    reference: Name | None = Field(
        None,
        description="source of images that the target was not trained on, for shadow models; default: 'nonmembers'",
    )
    near_duplicates: Literal["keep", "remove"] = Field(
        "keep",
        description="non-members that show the same picture as a member: 'keep' reports them, 'remove' leaves them out",
    )
    image_size: Size | None = Field(
        None,
        description="side in pixels, or HEIGHTxWIDTH, that images are resized to (as little as covers it, then centre "
        "crop); default: the target's, or else the images' own",
    )
    channels: PositiveInt | None = Field(
        None,
        le=256,
        description="bands of the images: 1 (grey), 3 (RGB), or the number of those of multi-band TIFF and .npy files; "
        "default: the target's, or else those that most images have",
    )
    bit_depth: PositiveInt | None = Field(
        None,
        le=32,
        description="bits of the values of images of 16 or 32 bits, such as 12; default: what the files say",
    )
    allow_skipped: bool = Field(False, description="go on where more than 1 % of a source cannot be used")


class SplitSettings(Table):
    """How many images have each role; what is not set is derived from the number of images."""

    n_members: PositiveInt | None = Field(
        None, description="number of members: of images that a target trained here learns from"
    )
    n_nonmembers: PositiveInt | None = Field(None, description="number of non-members that are evaluated")
    shadow_size: PositiveInt | None = Field(
        None, description="training images of each shadow model; default: as many as the target's"
    )
    n_holdout: PositiveInt | None = Field(
        None, description="held-out non-members that set thresholds and p-values; no model is trained on them"
    )
    n_decoder: PositiveInt | None = Field(
        None, description="images that decoders are fitted on, where one is fitted; no encoder is trained on them"
    )
    n_population: PositiveInt | None = Field(
        None, description="non-members that attacks such as RMIA compare with; no model is trained on them"
    )
    n_validation: PositiveInt | None = Field(
        None, description="images for defences that need some, as early_stopping does; no model is trained on them"
    )
    n_probe: int | None = Field(
        None,
        ge=2,
        description="images that measure the target's utility: linear probe, reconstruction error; default: none",
    )
    seed: Seed = Field(0, description="seed of the split")


class CanarySettings(Table):
    """Images that `mimia pretrain` adds to the training images, each with probability 1/2, to bound ε from below."""

    count: NonNegativeInt = Field(
        0, le=10_000_000, description="number of canaries, made of further images of the source"
    )
    kind: CanaryKind = Field(
        "image",
        description="how they are made: 'image' (unchanged), 'noise' (averaged with uniform noise), or 'patches' "
        "(patches in random order)",
    )
