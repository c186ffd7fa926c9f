"""All attacks on equal terms: the same targets, images and shadows, at each access level."""

from collections.abc import Sequence
from pathlib import Path

from mimia.attacks.registry import ATTACKS
from mimia.attacks.selection import access_of, uses_decoder
from mimia.experiments.grid import Cell, Profile, Tree

_CIFAR = "cifar10.parquet"
_BASE: Tree = {"preset": "mae-base", "patch_size": 4, "batch_size": 500, "augmentation": "none"}
_TARGETS: dict[Profile, dict[str, tuple[str, int, Tree]]] = {  # data, members, recipe
    "smoke": {"digits": ("digits", 40, {"epochs": 120, "batch_size": 40})},
    "mini": {
        "overfit": (_CIFAR, 200, {"epochs": 600}),
        "weak": (_CIFAR, 500, {"epochs": 240}),
        "moderate": (_CIFAR, 1000, {"epochs": 300, "augmentation": "flip"}),
        "guarded": (_CIFAR, 1000, {"epochs": 300, "augmentation": "crop"}),
        "moderate-tinyimagenet": ("tinyimagenet32.parquet", 1000, {"epochs": 300, "augmentation": "flip"}),
    },
    "paper": {
        "overfit": (_CIFAR, 2000, _BASE | {"epochs": 800}),
        "moderate": (_CIFAR, 4000, _BASE | {"epochs": 400, "augmentation": "flip"}),
        "guarded": (_CIFAR, 4000, _BASE | {"epochs": 400, "augmentation": "crop"}),
        "moderate-tinyimagenet": ("tinyimagenet32.parquet", 8000, _BASE | {"epochs": 400, "augmentation": "flip"}),
    },
}
_SIZES: dict[Profile, Tree] = {
    "smoke": {"n_nonmembers": 200, "n_holdout": 40, "n_decoder": 60, "n_population": 40},
    "mini": {"n_nonmembers": 5000, "n_holdout": 500, "n_decoder": 4000, "n_population": 2000},
    "paper": {"n_nonmembers": 5000, "n_holdout": 500, "n_decoder": 4000, "n_population": 2000},
}
_DRAWS: dict[Profile, int] = {"smoke": 2, "mini": 16, "paper": 16}
_EVALUATION: dict[Profile, Tree] = {
    "smoke": {"fewest_false_positives": 2},  # 1 % of 200
    "mini": {"fewest_false_positives": 5},  # 0.1 % of 5,000
    "paper": {"fewest_false_positives": 5},
}
_BUDGET = 4  # offline models, and as many online ones
_OF_EMBEDDINGS = {"view_similarity", "view_similarity_by_ratio", "crop_similarity", "embeddings", "partcrop"}
_BUDGETS: dict[Profile, tuple[str, Sequence[int], Sequence[int]]] = {  # target, masks, shadows
    "smoke": ("digits", (1, 2), (2, 4)),
    "mini": ("weak", (1, 4, 16, 64), (2, 4, 8, 16)),
    "paper": ("moderate", (1, 4, 16, 64), (2, 4, 8, 16)),
}
_LEFT_OUT = "`lira-online` takes six online models, and four are the budget; `lira-online-pooled` does with four."
_COMPARED = ("threshold", "calibrated", "ensemble")  # by budgets


def cells(profile: Profile, data: Path) -> Sequence[Cell]:
    """Return each target at two access levels, and one target with growing budgets.

    The levels are the target's own decoder (D1), and an encoder with a decoder that is fitted here (D3); attacks that
    take no decoder run once, with the encoder.
    """
    made = []
    for target in _TARGETS[profile]:
        common = _common(profile, target, data)
        own = {"attacks": {"names": names_at("decoder")}, "shadows": {"count": _BUDGET, "online": _BUDGET}}
        fitted = {
            "attacks": {"names": names_at("encoder")},
            "shadows": {"count": _BUDGET},
            "decoder": {"source": "fitted"},
        }
        made.append(Cell(f"{target}-decoder", {"target": target}, common | own, footnote=_LEFT_OUT))
        made.append(Cell(f"{target}-encoder", {"target": target}, common | fitted))
    return made + _budgets(profile, data)


def _budgets(profile: Profile, data: Path) -> list[Cell]:
    target, masks, shadows = _BUDGETS[profile]
    common = _common(profile, target, data) | {"attacks": {"names": _COMPARED}}
    return [
        *(
            Cell(
                f"{target}-masks-{count}",
                {"target": target, "masks": count},
                common | {"shadows": {"count": 2}, "signals": {"draws": count}},
            )
            for count in masks
        ),
        *(
            Cell(
                f"{target}-shadows-{count}",
                {"target": target, "shadows": count},
                common | {"shadows": {"count": count}},
            )
            for count in shadows
        ),
    ]


def _common(profile: Profile, target: str, data: Path) -> Tree:
    source, members, recipe = _TARGETS[profile][target]
    return {
        "data": {"source": source if source == "digits" else str(data / source)},
        "recipe": recipe,
        "split": _SIZES[profile] | {"n_members": members},
        "signals": {"draws": _DRAWS[profile]},
        "evaluation": _EVALUATION[profile],
    }


def names_at(level: str) -> list[str]:
    """Return the names of the attacks that run with the target's own decoder (``decoder``) or without (``encoder``).

    >>> "gradient" in names_at("decoder"), "partcrop" in names_at("decoder"), "partcrop" in names_at("encoder")
    (True, False, True)
    """
    requirements = {name: make().requirements for name, make in ATTACKS.items()}
    if level == "decoder":
        return [
            name
            for name, each in requirements.items()
            if uses_decoder(each) and not _OF_EMBEDDINGS & {*each.signals} and each.shadows <= _BUDGET
        ]
    return [name for name, each in requirements.items() if access_of(each) != "decoder" and not each.online]
