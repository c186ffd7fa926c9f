"""Defences and their cost: one target for each defence, attacked with shadows that have the same defence."""

import re
from collections.abc import Sequence
from pathlib import Path

from mimia.config.settings import read_settings
from mimia.experiments.grid import Cell, Experiment, Profile, Tree, merged
from mimia.experiments.tradeoff import tradeoff_pages

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
    """Return one target for each defence."""
    source = "digits" if profile == "smoke" else str(data / "cifar10.parquet")
    return cells_for(merged({"data": {"source": source}}, _BASE[profile]))


def cells_for(base: Tree) -> Sequence[Cell]:
    """Return one target for each defence, with images and a recipe that are given.

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
    """Return what each defence changes in a recipe.

    Args:
        epochs: Without a defence.
        weight_decay: Without a defence.
    """
    shorter = {f"{epochs // part} epochs": {"epochs": epochs // part} for part in (8, 4, 2) if epochs >= part}
    return {
        UNDEFENDED: {},
        **shorter,
        "early stopping": {"defences": {"early_stopping": {"patience": max(1, epochs // 20)}}},
        f"{_MUCH_MASKED:.0%} masked": {"mask_ratio": _MUCH_MASKED},
        "flips": {"augmentation": "flip"},
        "crops": {"augmentation": "crop"},
        f"weight decay {_HEAVIER * weight_decay:g}": {"weight_decay": _HEAVIER * weight_decay},
        "duplicates removed": {"defences": {"deduplicate": {}}},
        f"DP-SGD, ε = {_EPSILON}": {"defences": {"dp_sgd": {"epsilon": _EPSILON}}},
        "cross-fitting": {"defences": {"cross_fitting": {"pairs": 1}}},
        "cross-fitting, two pairs": {"defences": {"cross_fitting": {"pairs": 2}}},
    }


EXPERIMENT = Experiment("What defends, and what does it cost?", cells, tradeoff_pages)
