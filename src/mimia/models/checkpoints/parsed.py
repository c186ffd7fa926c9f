"""What a layout reads from a file: a description of the model, and weights by the names of our models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mimia.models.base import Architecture, ModelSpec
from mimia.models.checkpoints.provenance import Fact, UnknownFact

WHERE_IS_THE_DECODER = (
    "mae_pretrain_* files of the official MAE hold no decoder; mae_pretrain_*_full and mae_visualize_* hold one"
)


@dataclass(frozen=True)
class ParsedCheckpoint:
    """A checkpoint in our terms.

    Attributes:
        layout: What it is, in words for a person.
        spec: What the model takes and predicts.
        architecture: Its family and sizes.
        state: Weights by the names of our model; some may be missing, unexpected or of a wrong shape.
        facts: What is known of it, by name.
        unknown: What is not known, and taken to be the first candidate.
        remarks: What else was assumed, one sentence each.
        recipe: What its file says of its training, by the names of `Recipe`.
        also: Files of weights that it needs beside its own.
    """

    layout: str
    spec: ModelSpec
    architecture: Architecture
    state: Mapping[str, Tensor]
    facts: Mapping[str, Fact] = field(default_factory=dict)
    unknown: tuple[UnknownFact, ...] = ()
    remarks: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    also: tuple[Path, ...] = ()
