"""Data, recipes and sizes of the paper's experiments in each profile.

The paper's own numbers of images and settings are not known to us: ours are declared here.
"""

from pathlib import Path

from mimia.config.recipes import Augmentation
from mimia.config.settings import Distance, Patches
from mimia.experiments.grid import Cell, Coordinates, Profile, Tree, merged

_DIGITS = "digits"
_PHOTOGRAPHS = {
    "CIFAR-10": "cifar10.parquet",
    "TinyImageNet": "tinyimagenet32.parquet",
    "MiniImageNet": "miniimagenet64.parquet",
}
DATA: dict[Profile, dict[str, str]] = {"smoke": {"digits": _DIGITS}, "mini": _PHOTOGRAPHS, "paper": _PHOTOGRAPHS}
_LARGE = {"MiniImageNet"}  # images of 64 pixels: patches of twice the side give as many tokens
FAMILIES: dict[Profile, dict[str, Tree]] = {
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
MASK_RATIOS: dict[Profile, tuple[float, ...]] = {"smoke": (0.5, 0.75), "mini": _RATIOS, "paper": _RATIOS}
SIZES: dict[Profile, tuple[str, ...]] = {
    "smoke": ("nano", "micro"),
    "mini": ("nano", "micro", "tiny", "small"),
    "paper": ("tiny", "small", "base", "large"),
}
HALF: dict[Profile, Tree] = {  # half of the epochs
    profile: {"recipe": {"epochs": common["recipe"]["epochs"] // 2}} for profile, common in _COMMON.items()
}
EPOCH_COUNTS: dict[Profile, tuple[int, ...]] = {  # the last: all
    "smoke": (20, 40),
    "mini": (50, 100, 150, 200, 300),
    "paper": (100, 200, 400, 600, 800),
}
TRAINING_SETS: dict[Profile, tuple[int, ...]] = {
    "smoke": (20, 40),
    "mini": (100, 200, 400, 800),
    "paper": (500, 1000, 2000, 5000),
}
_COUNTS = (1, 2, 4, 8, 16, 32, 64)
MASK_COUNTS: dict[Profile, tuple[int, ...]] = {"smoke": (1, 2), "mini": _COUNTS, "paper": _COUNTS}
_MEASURES: tuple[Distance, ...] = ("mse", "mae", "patch-normalised", "ssim")  # the loss of a MAE is the first
DISTANCES: dict[Profile, tuple[Distance, ...]] = {"smoke": ("mse", "ssim"), "mini": _MEASURES, "paper": _MEASURES}
_ALL_PATCHES: tuple[Patches, ...] = ("masked", "visible", "all")
PATCHES: dict[Profile, tuple[Patches, ...]] = {"smoke": ("masked",), "mini": _ALL_PATCHES, "paper": _ALL_PATCHES}
AUGMENTATIONS: dict[Profile, tuple[Augmentation, ...]] = {
    "smoke": ("none", "flip"),
    "mini": ("none", "flip", "crop"),
    "paper": ("none", "flip", "crop"),
}
FOR_DOWNSTREAM: dict[Profile, Tree] = {  # more images: an encoder of a few hundred is not useful
    "smoke": {"split": {"n_probe": 400}},
    "mini": {
        "recipe": {"epochs": 150},
        "split": {"n_members": 1500, "n_probe": 4000},
        "shadows": {"count": 1},
    },
    "paper": {"split": {"n_probe": 4000}},
}
THRESHOLD: Tree = {"attacks": {"names": ("threshold",)}}
CALIBRATED: Tree = {"attacks": {"names": ("threshold", "calibrated")}}
STRONGEST: Tree = {"attacks": {"names": ("threshold", "calibrated", "ensemble")}}


def cell_of(profile: Profile, coordinates: Coordinates, *trees: Tree) -> Cell:
    """Return a cell with the common settings of a profile and others; its coordinates are its name."""
    name = "-".join(str(value).lower() for value in coordinates.values())
    return Cell(name, coordinates, merged(_COMMON[profile], *trees))


def on_data(profile: Profile, data: Path, source: str, family: str = "MAE-ViT") -> Tree:
    """Return settings of a data set, with a recipe for images of its size."""
    recipe = FAMILIES[profile][family]
    if source in _LARGE:
        recipe = recipe | {"patch_size": 2 * recipe["patch_size"]}
    return {"data": {"source": data_path(profile, data, source)}, "recipe": recipe}


def data_path(profile: Profile, data: Path, name: str) -> str:
    """Return the source of a data set."""
    file = DATA[profile][name]
    return file if file == _DIGITS else str(data / file)
