"""Typed settings: everything that determines the result of a command, in one value.

Each may stand in a TOML file; a flag on the command line overrides the file. The command line takes the type, help and
default of its options from the fields here. Environment variables are not read, so that a run can be repeated from its
file and command line alone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from platformdirs import user_cache_path
from pydantic import (
    Field,
    NonNegativeInt,
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

from mimia.config.image_settings import CanarySettings, DataSettings, Name, SplitSettings, Table
from mimia.config.mistakes import explain
from mimia.config.recipes import Augmentation, OnDefaultPreset, Recipe, Seed, SizeName
from mimia.config.sizes import Size
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.errors import MimiaError
from mimia.runtime.text import shortened

DecoderSource = Literal["own", "fitted", "shadow", "aligned"]
JsonScalar = bool | int | float | str
Mean = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(gt=0, le=1)]
Distance = Literal["training", "mse", "mae", "patch-normalised", "ssim"]
Patches = Literal["masked", "visible", "all"]


class CheckpointSettings(Table):
    """Facts about the target that its checkpoint lacks or states wrongly; not needed for checkpoints of mimia."""

    target_space: Literal["normalised", "patch-normalised"] | None = Field(
        None, description="what the decoder predicts: normalised pixels, or pixels normalised patch by patch"
    )
    image_size: Size | None = Field(
        None, description="side in pixels of the training images, or height and width, where the file does not show it"
    )
    mask_ratio: float | None = Field(None, gt=0, lt=1, description="proportion of patches masked in training")
    cell_size: PositiveInt | None = Field(
        None, description="side in pixels of the cells that were masked as a whole (SimMIM)"
    )
    mean: tuple[Mean, ...] | None = Field(None, description="mean of each channel of raw pixels in [0, 1]")
    std: tuple[Deviation, ...] | None = Field(
        None, description="what pixels in [0, 1] are divided by, for each channel: their standard deviation"
    )
    channel_order: Literal["rgb", "bgr"] | None = Field(
        None, description="order of the colours in training, and of the means"
    )
    heads: PositiveInt | None = Field(None, description="attention heads of the encoder")
    decoder_heads: PositiveInt | None = Field(None, description="attention heads of the decoder")
    tokenizer: Name | None = Field(
        None, description="tokenizer of a BEiT: a directory, or a name on the hub such as facebook/flava-image-codebook"
    )
    weights: Name | None = Field(
        None, description="which weights of a file with several, by their keys in it, such as state_dict_ema or student"
    )


class ShadowSettings(Table):
    """The shadow models that the auditor trains."""

    count: NonNegativeInt | None = Field(
        None,
        le=10_000,
        description="number of shadow models, in pairs trained on complementary halves; default: 2, or none where "
        "references are given",
    )
    online: NonNegativeInt = Field(
        0,
        le=10_000,
        description="number of further models trained on halves of the evaluated images, for the online attacks",
    )
    size: SizeName | Literal["target"] | None = Field(
        None,
        description="size of the models, or 'target' for its own width and depth; default: that of a recipe that is "
        "named, else the target's own if minutes allow it",
    )
    mask_ratio: float | None = Field(
        None, gt=0, lt=1, description="proportion of patches masked in their training; default: the target's"
    )
    epochs: PositiveInt | None = Field(
        None,
        description="epochs of their training; default: the target's, and where nobody knows these, as many after "
        "which they answer about unseen images as it does",
    )
    base_learning_rate: PositiveFloat | None = Field(
        None, description="learning rate of their training for a batch of 256; default: as for epochs"
    )
    minutes: PositiveFloat = Field(
        30,
        description="longest time to train them; where shadows of the size of a given target would take longer, "
        "smaller ones are trained",
    )
    augmentation: Augmentation | None = Field(
        None, description="'none', 'flip' or 'crop' in their training; default: as for epochs"
    )

    def imitating(self, recipe: Recipe) -> Recipe:
        """Return the recipe of the shadow models: the target's, with what is set here changed."""
        keys = {"size", "mask_ratio", "epochs", "base_learning_rate", "augmentation"}
        changes = self.model_dump(include=keys, exclude_none=True)
        if self.size == "target":
            del changes["size"]
        if "epochs" in changes:
            changes["stop_epoch"] = None
        return recipe.model_copy(update=changes)


class DecoderSettings(Table):
    """Which decoder reconstructs; decoders are fitted to all encoders with the same images, order and seeds."""

    source: DecoderSource | None = Field(
        None,
        description="'own' (D1: the target's), 'fitted' (D3: fitted here to the frozen encoder), 'shadow' (D2: a "
        "shadow model's), 'aligned' (D2: a shadow model's after a linear map of latents); default: own, else fitted",
    )
    epochs: PositiveInt = Field(10, le=1_000_000, description="epochs of fitting a decoder")
    batch_size: PositiveInt = Field(100, le=1_000_000, description="images per step")
    base_learning_rate: float = Field(4e-3, gt=0, description="learning rate for a batch of 256")


class SignalSettings(Table):
    """How models are queried about each image."""

    draws: PositiveInt = Field(16, le=4096, description="masks per image")
    seed: Seed = Field(0, description="seed of the masks, which are the same for target and shadow models")
    batch_size: PositiveInt = Field(512, le=1_000_000, description="masked images in one forward pass")
    distance: Distance = Field(
        "training",
        description="distance between image and reconstruction: 'training' (the training loss), 'mse', 'mae', "
        "'patch-normalised' (squared error over the patch's variance) or 'ssim' (1 − SSIM)",
    )
    patches: Patches = Field(
        "masked", description="patches that the distance is averaged over: 'masked', 'visible' or 'all'"
    )


class AttackSettings(Table):
    """Which attacks are run, and with what hyper-parameters."""

    names: tuple[str, ...] | None = Field(
        None,
        description="attacks to run, of those that `mimia attacks` lists, or 'all' for each that can run; default: "
        "threshold, calibrated, and the ensemble of the access level",
    )
    options: dict[str, dict[str, JsonScalar | list[JsonScalar]]] = Field(
        default_factory=dict,
        description="hyper-parameters by attack, as a table each: [attacks.options.rmia] with the line gamma = 2",
    )


class EvaluationSettings(Table):
    """How scores are evaluated."""

    fewest_false_positives: PositiveInt = Field(
        10, description="least number of false positives at which a TPR is reported; below it, the TPR is left out"
    )
    false_discovery_rate: float = Field(
        0.1, gt=0, lt=1, description="bound on the false discovery rate of the list of members"
    )
    margin_auc: float = Field(
        0.6,
        gt=0.5,
        le=1,
        description="“no leak found” needs the upper end of the AUC's interval below it; else it is “inconclusive”",
    )
    margin_tpr: float = Field(
        0.05,
        gt=0.01,
        le=1,
        description="“no leak found” needs the upper end of the interval of the TPR at 1 % FPR below it",
    )
    seed: Seed = Field(0, description="seed of cross-validation, controls and the choice of pictures")


class Settings(BaseSettings):
    """All settings of one audit."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    target: Name | None = Field(
        None,
        description="checkpoint of the model: a directory, a file, or a name on the hub; default: one is trained here",
    )
    embeddings: Name | None = Field(
        None,
        description="the model as a function from images to vectors, instead of target: package.module:function, or "
        "the URL of an HTTP endpoint",
    )
    references: tuple[Name, ...] = Field(
        (),
        description="checkpoints known not to have seen the images, above all the public one that the target was "
        "continued from: the target's errors are compared with theirs",
    )
    store: Name = Field(
        default_factory=lambda: str(user_cache_path("mimia")),
        description="where models and signals are cached: a directory or an fsspec URL",
    )
    out: Name | None = Field(None, description="directory of the report; default: one under mimia-runs")
    checkpoint: CheckpointSettings = CheckpointSettings()
    data: DataSettings = DataSettings()
    split: SplitSettings = SplitSettings()
    canaries: CanarySettings = CanarySettings()
    recipe: Recipe
    shadows: ShadowSettings = ShadowSettings()
    decoder: DecoderSettings = DecoderSettings()
    signals: SignalSettings = SignalSettings()
    attacks: AttackSettings = AttackSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    compute: ComputeSettings = ComputeSettings()

    @property
    def shadow_count(self) -> int:
        """Number of shadow models."""
        default = 0 if self.references else 2
        return default if self.shadows.count is None else self.shadows.count

    @model_validator(mode="after")
    def _has_models_to_compare_with(self) -> "Settings":
        if self.shadow_count + len(self.references) == 0:
            raise ValueError(
                "without shadow models nothing is compared with the target: raise shadows.count (--shadows), or pass "
                "--references"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _choose_recipe(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Choose the recipe that suits the data, if none is named."""
        try:
            data = DataSettings.model_validate(values.get("data", {}))
        except ValidationError:
            return values  # the field's own validation reports the mistake
        sources = {data.members, data.nonmembers, data.reference, data.source} - {None}
        recipe = values.get("recipe", {})
        if isinstance(recipe, dict) and "preset" not in recipe:
            preset = "mae-nano" if sources == {"digits"} else "mae-micro"
            values = values | {"recipe": OnDefaultPreset(recipe | {"preset": preset})}
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
        """Return the sources that are read: the values given, then the TOML file; no environment variables."""
        return (init_settings, TomlConfigSettingsSource(settings_cls))


def read_settings(file: Path | None, values: Mapping[str, Any]) -> Settings:
    """Return the settings of a TOML file, overridden by values.

    Args:
        file: TOML file, or None for the defaults.
        values: Nested values that override the file's.

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
        return Settings(**FromFile(**values).model_dump(exclude_unset=True))  # of a class that compares and pickles
    except ValidationError as error:
        raise MimiaError(explain(error)) from error
    except RecursionError as error:
        raise MimiaError(f"{file} is not valid TOML: it is nested too deeply.") from error
    except ValueError as error:  # of the parser, also for numbers of thousands of digits
        raise MimiaError(f"{file} is not valid TOML: {shortened(str(error))}.") from error
