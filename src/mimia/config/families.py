"""The model families' names, and what a recipe has to know of a family. None is imported before it is used."""

from collections.abc import Mapping
from typing import Any, Protocol

from mimia.runtime.registry import Registry


class RecipeFamily(Protocol):
    """What a recipe asks of its family; `mimia.models.family.Family` has it."""

    @property
    def presets(self) -> Mapping[str, Mapping[str, Any]]:
        """Named recipes."""

    @property
    def recipe_keys(self) -> frozenset[str]:
        """Keys of `Recipe` that not every family takes and this one does."""

    @property
    def predicts_tokens(self) -> bool:
        """Whether it predicts visual tokens instead of pixels."""


FAMILIES: Registry[RecipeFamily] = Registry(
    "model family",
    "mimia.families",
    {
        "mae": "mimia.models.mae:FAMILY",
        "simmim": "mimia.models.simmim:FAMILY",
        "swin": "mimia.models.huggingface:FAMILY",
        "beit": "mimia.models.beit:FAMILY",
    },
)


def recipe_presets() -> dict[str, dict[str, Any]]:
    """Return the named recipes of all families.

    >>> recipe_presets()["simmim-nano"]["mask_ratio"]
    0.6
    """
    return {
        preset: {"family": name, **values}
        for name, family in FAMILIES.items()
        for preset, values in family.presets.items()
    }
