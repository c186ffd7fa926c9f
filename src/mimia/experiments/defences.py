"""What defends, and what it costs: one training for each defence, attacked by shadows that defend themselves alike."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mimia.config import read_settings
from mimia.experiments.grid import Cell, Profile, merged

Tree = dict[str, Any]

UNDEFENDED = "none"
_ATTACKS = ("threshold", "calibrated", "rmia", "ensemble")
_EPSILON = 8
_MUCH_MASKED = 0.9
_HEAVIER = 10  # times the weight decay
_BASE: dict[Profile, Tree] = {
    "smoke": {
        "recipe": {"preset": "mae-nano", "epochs": 40, "batch_size": 40},
        "split": {"n_members": 40, "n_nonmembers": 100, "n_holdout": 40, "n_probe": 200, "n_validation": 40},
        "signals": {"draws": 2},
        "evaluation": {"fewest_false_positives": 1},
    },
    "mini": {
        "recipe": {"preset": "mae-micro", "epochs": 300},
        "split": {"n_members": 200, "n_nonmembers": 2000, "n_holdout": 200, "n_probe": 4000, "n_validation": 200},
        "evaluation": {"fewest_false_positives": 2},  # 0.1 % of 2,000
    },
    "paper": {
        "recipe": {"preset": "mae-base", "patch_size": 4, "epochs": 800, "batch_size": 500, "augmentation": "none"},
        "split": {"n_members": 2000, "n_nonmembers": 5000, "n_holdout": 1000, "n_probe": 4000, "n_validation": 1000},
        "evaluation": {"fewest_false_positives": 5},  # 0.1 % of 5,000
    },
}


def cells(profile: Profile, data: Path) -> Sequence[Cell]:
    """Give one target for each defence."""
    source = "digits" if profile == "smoke" else str(data / "cifar10.parquet")
    return cells_for(merged({"data": {"source": source}}, _BASE[profile]))


def cells_for(base: Tree) -> Sequence[Cell]:
    """Give one target for each defence, of somebody's images and recipe.

    Args:
        base: Nested settings of the target without a defence.
    """
    recipe = read_settings(None, base).recipe
    return [
        Cell(
            re.sub(r"[^a-z0-9.]+", "-", name.lower()),
            {"defence": name},
            merged({"attacks": {"names": _ATTACKS}}, base, {"recipe": changes}),
        )
        for name, changes in defences(recipe.epochs, recipe.weight_decay).items()
    ]


def defences(epochs: int, weight_decay: float) -> dict[str, Tree]:
    """Give what each defence changes of a recipe.

    Args:
        epochs: Of the training without one.
        weight_decay: Of the training without one.
    """
    shorter = {f"{epochs // part} epochs": {"epochs": epochs // part} for part in (8, 4, 2) if epochs >= part}
    return {
        UNDEFENDED: {},
        **shorter,
        "early stopping": {"patience": max(1, epochs // 20)},
        f"{_MUCH_MASKED:.0%} masked": {"mask_ratio": _MUCH_MASKED},
        "flips": {"augmentation": "flip"},
        "crops": {"augmentation": "crop"},
        f"weight decay {_HEAVIER * weight_decay:g}": {"weight_decay": _HEAVIER * weight_decay},
        "duplicates removed": {"deduplicate": True},
        f"DP-SGD, ε = {_EPSILON}": {"dp_epsilon": _EPSILON},
        "cross-fitting": {"cross_fits": 1},
        "cross-fitting, two pairs": {"cross_fits": 2},
    }
