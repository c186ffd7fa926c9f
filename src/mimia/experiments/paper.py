"""The tables and figures of *Membership Inference Attack Against Masked Image Modeling* (arXiv 2408.06825) as grids.

The source's own numbers of images and settings are not known to us: ours are declared here.
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from mimia.config import Distance, Patches
from mimia.experiments.grid import Cell, Place, Profile, merged
from mimia.recipes import Augmentation

Tree = dict[str, Any]

_DIGITS = "digits"
_PHOTOGRAPHS = {
    "CIFAR-10": "cifar10.parquet",
    "TinyImageNet": "tinyimagenet32.parquet",
    "MiniImageNet": "miniimagenet64.parquet",
}
_DATA: dict[Profile, dict[str, str]] = {"smoke": {"digits": _DIGITS}, "mini": _PHOTOGRAPHS, "paper": _PHOTOGRAPHS}
_LARGE = {"MiniImageNet"}  # images of 64 pixels: patches of twice the side give as many tokens
_FAMILIES: dict[Profile, dict[str, Tree]] = {
    "smoke": {
        "MAE-ViT": {"preset": "mae-nano", "patch_size": 2},
        "SimMIM-ViT": {"preset": "simmim-nano", "patch_size": 2},
        "SimMIM-Swin": {"preset": "swin-nano", "patch_size": 1},
    },
    "mini": {
        "MAE-ViT": {"preset": "mae-micro", "patch_size": 4},
        "SimMIM-ViT": {"preset": "simmim-micro", "patch_size": 4},
        "SimMIM-Swin": {"preset": "swin-micro", "patch_size": 2},
    },
    "paper": {
        "MAE-ViT": {"preset": "mae-base", "patch_size": 4},
        "SimMIM-ViT": {"preset": "simmim-base", "patch_size": 4},
        "SimMIM-Swin": {"preset": "swin-base", "patch_size": 2, "cell": 4},
    },
}
_COMMON: dict[Profile, Tree] = {
    "smoke": {
        "recipe": {"epochs": 40, "batch_size": 40},
        "split": {"n_members": 40, "n_nonmembers": 100, "n_holdout": 40},
        "signals": {"draws": 2},
    },
    "mini": {
        "recipe": {"epochs": 300},
        "split": {"n_members": 200, "n_nonmembers": 1000, "n_holdout": 200},
    },
    "paper": {
        "recipe": {"epochs": 800, "batch_size": 500, "augmentation": "none"},
        "split": {"n_members": 2000, "n_nonmembers": 2500, "n_holdout": 1000},  # MiniImageNet has 10,000 images
    },
}
_RATIOS = (0.25, 0.4, 0.55, 0.75, 0.9)
_MASK_RATIOS: dict[Profile, tuple[float, ...]] = {"smoke": (0.5, 0.75), "mini": _RATIOS, "paper": _RATIOS}
_SIZES: dict[Profile, tuple[str, ...]] = {
    "smoke": ("nano", "micro"),
    "mini": ("nano", "micro", "tiny", "small"),
    "paper": ("tiny", "small", "base", "large"),
}
_HALF: dict[Profile, Tree] = {  # half of the epochs
    profile: {"recipe": {"epochs": common["recipe"]["epochs"] // 2}} for profile, common in _COMMON.items()
}
_EPOCHS: dict[Profile, tuple[int, ...]] = {  # the last: all
    "smoke": (20, 40),
    "mini": (50, 100, 150, 200, 300),
    "paper": (100, 200, 400, 600, 800),
}
_TRAINING_SETS: dict[Profile, tuple[int, ...]] = {
    "smoke": (20, 40),
    "mini": (100, 200, 400, 800),
    "paper": (500, 1000, 2000, 5000),
}
_COUNTS = (1, 2, 4, 8, 16, 32, 64)
_MASKS: dict[Profile, tuple[int, ...]] = {"smoke": (1, 2), "mini": _COUNTS, "paper": _COUNTS}
_MEASURES: tuple[Distance, ...] = ("mse", "mae", "patch-normalised", "ssim")  # the loss of a MAE is the first
_DISTANCES: dict[Profile, tuple[Distance, ...]] = {"smoke": ("mse", "ssim"), "mini": _MEASURES, "paper": _MEASURES}
_ALL_PATCHES: tuple[Patches, ...] = ("masked", "visible", "all")
_PATCHES: dict[Profile, tuple[Patches, ...]] = {"smoke": ("masked",), "mini": _ALL_PATCHES, "paper": _ALL_PATCHES}
_AUGMENTATIONS: dict[Profile, tuple[Augmentation, ...]] = {
    "smoke": ("none", "flip"),
    "mini": ("none", "flip", "crop"),
    "paper": ("none", "flip", "crop"),
}
_USED: dict[Profile, Tree] = {  # an encoder of a few hundred images is of little use
    "smoke": {"split": {"n_probe": 400}},
    "mini": {
        "recipe": {"epochs": 150},
        "split": {"n_members": 1500, "n_probe": 4000},
        "shadows": {"count": 1},
    },
    "paper": {"split": {"n_probe": 4000}},
}
_THRESHOLD: Tree = {"attacks": {"names": ("threshold",)}}
_CALIBRATED: Tree = {"attacks": {"names": ("threshold", "calibrated")}}
_STRONGEST: Tree = {"attacks": {"names": ("threshold", "calibrated", "ensemble")}}


def main_table(profile: Profile, data: Path) -> Sequence[Cell]:
    """Give the attack and its rivals on each architecture and data set."""
    attacks = {"attacks": {"names": ("threshold", "calibrated", "ensemble", "encodermi-v", "partcrop")}}
    return [
        _cell(profile, {"data": source, "architecture": family}, _of(profile, data, source, family), attacks)
        for source, family in product(_DATA[profile], _FAMILIES[profile])
    ]


def downstream(profile: Profile, data: Path) -> Sequence[Cell]:
    """Give a pre-training on each data set, whose encoder is then used (figure 1)."""
    return [
        _cell(profile, {"data": source}, _of(profile, data, source), _USED[profile], _THRESHOLD)
        for source in _DATA[profile]
    ]


def end_to_end(profile: Profile, data: Path) -> Sequence[Cell]:
    """Give one attack from shadow and threshold to verdict (figure 2)."""
    source = next(iter(_DATA[profile]))
    return [_cell(profile, {"data": source}, _of(profile, data, source), _THRESHOLD)]


def distributions(profile: Profile, data: Path) -> Sequence[Cell]:
    """Give the distances of members and non-members of each data set (figure 3)."""
    return [_cell(profile, {"data": source}, _of(profile, data, source), _THRESHOLD) for source in _DATA[profile]]


def other_data(profile: Profile, data: Path) -> Sequence[Cell]:
    """Give each data set of the target with each data set of the shadows (figure 4)."""
    of_one_size = {} if profile == "smoke" else {"data": {"image_size": 32}, "recipe": {"patch_size": 4}}
    return [
        _cell(
            profile,
            {"target's data": source, "shadows' data": other},
            _of(profile, data, source),
            {} if other == source else {"data": {"reference": _path(profile, data, other)}},
            of_one_size,
            _CALIBRATED,
        )
        for source, other in product(_DATA[profile], repeat=2)
    ]


def other_mask_ratio(profile: Profile, data: Path) -> Sequence[Cell]:
    """Give each mask ratio of the target with each mask ratio of the shadows (figure 5)."""
    return _crossed(profile, data, _of_figure_5(profile), "mask_ratio", _MASK_RATIOS[profile])


def complexity(profile: Profile, data: Path) -> Sequence[Cell]:
    """Give models of four sizes, without the ensemble, whose many questions would take the larger ones hours."""
    source = next(iter(_DATA[profile]))
    return [
        _cell(
            profile, {"size": size}, _of(profile, data, source), _HALF[profile], {"recipe": {"size": size}}, _CALIBRATED
        )
        for size in _SIZES[profile]
    ]


def mask_ratio(profile: Profile, data: Path) -> Sequence[Cell]:
    """Give targets, and shadows like them, of growing mask ratios: those of figure 5."""
    ratios = {ratio: {"recipe": {"mask_ratio": ratio}} for ratio in _MASK_RATIOS[profile]}
    return _along(profile, data, "mask ratio", ratios, _of_figure_5(profile))


def epochs(profile: Profile, data: Path) -> Sequence[Cell]:
    """Give one training of the target and of each shadow, looked at along the way."""
    *earlier, last = _EPOCHS[profile]
    return _along(profile, data, "epochs", {epoch: {"recipe": {"stop_epoch": epoch}} for epoch in earlier} | {last: {}})


def training_set(profile: Profile, data: Path) -> Sequence[Cell]:
    """Give training sets of growing size, each seen as often."""
    return _along(
        profile, data, "training images", {count: {"split": {"n_members": count}} for count in _TRAINING_SETS[profile]}
    )


def masks(profile: Profile, data: Path) -> Sequence[Cell]:
    """Give growing numbers of masks under which an image is asked about."""
    return _along(profile, data, "masks", {count: {"signals": {"draws": count}} for count in _MASKS[profile]})


def distance(profile: Profile, data: Path) -> Sequence[Cell]:
    """Give each distance between image and reconstruction, over the patches that were masked, the others, and all."""
    source = next(iter(_DATA[profile]))
    return [
        _cell(
            profile,
            {"distance": measure, "patches": patches},
            _of(profile, data, source),
            {"signals": {"distance": measure, "patches": patches}},
            _CALIBRATED,
        )
        for measure, patches in product(_DISTANCES[profile], _PATCHES[profile])
    ]


def other_architecture(profile: Profile, data: Path) -> Sequence[Cell]:
    """Give shadows of other sizes than the target's."""
    return _along(profile, data, "shadows' size", {size: {"shadows": {"size": size}} for size in _SIZES[profile][:3]})


def other_recipe(profile: Profile, data: Path) -> Sequence[Cell]:
    """Give each augmentation of the target with each augmentation of the shadows."""
    return _crossed(profile, data, next(iter(_DATA[profile])), "augmentation", _AUGMENTATIONS[profile])


def _crossed(profile: Profile, data: Path, source: str, key: str, values: Sequence[str | float]) -> Sequence[Cell]:
    """Give each value of a key of the target's recipe with each value of the shadows'."""
    axis = key.replace("_", " ")
    return [
        _cell(
            profile,
            {f"target's {axis}": own, f"shadows' {axis}": other},
            _of(profile, data, source),
            {"recipe": {key: own}, "shadows": {key: other}},
            _CALIBRATED,
        )
        for own, other in product(values, repeat=2)
    ]


def _of_figure_5(profile: Profile) -> str:
    return next(iter(_DATA[profile])) if profile == "smoke" else "TinyImageNet"


def _along(
    profile: Profile, data: Path, axis: str, values: dict[Any, Tree], source: str | None = None
) -> Sequence[Cell]:
    source = source or next(iter(_DATA[profile]))
    return [
        _cell(profile, {axis: value}, _of(profile, data, source), tree, _STRONGEST) for value, tree in values.items()
    ]


def _cell(profile: Profile, at: Place, *trees: Tree) -> Cell:
    name = "-".join(str(value).lower() for value in at.values())
    return Cell(name, at, merged(_COMMON[profile], *trees))


def _of(profile: Profile, data: Path, source: str, family: str = "MAE-ViT") -> Tree:
    """Name a data set, and a recipe for images of its size."""
    recipe = _FAMILIES[profile][family]
    if source in _LARGE:
        recipe = recipe | {"patch_size": 2 * recipe["patch_size"]}
    return {"data": {"source": _path(profile, data, source)}, "recipe": recipe}


def _path(profile: Profile, data: Path, name: str) -> str:
    file = _DATA[profile][name]
    return file if file == _DIGITS else str(data / file)
