"""What a defence is to the settings: values of its own, and what it needs of a training."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mimia.runtime.errors import MimiaError
from mimia.runtime.registry import Registry

if TYPE_CHECKING:
    from mimia.config.recipes import Recipe


class Defence(BaseModel):
    """Settings of a defence, the base of each class in ``mimia.pretraining.defences``.

    Attributes:
        needs_validation: Whether trainings need images that no model learns from.
        private: Whether nothing but gradients may depend on the images, not even the statistics of their pixels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    needs_validation: ClassVar[bool] = False
    private: ClassVar[bool] = False

    @property
    def teachers(self) -> int:
        """Number of models that are trained on halves of the images first, each for as many steps as the model."""
        return 0

    def check(self, recipe: "Recipe") -> None:
        """Raise `ValueError` if the defence cannot be combined with the rest of the recipe."""

    @abstractmethod
    def hooks(self) -> Any:
        """Return new hooks for one training, a `mimia.pretraining.hooks.TrainerHooks`."""


DEFENCES: Registry[type[Defence]] = Registry(
    "defence",
    "mimia.defences",
    {
        "dp_sgd": "mimia.pretraining.defences.dp_sgd:DPSGD",
        "early_stopping": "mimia.pretraining.defences.early_stopping:EarlyStopping",
        "cross_fitting": "mimia.pretraining.defences.cross_fitting:CrossFitting",
        "deduplicate": "mimia.pretraining.defences.deduplicate:Deduplicate",
        "ema": "mimia.pretraining.defences.ema:EMA",
    },
)


def parse_defences(values: Mapping[str, Any]) -> dict[str, Defence]:
    """Return defences by name, in the order of their names.

    Args:
        values: Of each defence a `Defence` or its settings; ``true`` is one with its defaults, ``false`` is none.

    Raises:
        ValueError: There is no such defence, or a setting of it is wrong.
    """
    return {name: _parse(name, values[name]) for name in sorted(values) if values[name] is not False}


def _parse(name: str, value: Any) -> Defence:
    try:
        return DEFENCES.find(name).model_validate({} if value is True else value)
    except MimiaError as error:
        raise ValueError(str(error).removesuffix(".")) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in (name, *first["loc"]))
        raise ValueError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from error
