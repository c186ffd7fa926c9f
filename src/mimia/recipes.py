"""How MIM models are pre-trained: named recipes, and what can be changed of them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

Augmentation = Literal["none", "flip", "crop"]
Family = Literal["mae", "simmim", "swin", "beit"]
SizeName = Literal["nano", "micro", "tiny", "small", "base", "large", "huge"]
_LATER = {"stop_epoch", "patience", "deduplicate", "cross_fits", "dp_epsilon", "dp_delta", "dp_clip"}
"""Keys that an identity names only where they are set: older models, of which nobody set them, stay known."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what scikit-learn takes


class Recipe(BaseModel):
    """How a MIM model is pre-trained (He et al., arXiv 2111.06377, appendix A.1; Xie et al., arXiv 2111.09886)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

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
    stop_epoch: PositiveInt | None = Field(
        None, description="leave the training after so many of the epochs; the learning rate is that of all of them"
    )
    patience: PositiveInt | None = Field(
        None,
        description="early stopping: end after so many epochs in which images that are not learned from were "
        "reconstructed no better, and keep the weights of the best epoch",
    )
    batch_size: PositiveInt = Field(description="images a step")
    base_learning_rate: float = Field(
        gt=0, description="learning rate for a batch of 256; scaled in proportion to the batch"
    )
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps with a rising rate")
    weight_decay: float = Field(0.05, ge=0, description="of matrices and tokens, not of biases")
    betas: tuple[float, float] = Field((0.9, 0.95), description="of AdamW")
    gradient_clip: float | None = Field(
        None, gt=0, description="largest norm of the gradient; dp_clip stands for it with dp_epsilon"
    )
    augmentation: Augmentation = Field("none", description="'none', 'flip', or 'crop' (random resized crop and flip)")
    crop_area: tuple[float, float] = Field((0.2, 1.0), description="smallest and largest share of a random crop")
    deduplicate: bool = Field(False, description="train on one image alone of those that show the same picture")
    cross_fits: NonNegativeInt = Field(
        0,
        description="pairs of models that are trained on halves of the images first; of each image, the model then "
        "learns what those that did not see it make of it",
    )
    dp_epsilon: float | None = Field(
        None, gt=0, description="differential privacy (DP-SGD): the ε that the whole training may spend on an image"
    )
    dp_delta: float = Field(1e-5, gt=0, lt=1, description="the δ of the differential privacy")
    dp_clip: float = Field(1.0, gt=0, description="largest norm of an image's own gradient with differential privacy")
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
        if self.stop_epoch is not None and self.stop_epoch > self.epochs:
            raise ValueError(f"stop_epoch is {self.stop_epoch}, and there are {self.epochs} epochs: lower it")
        if self.stop_epoch is not None and self.patience is not None:
            raise ValueError("stop_epoch and patience both end a training: leave one of them out")
        if self.cross_fits and self.family == "beit":
            raise ValueError("cross_fits takes models that predict pixels, and a BEiT predicts tokens: leave it out")
        if self.family == "beit" and self.vocabulary is None:
            raise ValueError("a recipe of BEiT needs a vocabulary, such as 512")
        if self.family == "beit" and self.dp_epsilon is not None:
            raise ValueError("the tokenizer of a BEiT is made of its images without privacy: leave dp_epsilon out")
        if self.dp_epsilon is not None and (self.cross_fits or self.deduplicate):
            raise ValueError(
                "dp_epsilon bounds what an image does through its own gradients, and cross_fits and deduplicate let it "
                "do more: leave these out"
            )
        return self

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides over the weights but the seed, as JSON values."""
        values = self.model_dump(mode="json", exclude={"preset", "seed", *_LATER})
        changed = self.model_dump(mode="json", include=_LATER, exclude_defaults=True)
        return values | changed

    @property
    def undefended(self) -> "Recipe":
        """The same without what ends a training early, chooses among its images, or changes what it learns."""
        return self.model_copy(update={name: type(self).model_fields[name].default for name in _LATER})


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
        "epochs": 720,
        "batch_size": 100,
        "base_learning_rate": 8e-3,
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


def usual_mask_ratio(recipe: Recipe) -> float:
    """Give the mask ratio of a recipe's preset, whatever the recipe has made of it.

    >>> usual_mask_ratio(Recipe.model_validate({"preset": "simmim-nano", "mask_ratio": 0.9}))
    0.6
    """
    return Recipe.model_validate({"preset": recipe.preset}).mask_ratio
