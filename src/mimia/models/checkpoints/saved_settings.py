"""What trainers write beside the weights: arguments, hyper-parameters and configurations, as facts.

Each trainer has names of its own for the same things. The functions here bring them to the names of
`CheckpointSettings` and of `Recipe`, and leave out what does not have the type that it should have.
"""

import math
import re
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mimia.config.sizes import collapsed
from mimia.models.checkpoints.python_config import parse_python_config

_HEADS_OF_NAMES = {"base": (12, 16), "large": (16, 16), "huge": (16, 16)}
_ARGUMENTS = {  # names of CheckpointSettings, and what trainers call them
    "image_size": ("input_size", "img_size", "image_size"),
    "mask_ratio": ("mask_ratio", "masking_ratio"),
    "norm_pix_loss": ("norm_pix_loss", "norm_pix", "norm_pixel"),
    "cell_size": ("mask_patch_size",),
    "heads": ("num_heads", "encoder_num_heads", "heads"),
    "decoder_heads": ("decoder_num_heads", "decoder_heads"),
    "mean": ("image_mean", "mean"),
    "std": ("image_std", "std"),
}
_GROUPS = ("args", "hyper_parameters", "config", "cfg", "model", "model_args", "data")
"""Where arguments stand beside the weights or within each other, from the outside in."""
_DEEPEST = 3
_HUGE = 2**31
_OF_BATCH_256 = 256
_OF_BATCH_512 = 512  # for which the official SimMIM states its learning rates


@dataclass(frozen=True)
class SavedSettings:
    """What a file says of its model beside the weights.

    Attributes:
        place: Where it says so, for a reader.
        model: By the names of `CheckpointSettings`.
        recipe: By the names of `Recipe`, with which it was trained.
    """

    place: str = "the file"
    model: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)


def from_arguments(beside: Mapping[str, Any]) -> SavedSettings:
    """Read the arguments of a training with the official MAE, or with code like it, and Lightning's hyper-parameters.

    Args:
        beside: What stands in the file beside the weights.
    """
    given: dict[str, Any] = {}
    groups = list(_groups(beside))
    for _, values in reversed(groups):  # those farther outside win
        given |= values
    found = {
        name: next((given[word] for word in names if given.get(word) is not None), None)
        for name, names in _ARGUMENTS.items()
    }
    found["target_space"] = target_space(found.pop("norm_pix_loss"))
    found["image_size"] = as_size(found["image_size"])
    found |= {name: _fractions(found[name]) for name in ("mean", "std")}
    named = re.fullmatch(r"mae_vit_(base|large|huge)_patch\d+\w*", str(given.get("model")))
    if named:
        heads = dict(zip(("heads", "decoder_heads"), _HEADS_OF_NAMES[named[1]], strict=True))
        found |= {name: value for name, value in heads.items() if found[name] is None}
    return SavedSettings(groups[0][0] if groups else "the file", _not_none(found), _recipe_of(given))


def _groups(values: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield groups of arguments with their places, those farther outside first; a file may put one into itself."""
    for name in _GROUPS if depth < _DEEPEST else ():
        inner = values.get(name)
        inner = vars(inner) if isinstance(inner, Namespace) else inner
        if isinstance(inner, Mapping):
            yield f"its {name}", inner
            yield from _groups(inner, depth + 1)


def _recipe_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe that the arguments of the official MAE describe."""
    epochs = _whole(given.get("epochs", given.get("max_epochs")))
    per_device = _whole(given.get("batch_size"))
    devices = [_whole(given.get(name, 1)) for name in ("accum_iter", "world_size")]
    batch = None if per_device is None or None in devices else per_device * math.prod(filter(None, devices))
    rate, of_batch = _number(given.get("blr")), _number(given.get("lr"))
    if rate is None and of_batch is not None and batch is not None:
        rate = of_batch * _OF_BATCH_256 / batch
    recipe: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch,
        "base_learning_rate": rate,
        "warmup": _proportion(given.get("warmup_epochs"), epochs),
        "weight_decay": _number(given.get("weight_decay")),
    }
    if "blr" in given and "data_path" in given:  # the official training always crops, and has no argument for it
        recipe["augmentation"] = "crop"
    return _not_none(recipe)


def from_yacs(beside: Mapping[str, Any]) -> SavedSettings:
    """Read the settings of a training with the official SimMIM or Swin Transformer.

    Args:
        beside: What stands in the file beside the weights.
    """
    data, train = (table(table(beside, "config"), name) for name in ("DATA", "TRAIN"))
    target = table(table(table(table(beside, "config"), "MODEL"), "SIMMIM"), "NORM_TARGET")
    epochs = _whole(train.get("EPOCHS"))
    rate = _number(train.get("BASE_LR"))
    betas = table(train, "OPTIMIZER").get("BETAS")
    model = {
        "image_size": as_size(data.get("IMG_SIZE")),
        "mask_ratio": data.get("MASK_RATIO"),
        "cell_size": data.get("MASK_PATCH_SIZE"),
        "norm_target": target.get("PATCH_SIZE") if target.get("ENABLE") is True else None,
    }
    recipe = {
        "epochs": epochs,
        "batch_size": _whole(data.get("BATCH_SIZE")),
        "base_learning_rate": None if rate is None else rate * _OF_BATCH_256 / _OF_BATCH_512,
        "warmup": _proportion(train.get("WARMUP_EPOCHS"), epochs),
        "weight_decay": _number(train.get("WEIGHT_DECAY")),
        "gradient_clip": _number(train.get("CLIP_GRAD")),
        "betas": tuple(betas) if isinstance(betas, list | tuple) else None,
    }
    return SavedSettings("its config", _not_none(model), _not_none(recipe))


def from_mmengine(beside: Mapping[str, Any]) -> SavedSettings:
    """Read the configuration of a training with mmpretrain, or with mmselfsup before it; it is Python and is not run.

    Args:
        beside: What stands in the file beside the weights.
    """
    meta = table(beside, "meta")
    text = next((meta[name] for name in ("cfg", "config") if isinstance(meta.get(name), str)), "")
    config = parse_python_config(text)
    pixels = next((each for each in _walk(config) if "mean" in each and "std" in each), {})
    loader = table(config, "train_dataloader") or table(config, "data")
    optimiser = next((each for each in _walk(config) if "lr" in each and "weight_decay" in each), {})
    epochs = _whole(_first(config, "max_epochs"))
    batch = _whole(_first(config, "base_batch_size")) or _whole(loader.get("batch_size", loader.get("samples_per_gpu")))
    rate, betas = _number(optimiser.get("lr")), optimiser.get("betas")
    norm = next((value for name in _ARGUMENTS["norm_pix_loss"] if (value := _first(config, name)) is not None), None)
    order = next((pixels[name] for name in ("bgr_to_rgb", "to_rgb") if isinstance(pixels.get(name), bool)), None)
    crop = next((each for each in _walk(config) if str(each.get("type")).startswith("RandomResizedCrop")), None)
    flip = any(each.get("type") == "RandomFlip" for each in _walk(config))
    model = {
        "image_size": as_size(_first(config, "img_size")),
        "mask_ratio": _first(config, "mask_ratio"),
        "cell_size": _first(config, "mask_patch_size"),
        "target_space": target_space(norm),
        "mean": _fractions(pixels.get("mean"), 255),
        "std": _fractions(pixels.get("std"), 255),
        "channel_order": None if order is None else "rgb" if order else "bgr",
    }
    recipe = {
        "epochs": epochs,
        "batch_size": batch,
        "base_learning_rate": None if rate is None or batch is None else rate * _OF_BATCH_256 / batch,
        "weight_decay": _number(optimiser.get("weight_decay")),
        "betas": tuple(betas) if isinstance(betas, list | tuple) else None,
        "gradient_clip": _number(_first(config, "max_norm")),
        "augmentation": None if not config else "crop" if crop is not None else "flip" if flip else None,
        "crop_scale": None if crop is None else _pair(crop.get("crop_ratio_range", crop.get("scale"))),
    }
    return SavedSettings("its meta.cfg", _not_none(model), _not_none(recipe))


def target_space(norm_pix_loss: object) -> str | None:
    """Return the target space of a MAE's decoder, by the setting of its training."""
    if not isinstance(norm_pix_loss, bool):
        return None
    return "patch-normalised" if norm_pix_loss else "normalised"


def as_size(value: object) -> int | tuple[int, int] | None:
    """Return a size as one number if it is the same in both directions; None of what is no size.

    >>> as_size([224, 224]), as_size((16, 64)), as_size([3, 32, 32]), as_size("large")
    (224, (16, 64), 32, None)
    """
    sides: list[Any] = [*value] if isinstance(value, list | tuple) else [value, value]
    if len(sides) not in (2, 3) or not all(type(side) is int and side > 0 for side in sides):
        return None  # of those that are too large, a reader of the facts says so
    return collapsed((sides[-2], sides[-1]))


def table(values: object, name: str) -> Mapping[str, Any]:
    """Return a table within another, or an empty one if there is none."""
    inner = values.get(name) if isinstance(values, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _walk(values: object) -> Iterator[Mapping[str, Any]]:
    """Yield all tables, those farther outside first."""
    level = [values]
    while level:
        yield from (each for each in level if isinstance(each, Mapping))
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, Mapping) else each if isinstance(each, list) else ())
        ]


def _first(config: Mapping[str, Any], name: str) -> Any:
    return next((table[name] for table in _walk(config) if name in table), None)


def _not_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _number(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 0 < value < _HUGE else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _HUGE else None


def _proportion(part: object, whole: int | None) -> float | None:
    number = 0.0 if part == 0 else _number(part)
    return None if number is None or whole is None or number >= whole else number / whole


def _pair(value: object) -> tuple[float, float] | None:
    numbers = [_number(each) for each in value] if isinstance(value, list | tuple) and len(value) == 2 else []
    low, high = numbers or (None, None)
    return None if low is None or high is None or not low <= high <= 1 else (low, high)


def _fractions(value: object, unit: float = 1) -> float | tuple[float, ...] | None:
    """Return pixel statistics in units of the largest value; None of what are none."""
    numbers: list[Any] = [*value] if isinstance(value, list | tuple) else [value]
    if not all(isinstance(each, int | float) and 0 <= each <= unit for each in numbers):
        return None
    parts = tuple(each / unit for each in numbers)
    return parts if isinstance(value, list | tuple) else parts[0]
