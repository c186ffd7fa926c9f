"""Typed settings: everything that decides over the result of a command, in one value.

A TOML file may hold any of them; a flag on the command line overrides a key of the file. Nothing is read from
environment variables, so that a file and a command line say all.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_cache_path
from pydantic import (
    BaseModel,
    ConfigDict,
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

from mimia.errors import MimiaError
from mimia.recipes import Augmentation, Recipe, Seed, SizeName

CanaryKind = Literal["image", "noise", "patches"]
DecoderSource = Literal["own", "fitted", "shadow", "aligned"]
Distance = Literal["training", "mse", "mae", "patch-normalised", "ssim"]
Patches = Literal["masked", "visible", "all"]


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
    canaries: str | None = Field(
        None,
        description="directory of canaries that `mimia pretrain` wrote, instead of members and non-members: those that "
        "the coin included, and those that it did not",
    )
    reference: str | None = Field(
        None, description="source of the images for the shadows; default: taken from the non-members"
    )
    near_duplicates: Literal["keep", "remove"] = Field(
        "keep",
        description="what becomes of non-members that show the same picture as a member: 'keep' counts and shows them, "
        "'remove' takes them out",
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
        None,
        description="tokenizer of a BEiT, that is opened or trained here: a directory, or a name on the hub, such as "
        "facebook/flava-image-codebook",
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
    n_known: PositiveInt | None = Field(
        None, description="known non-members that attacks learn from, where one does; no model sees them"
    )
    n_validation: PositiveInt | None = Field(
        None, description="images by whose loss trainings are stopped (recipe.patience); no model learns from them"
    )
    n_probe: PositiveInt | None = Field(
        None,
        description="images by which the target's use is measured: how well classes are read from its features, half "
        "of the images to learn from and half to test on, and hidden patches guessed; default: none",
    )
    seed: Seed = Field(0, description="seed of the draw")


class CanarySettings(_Frozen):
    """Images that `mimia pretrain` plants among the training images, each if a coin says so, for a bound on ε."""

    count: NonNegativeInt = Field(0, description="images of the source that are made into canaries")
    kind: CanaryKind = Field(
        "image",
        description="'image' (as they are), 'noise' (blended half and half with uniform noise), or 'patches' (their "
        "patches in a random order)",
    )


class ShadowSettings(_Frozen):
    """The reference models that the auditor trains."""

    count: PositiveInt = Field(2, description="models, in pairs on complementary halves")
    online: NonNegativeInt = Field(
        0, description="further models, trained on halves of the very images that are judged, for the online attacks"
    )
    size: SizeName | None = Field(None, description="size of the models, if the auditor does not know the target's")
    mask_ratio: float | None = Field(
        None, gt=0, lt=1, description="share of the patches that is masked in their training, if not as in the target's"
    )
    epochs: PositiveInt | None = Field(None, description="passes over their images, if not as in the target's training")
    augmentation: Augmentation | None = Field(
        None, description="'none', 'flip' or 'crop' in their training, if not as in the target's"
    )

    def imitating(self, recipe: Recipe) -> Recipe:
        """Give the recipe of the shadows: the target's, but for what the settings say otherwise."""
        changes = self.model_dump(include={"size", "mask_ratio", "epochs", "augmentation"}, exclude_none=True)
        if "epochs" in changes:
            changes["stop_epoch"] = None
        return recipe.model_copy(update=changes)


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
    distance: Distance = Field(
        "training",
        description="between image and reconstruction: 'training' (the loss of the model's family), 'mse', 'mae', "
        "'patch-normalised' (squared, in units of the patch's own variance) or 'ssim' (one minus it)",
    )
    patches: Patches = Field(
        "masked", description="patches that the distance is the mean over: 'masked', 'visible' (predicted too) or 'all'"
    )


class AttackSettings(_Frozen):
    """Which attacks are run."""

    names: tuple[str, ...] | None = Field(
        None,
        description="attacks to run, of those that `mimia attacks` lists, or 'all' for each that can be run; default: "
        "a threshold, its calibration, and the ensemble of the access level",
    )


class EvaluationSettings(_Frozen):
    """How sure the figures are."""

    fewest_false_positives: PositiveInt = Field(
        10, description="a true-positive rate is given where so many non-members lie above its threshold"
    )
    false_discovery_rate: float = Field(
        0.1, gt=0, lt=1, description="bound on the share of false entries in a list of members"
    )
    seed: Seed = Field(0, description="seed of cross-validation, and of what is drawn for pictures and controls")


class ComputeSettings(_Frozen):
    """Where the arithmetic runs."""

    device: Literal["auto", "cpu", "cuda", "mps", "xpu"] = Field("auto", description="device")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16 is faster where the processor knows it; DP-SGD trains in fp32 all the same"
    )
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
    canaries: CanarySettings = CanarySettings()
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
