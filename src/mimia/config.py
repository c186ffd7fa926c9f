"""Typed settings: everything that decides over the result of a command, in one value.

A TOML file may hold any of them; a flag on the command line overrides a key of the file. Nothing is read from
environment variables, so that a file and a command line say all.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from platformdirs import user_cache_path
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from mimia.errors import MimiaError

Augmentation = Literal["none", "flip", "crop"]
Family = Literal["mae", "simmim", "swin", "beit"]
DecoderSource = Literal["own", "fitted", "shadow", "aligned"]
SizeName = Literal["nano", "micro", "tiny", "small", "base", "large", "huge"]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what scikit-learn takes


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSettings(_Frozen):
    """Where the images come from."""

    source: str = Field(
        "digits",
        description="one source for all sides: 'digits' (built in), a folder of images, a parquet file, "
        "or anything that datasets.load_dataset opens (NAME or NAME:SPLIT)",
    )
    members: str | None = Field(None, description="source of the members, instead of 'source'")
    nonmembers: str | None = Field(None, description="source of the non-members")
    reference: str | None = Field(
        None, description="source of the images for the shadows; default: taken from the non-members"
    )
    image_size: PositiveInt | None = Field(
        None,
        description="side in pixels to which images are brought (shorter side, centre crop); "
        "default: the size of the target, or else of the images",
    )


class CheckpointSettings(_Frozen):
    """What the target's checkpoint does not say of itself, or says wrongly; mimia's own say all of it."""

    target_space: Literal["normalised", "patch-normalised"] | None = Field(
        None, description="what the decoder predicts: pixels as they are, or patches normalised one by one"
    )
    image_size: PositiveInt | None = Field(
        None, description="side in pixels of the training images, for a Swin, which fits images of any size"
    )
    mask_ratio: float | None = Field(None, gt=0, lt=1, description="share of the patches that was masked in training")
    cell_size: PositiveInt | None = Field(
        None, description="side in pixels of the cells that were masked as a whole (SimMIM)"
    )
    mean: tuple[float, ...] | None = Field(None, description="mean of each channel, raw pixels in [0, 1]")
    std: tuple[PositiveFloat, ...] | None = Field(None, description="standard deviation of each channel")
    heads: PositiveInt | None = Field(None, description="attention heads of the encoder")
    decoder_heads: PositiveInt | None = Field(None, description="attention heads of the decoder")
    tokenizer: str | None = Field(
        None, description="directory or name on the hub of the tokenizer of a BEiT, as facebook/flava-image-codebook"
    )


class SplitSettings(_Frozen):
    """How many images each side gets; what is not given follows from the number of images."""

    n_members: PositiveInt | None = Field(None, description="members of the target")
    n_nonmembers: PositiveInt | None = Field(None, description="non-members to tell them from")
    shadow_size: PositiveInt | None = Field(
        None, description="images that each shadow is trained on; default: as many as the target"
    )
    n_holdout: PositiveInt | None = Field(
        None, description="known non-members that no model sees: for thresholds and p-values"
    )
    n_decoder: PositiveInt | None = Field(
        None, description="images that decoders are fitted on, where that is done; no model sees them"
    )
    seed: Seed = Field(0, description="seed of the draw")


class Recipe(_Frozen):
    """How a MIM model is pre-trained."""

    preset: str = Field(description="named recipe that the other keys of this table change")
    family: Family = Field(
        "mae",
        description="'mae' (arXiv 2111.06377), 'simmim' with a ViT or 'swin' (arXiv 2111.09886), "
        "or 'beit' (arXiv 2106.08254)",
    )
    size: SizeName = Field(description="size of the model")
    patch_size: PositiveInt = Field(description="side of a patch in pixels")
    mask_ratio: float = Field(0.75, gt=0, lt=1, description="share of the patches that is masked")
    cell: PositiveInt = Field(1, description="patches along a side of the cells that are masked as a whole (SimMIM)")
    vocabulary: PositiveInt | None = Field(None, description="visual tokens of the tokenizer that is made here (BEiT)")
    patch_normalised: bool = Field(False, description="predict patches normalised by their own mean and variance (MAE)")
    epochs: PositiveInt = Field(description="passes over the images")
    batch_size: PositiveInt = Field(description="images a step")
    base_learning_rate: float = Field(
        gt=0, description="learning rate for a batch of 256; scaled in proportion to the batch"
    )
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps with a rising rate")
    weight_decay: float = Field(0.05, ge=0, description="of matrices and tokens, not of biases")
    betas: tuple[float, float] = Field((0.9, 0.95), description="of AdamW")
    gradient_clip: float | None = Field(None, gt=0, description="largest norm of the gradient")
    augmentation: Augmentation = Field("none", description="'none', 'flip', or 'crop' (random resized crop and flip)")
    crop_area: tuple[float, float] = Field((0.2, 1.0), description="smallest and largest share of a random crop")
    seed: Seed = Field(0, description="seed of the target's training; shadows follow from it")

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, values: Any) -> Any:
        if isinstance(values, dict) and "preset" in values:
            if values["preset"] not in tuple(RECIPES):  # it may be of any type
                raise ValueError(f"there is no recipe {values['preset']!r}: choose one of {', '.join(RECIPES)}")
            return RECIPES[values["preset"]] | values
        return values

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        of_families: dict[str, tuple[bool, tuple[Family, ...]]] = {
            "patch_normalised": (self.patch_normalised, ("mae",)),
            "cell": (self.cell > 1, ("simmim", "swin")),
            "vocabulary": (self.vocabulary is not None, ("beit",)),
        }
        for name, (is_set, families) in of_families.items():
            if is_set and self.family not in families:
                raise ValueError(f"{name} is for {' and '.join(families)}, not for {self.family}: leave it out")
        if self.family == "beit" and self.vocabulary is None:
            raise ValueError("a recipe of BEiT needs a vocabulary, such as 512")
        return self


_IMAGENET: dict[str, Any] = {
    "patch_size": 16,
    "epochs": 800,
    "batch_size": 4096,
    "base_learning_rate": 1.5e-4,
    "augmentation": "crop",
}
_SIMMIM: dict[str, Any] = {
    "mask_ratio": 0.6,
    "betas": (0.9, 0.999),
    "gradient_clip": 5.0,
    "crop_area": (0.67, 1.0),
}
_SIMMIM_SMALL = _SIMMIM | {"epochs": 400, "batch_size": 100, "base_learning_rate": 4e-3}
_SIMMIM_IMAGENET = _SIMMIM | {"epochs": 800, "batch_size": 2048, "base_learning_rate": 5e-5, "augmentation": "crop"}
_BEIT_SMALL: dict[str, Any] = {
    "family": "beit",
    "mask_ratio": 75 / 196,
    "betas": (0.9, 0.999),
    "gradient_clip": 3.0,
    "vocabulary": 512,
    "epochs": 400,
    "batch_size": 100,
    "base_learning_rate": 4e-3,
}
RECIPES: dict[str, dict[str, Any]] = {
    "mae-nano": {
        "size": "nano",
        "patch_size": 2,
        "epochs": 900,
        "batch_size": 100,
        "base_learning_rate": 8e-3,
    },
    "mae-micro": {
        "size": "micro",
        "patch_size": 4,
        "epochs": 400,
        "batch_size": 100,
        "base_learning_rate": 4e-3,
    },
    "mae-tiny": {
        "size": "tiny",
        "patch_size": 4,
        "epochs": 800,
        "batch_size": 256,
        "base_learning_rate": 1.5e-3,
        "augmentation": "crop",
    },
    "mae-small": _IMAGENET | {"size": "small"},
    "mae-base": _IMAGENET | {"size": "base"},
    "mae-large": _IMAGENET | {"size": "large"},
    "mae-huge": _IMAGENET | {"size": "huge", "patch_size": 14},
    "simmim-nano": _SIMMIM_SMALL | {"family": "simmim", "size": "nano", "patch_size": 2, "cell": 1},
    "simmim-micro": _SIMMIM_SMALL | {"family": "simmim", "size": "micro", "patch_size": 4, "cell": 2},
    "simmim-base": _SIMMIM_IMAGENET | {"family": "simmim", "size": "base", "patch_size": 16, "cell": 2},
    "swin-nano": _SIMMIM_SMALL | {"family": "swin", "size": "nano", "patch_size": 1, "cell": 2},
    "swin-micro": _SIMMIM_SMALL | {"family": "swin", "size": "micro", "patch_size": 2, "cell": 4},
    "swin-base": _SIMMIM_IMAGENET | {"family": "swin", "size": "base", "patch_size": 4, "cell": 8},
    "beit-nano": _BEIT_SMALL | {"size": "nano", "patch_size": 2, "vocabulary": 64},
    "beit-micro": _BEIT_SMALL | {"size": "micro", "patch_size": 4},
    "beit-base": _BEIT_SMALL
    | {
        "size": "base",
        "patch_size": 16,
        "vocabulary": 8192,
        "epochs": 800,
        "batch_size": 2048,
        "base_learning_rate": 1.875e-4,
        "augmentation": "crop",
    },
}


class ShadowSettings(_Frozen):
    """The reference models that the auditor trains."""

    count: PositiveInt = Field(2, description="models, in pairs on complementary halves")


class DecoderSettings(_Frozen):
    """Whose decoder reconstructs; where decoders are fitted, all encoders get the same images, order and seeds."""

    source: DecoderSource | None = Field(
        None,
        description="'own' (D1: the target's), 'fitted' (D3: to the frozen encoder), 'shadow' (D2: a shadow's), "
        "'aligned' (D2: a shadow's, through a linear map of the latents); default: own if there is one, else fitted",
    )
    epochs: PositiveInt = Field(10, description="passes over the images that a decoder is fitted on")
    batch_size: PositiveInt = Field(100, description="images a step")
    base_learning_rate: float = Field(4e-3, gt=0, description="learning rate for a batch of 256")


class SignalSettings(_Frozen):
    """What is measured of each image."""

    draws: PositiveInt = Field(16, description="masks for each image")
    seed: Seed = Field(0, description="seed of the masks, equal for target and shadows")
    batch_size: PositiveInt = Field(512, description="masked images in one forward pass")


class AttackSettings(_Frozen):
    """Which attacks are run."""

    names: tuple[str, ...] = Field(("threshold", "calibrated"), description="attacks to run")


class EvaluationSettings(_Frozen):
    """How sure the figures are."""

    resamples: PositiveInt = Field(2000, description="bootstrap resamples for the ROC area")
    false_discovery_rate: float = Field(
        0.1, gt=0, lt=1, description="bound on the share of false entries in a list of members"
    )
    seed: Seed = Field(0, description="seed of bootstrap and cross-validation")


class ComputeSettings(_Frozen):
    """Where the arithmetic runs."""

    device: Literal["auto", "cpu", "cuda", "mps", "xpu"] = Field("auto", description="device")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16 is faster where the processor knows it")
    threads: PositiveInt | None = Field(None, description="threads; default: what torch takes")


class Settings(BaseSettings):
    """All settings of one audit."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    target: str | None = Field(
        None, description="the model: a directory, a file, or a name on the hub; default: one is trained here"
    )
    embeddings: str | None = Field(
        None,
        description="the model as a function from images to vectors, instead of 'target': package.module:function, or "
        "the address of an HTTP endpoint",
    )
    store: str = Field(
        default_factory=lambda: str(user_cache_path("mimia")),
        description="where results are kept: a directory or an fsspec URL",
    )
    out: Path | None = Field(None, description="directory of the report; default: a new one under mimia-runs")
    checkpoint: CheckpointSettings = CheckpointSettings()
    data: DataSettings = DataSettings()
    split: SplitSettings = SplitSettings()
    recipe: Recipe
    shadows: ShadowSettings = ShadowSettings()
    decoder: DecoderSettings = DecoderSettings()
    signals: SignalSettings = SignalSettings()
    attacks: AttackSettings = AttackSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    compute: ComputeSettings = ComputeSettings()

    @model_validator(mode="before")
    @classmethod
    def _choose_recipe(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Take the recipe that suits the data, where none is named."""
        try:
            data = DataSettings.model_validate(values.get("data", {}))
        except ValidationError:
            return values  # the field's own validation says where the mistake is
        sources = {data.members, data.nonmembers, data.reference, data.source} - {None}
        recipe = values.get("recipe", {})
        if isinstance(recipe, dict) and "preset" not in recipe:
            preset = "mae-nano" if sources == {"digits"} else "mae-micro"
            values = values | {"recipe": recipe | {"preset": preset}}
        return values

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the values given, then the TOML file of `read_settings`; no environment variables."""
        return (init_settings, TomlConfigSettingsSource(settings_cls))


def read_settings(file: Path | None, values: Mapping[str, Any]) -> Settings:
    """Read settings from a TOML file, overridden by values.

    Args:
        file: TOML file, or None for the defaults.
        values: Nested values that win over the file's.

    Raises:
        MimiaError: The file cannot be read, or a key or value is wrong.

    >>> read_settings(None, {"recipe": {"epochs": 5}}).recipe.preset
    'mae-nano'
    """
    if file is not None and not file.is_file():
        raise MimiaError(f"There is no settings file {file}: `mimia init` writes one.")

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=file)

    try:
        return Settings(**FromFile(**values).model_dump())  # of a class that compares and pickles
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MimiaError(f"{file} is not valid TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        if first["type"] == "extra_forbidden":
            raise MimiaError(f"There is no setting {where}: `mimia init` writes a file with all of them.") from error
        message = first["msg"].removeprefix("Value error, ")
        raise MimiaError(f"Setting {where}: {message} (given: {first['input']!r}).") from error
