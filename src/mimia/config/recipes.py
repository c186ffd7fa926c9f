"""Recipes of pre-training: named ones, and the keys that change them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PositiveInt,
    SerializeAsAny,
    field_validator,
    model_validator,
)

from mimia.config.defences import DEFENCES, Defence, parse_defences
from mimia.config.families import FAMILIES, recipe_presets
from mimia.runtime.errors import MimiaError

Augmentation = Literal["none", "flip", "crop"]
SizeName = Literal["nano", "micro", "tiny", "small", "base", "large", "huge"]
_LATER = {"stop_epoch", "defences", "start_from"}
"""Keys that are in an identity only where they are set, so that models from before there were these keys are found."""
_FLAT = {
    "patience": ("early_stopping", "patience"),
    "cross_fits": ("cross_fitting", "pairs"),
    "dp_epsilon": ("dp_sgd", "epsilon"),
    "dp_delta": ("dp_sgd", "delta"),
    "dp_clip": ("dp_sgd", "clip"),
}
"""Defence and setting for each key by which a recipe named them before it had ``defences``."""
Beta = Annotated[float, Field(ge=0, lt=1)]
Proportion = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what scikit-learn takes


class OnDefaultPreset(dict[str, Any]):
    """Values of a recipe whose preset nobody named."""


class Recipe(BaseModel):
    """A recipe of pre-training (He et al., arXiv 2111.06377, appendix A.1; Xie et al., arXiv 2111.09886)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    preset: str = Field(
        description="named recipe, such as mae-nano, mae-micro, simmim-micro, swin-micro or beit-micro; the other keys "
        "of this table change it"
    )
    family: str = Field(
        "mae",
        description="'mae' (arXiv 2111.06377), 'simmim' with a ViT or 'swin' (arXiv 2111.09886), "
        "or 'beit' (arXiv 2106.08254)",
    )
    size: SizeName = Field(description="size of the model")
    patch_size: PositiveInt = Field(le=4096, description="side of a patch in pixels")
    mask_ratio: float = Field(0.75, gt=0, lt=1, description="proportion of the patches that is masked")
    cell: PositiveInt = Field(1, description="patches along a side of the cells that are masked as a whole (SimMIM)")
    vocabulary: PositiveInt | None = Field(
        None, le=1_000_000, description="visual tokens of the tokenizer that is made here (BEiT)"
    )
    patch_normalised: bool = Field(False, description="predict patches normalised by their own mean and variance (MAE)")
    epochs: PositiveInt = Field(le=1_000_000, description="passes over the images")
    stop_epoch: PositiveInt | None = Field(
        None, description="leave the training after so many of the epochs; the learning rate is that of all of them"
    )
    start_from: str | None = Field(
        None,
        min_length=1,
        description="checkpoint with whose weights the training begins, such as the public one that the target was "
        "continued from; default: random weights",
    )
    batch_size: PositiveInt = Field(le=1_000_000, description="images per step")
    base_learning_rate: float = Field(
        gt=0, description="learning rate for a batch of 256; scaled in proportion to the batch"
    )
    warmup: float = Field(0.05, ge=0, lt=1, description="proportion of the steps with a rising rate")
    weight_decay: float = Field(0.05, ge=0, description="of matrices and tokens, not of biases")
    betas: tuple[Beta, Beta] = Field((0.9, 0.95), description="of AdamW")
    gradient_clip: float | None = Field(
        None, gt=0, description="largest norm of the gradient; with DP-SGD, its own clip is used instead"
    )
    augmentation: Augmentation = Field("none", description="'none', 'flip', or 'crop' (random resized crop and flip)")
    crop_scale: tuple[Proportion, Proportion] = Field(
        (0.2, 1.0), description="smallest and largest proportion of the image in a random crop"
    )
    defences: dict[str, SerializeAsAny[Defence]] = Field(
        {}, description="what protects the training images: a table of settings for each defence, by its name"
    )
    seed: Seed = Field(0, description="seed of the target's training; shadows follow from it")

    @model_validator(mode="wrap")
    @classmethod
    def _remember_given(cls, values: Any, validate: ModelWrapValidatorHandler["Recipe"]) -> "Recipe":
        """Take the keys that only the preset gives out of ``model_fields_set``."""
        recipe = validate(values)
        if isinstance(values, dict):
            chosen = {"preset"} if isinstance(values, OnDefaultPreset) else set()
            recipe.model_fields_set.intersection_update(_without_flat_keys(values).keys() - chosen)
        return recipe

    @model_validator(mode="before")
    @classmethod
    def _accept_flat_keys(cls, values: Any) -> Any:
        return _without_flat_keys(values) if isinstance(values, dict) else values

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, values: Any) -> Any:
        if isinstance(values, dict) and "preset" in values:
            presets = recipe_presets()
            if values["preset"] not in tuple(presets):  # it may be of any type
                raise ValueError(f"there is no recipe {values['preset']!r}: choose one of {', '.join(presets)}")
            return presets[values["preset"]] | values
        return values

    @field_validator("defences", mode="before")
    @classmethod
    def _parse_defences(cls, values: Any) -> Any:
        return parse_defences(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if self.family not in FAMILIES:
            raise ValueError(f"there is no model family {self.family!r}: choose one of {', '.join(FAMILIES)}")
        family = FAMILIES[self.family]
        is_set = {
            "patch_normalised": self.patch_normalised,
            "cell": self.cell > 1,
            "vocabulary": self.vocabulary is not None,
        }
        for key in is_set:
            if is_set[key] and key not in family.recipe_keys:
                takers = " and ".join(name for name in FAMILIES if key in FAMILIES[name].recipe_keys)
                raise ValueError(f"{key} is for {takers}, not for {self.family}: leave it out")
        if self.crop_scale[0] > self.crop_scale[1]:
            raise ValueError(
                f"crop_scale goes from {self.crop_scale[0]} to {self.crop_scale[1]}: put the smaller first"
            )
        if self.stop_epoch is not None and self.stop_epoch > self.epochs:
            raise ValueError(f"stop_epoch is {self.stop_epoch}, and there are {self.epochs} epochs: lower it")
        if family.predicts_tokens and self.vocabulary is None:
            raise ValueError(f"a recipe of the family {self.family} needs a vocabulary, such as 512")
        for defence in self.defences.values():
            defence.check(self)
        return self

    def __hash__(self) -> int:
        return hash(tuple(frozenset(value.items()) if name == "defences" else value for name, value in self))

    @property
    def identity(self) -> dict[str, Any]:
        """All settings that decide over the weights except the seed and the weights it starts from, as JSON values."""
        values = self.model_dump(mode="json", exclude={"preset", "seed", *_LATER})
        changed = self.model_dump(mode="json", include=_LATER - {"start_from"}, exclude_defaults=True)
        return values | changed

    @property
    def undefended(self) -> "Recipe":
        """The same recipe from random weights to its end, without defences."""
        return self.model_copy(update={name: type(self).model_fields[name].default for name in _LATER})

    def imitating(self, facts: Mapping[str, Any], preset: str) -> "Recipe":
        """Return the recipe by which shadows imitate a checkpoint: what is given, else the facts, else the preset.

        A preset that was named says all that is not given, and the facts are not used.

        Args:
            facts: Keys of a recipe that the checkpoint's file says of its training.
            preset: Recipe of the checkpoint's family, which says the rest.

        Raises:
            ValueError: The keys contradict each other.
        """
        given = {name: getattr(self, name) for name in self.model_fields_set}
        if "preset" in given:
            return self
        return type(self).model_validate({"preset": preset, **facts, **given})

    @property
    def needs_validation(self) -> bool:
        """Whether a defence needs images that no model learns from."""
        return any(defence.needs_validation for defence in self.defences.values())

    def with_defence(self, defence: Defence) -> "Recipe":
        """Return the recipe with one more defence, by the name under which its class is registered.

        Raises:
            ValueError: It cannot be combined with the recipe.
            MimiaError: Its class is not registered.
        """
        name = next((name for name, kind in DEFENCES.items() if kind is type(defence)), None)
        if name is None:
            raise MimiaError(
                f"{defence!r} is no registered defence: pass one such as mimia.defences.EMA(), or register its "
                "class by a line in config/defences.py or an entry point of the group mimia.defences."
            )
        return type(self).model_validate(self.model_dump() | {"defences": self.defences | {name: defence}})


def _without_flat_keys(values: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a recipe with those of `_FLAT` moved into ``defences``, as older training.json have them.

    >>> _without_flat_keys({"epochs": 5, "patience": None, "dp_epsilon": 8.0, "dp_clip": 1.0, "cross_fits": 0})
    {'epochs': 5, 'defences': {'dp_sgd': {'epsilon': 8.0, 'clip': 1.0}}}
    """
    kept = {key: value for key, value in values.items() if key not in (*_FLAT, "deduplicate")}
    moved: dict[str, dict[str, Any]] = {"deduplicate": {}} if values.get("deduplicate") else {}
    for key, (name, setting) in _FLAT.items():
        if values.get(key) and (name != "dp_sgd" or values.get("dp_epsilon")):
            moved.setdefault(name, {})[setting] = values[key]
    return kept | ({"defences": moved | kept.get("defences", {})} if moved else {})


def usual_mask_ratio(recipe: Recipe) -> float:
    """Return the mask ratio of a recipe's preset, even if the recipe has another one.

    >>> usual_mask_ratio(Recipe.model_validate({"preset": "simmim-nano", "mask_ratio": 0.9}))
    0.6
    """
    return Recipe.model_validate({"preset": recipe.preset}).mask_ratio
