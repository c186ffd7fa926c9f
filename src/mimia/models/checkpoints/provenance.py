"""What is known of a model that somebody else trained, and where each fact comes from.

A fact comes from the file, from the weights, from the settings (you), or from the pixels: of several possible values
the one with which the model reconstructs images best (`mimia.models.checkpoints.identification`). What none of them
says is assumed, and every report names the assumption.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Origin = Literal["file", "weights", "pixels", "you", "assumed"]
_ORIGINS: dict[Origin, str] = {
    "file": "from the file",
    "weights": "from its weights",
    "pixels": "from the pixels",
    "you": "from you",
    "assumed": "assumed",
}


@dataclass(frozen=True)
class Fact:
    """One thing that is known of a model.

    Attributes:
        value: A plain value.
        origin: Where it comes from.
        reason: More about that; of an assumption, the whole sentence.
    """

    value: Any
    origin: Origin
    reason: str = ""

    @property
    def source(self) -> str:
        """Return for a reader where it comes from.

        >>> Fact(4, "pixels", "3 % below the next").source, Fact(4, "assumed", "heads are 4").source
        ('from the pixels: 3 % below the next', 'assumed')
        """
        more = f": {self.reason}" if self.reason and self.origin != "assumed" else ""
        return f"{_ORIGINS[self.origin]}{more}"


@dataclass(frozen=True)
class UnknownFact:
    """Something that neither the file nor the settings say, and that the pixels may.

    Attributes:
        name: Name of the fact.
        candidates: Possible values by their names for a reader; the first is taken until the unknown is answered.
        flag: What to pass if the pixels do not say it.
        has_default: Whether the first candidate may be assumed if the pixels do not say it.
    """

    name: str
    candidates: Mapping[str, Any]
    flag: str
    has_default: bool
