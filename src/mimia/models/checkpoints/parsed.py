"""What a layout reads from a file: a description of the model, and weights by the names of our models."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from torch import Tensor

from mimia.config.settings import CheckpointSettings
from mimia.models.base import Architecture, ModelSpec
from mimia.runtime.errors import MimiaError, first_mistake
from mimia.runtime.text import shortened

WHERE_IS_THE_DECODER = (
    "mae_pretrain_* files of the official MAE hold no decoder; mae_pretrain_*_full and mae_visualize_* hold one"
)
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_HEADS = {192: 3, 384: 6, 512: 16, 768: 12, 1024: 16, 1280: 16}  # of released models, by their width
_HEAD_WIDTH = 64
_Architecture = TypeVar("_Architecture", bound=Architecture)
_HUGE = 2**31
_CHANNELS = 16  # at most
_CELL_SIZE = 32  # pixels, of the official SimMIM and of all its released files


@dataclass(frozen=True)
class ParsedCheckpoint:
    """A checkpoint in our terms.

    Attributes:
        layout: What it is, in words for a person.
        spec: What the model takes and predicts.
        architecture: Its family and sizes.
        state: Weights by the names of our model; some may be missing, unexpected or of a wrong shape.
        assumed: What the file does not say and was taken for granted, one sentence each.
        also: Files of weights that it needs beside its own.
    """

    layout: str
    spec: ModelSpec
    architecture: Architecture
    state: Mapping[str, Tensor]
    assumed: tuple[str, ...]
    also: tuple[Path, ...] = ()


@dataclass
class CheckpointFacts:
    """What is known of a model: from its weights, from what its file says beside them, and from the settings.

    Attributes:
        path: The file or directory, for errors.
        state: Weights, under the names that they have so far.
        said: What the file says beside them, by the names of `CheckpointSettings`.
        given: What the settings say, which wins.
        assumed: What was taken for granted so far, because nothing says it.
    """

    path: Path
    state: Mapping[str, Tensor]
    said: Mapping[str, Any]
    given: CheckpointSettings
    assumed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.said = {name: self._plain(name, value) for name, value in self.said.items()}

    def _plain(self, name: str, value: object) -> object:
        """Return a value of a file if it is a number, a text or a short list of numbers, and None otherwise.

        Raises:
            MimiaError: It is a number that no model has.
        """
        values = [*value] if isinstance(value, list | tuple) else [value]
        if len(values) > _CHANNELS or not all(isinstance(each, int | float | str) for each in values):
            return None
        if not all(-_HUGE < each < _HUGE for each in values if isinstance(each, int | float)):
            raise MimiaError(f"{self.path} says a {name} that no model has: correct --set checkpoint.{name}=….")
        return value

    def stated(self, name: str) -> Any:
        """Return what the settings say, or else the file; None if neither does."""
        given = getattr(self.given, name)
        return self.said.get(name) if given is None else given

    def or_else(self, name: str, value: Any, sentence: str) -> Any:
        """Return what is known, or else a value, and then note the sentence as an assumption."""
        known = self.stated(name)
        if known is None:
            self.assumed.append(sentence)
        return value if known is None else known

    def has(self, prefix: str) -> bool:
        """Return whether the name of any weight starts with a prefix."""
        return any(name.startswith(prefix) for name in self.state)

    def depth(self, prefix: str) -> int:
        """Count blocks by the numbers after a prefix.

        Raises:
            MimiaError: The numbers are not 0, 1, 2 and so on.
        """
        found = (re.match(rf"{re.escape(prefix)}\.([0-9]{{1,6}})\.", name) for name in self.state)
        numbers = {int(each[1]) for each in found if each}
        if numbers and max(numbers) + 1 != len(numbers):
            missing = next(number for number in range(len(numbers)) if number not in numbers)
            raise MimiaError(f"{self.path} has no {prefix}.{missing}, but blocks after it: it is not whole.")
        return len(numbers)

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        """Return the shape of a weight from which sizes are read.

        Raises:
            MimiaError: It is not there, or has another number of dimensions.
        """
        if name not in self.state:
            raise MimiaError(f"{self.path} lacks parameter {name}, from which sizes are read.")
        shape = tuple(self.state[name].shape)
        if len(shape) != dimensions:
            raise MimiaError(f"{self.path}: {name} has the shape {shape}, and {dimensions} dimensions were expected.")
        return shape

    def patches(self, name: str) -> tuple[int, int, int]:
        """Return width, channels and patch size from the weight of a patch embedding, (D, C, p, p).

        Raises:
            MimiaError: The patches are not square.
        """
        width, channels, height, across = self.shape(name, 4)
        if height != across:
            raise MimiaError(f"{self.path} has patches of {height}×{across} pixels: only square ones work.")
        return width, channels, height

    def side(self, places: int) -> int:
        """Return the side of a square grid of so many positions.

        Raises:
            MimiaError: They make no square.
        """
        side = math.isqrt(max(places, 0))
        if side < 1 or side * side != places:
            raise MimiaError(f"{self.path} has {places} positions, which make no square: only square images work.")
        return side

    def heads(self, name: str, width: int) -> int:
        """Return the number of attention heads: the known one, or that of released models of the same width.

        Raises:
            MimiaError: There is none like it, or the number does not fit.
        """
        known = self.stated(name)
        if known is None:
            known = _HEADS.get(width)
            reason = f"as released models of width {width} have it"
            if known is None and width % _HEAD_WIDTH == 0:
                known, reason = width // _HEAD_WIDTH, f"at the usual {_HEAD_WIDTH} values a head"
            if known is None:
                raise MimiaError(
                    f"{self.path} does not say how many attention heads a width of {width} is split into: pass "
                    f"--set checkpoint.{name}=N."
                )
            self.assumed.append(f"{name} = {known}, {reason}; no weight shows it")
        if not isinstance(known, int) or known < 1 or width % known:
            raise MimiaError(
                f"{shortened(repr(known))} heads do not divide a width of {width}: correct --set checkpoint.{name}=N."
            )
        return known

    def simmim_masks(self, patch: int) -> dict[str, Any]:
        """Return the fields of a `ModelSpec` for how SimMIM masks and what it predicts.

        Raises:
            MimiaError: Its cells are not whole patches.
        """
        cell = self.or_else(
            "cell_size", _CELL_SIZE, f"masks have cells of the paper's {_CELL_SIZE} pixels, which the file does not say"
        )
        if not isinstance(cell, int) or cell % patch:
            raise MimiaError(
                f"{self.path} has patches of {patch} pixels, of which cells of {cell} cannot be made: pass "
                "--set checkpoint.cell_size=N, the side of what its training masked as a whole."
            )
        ratio = self.or_else("mask_ratio", 0.6, "mask ratio is the paper's 0.6, which the file does not say")
        return {"masking": "cell", "cell": cell // patch, "mask_ratio": ratio, "target_space": "normalised"}

    def spec(self, channels: int, **values: Any) -> ModelSpec:
        """Return the spec of a model, with the pixel statistics that are known or ImageNet's.

        Raises:
            MimiaError: The sizes contradict each other.
        """
        statistics = {name: self.stated(name) for name in _IMAGENET}
        unknown = [name for name, value in statistics.items() if value is None]
        if unknown:
            if channels != 3:
                raise MimiaError(
                    f"{self.path} takes images of {channels} channels and does not say with which mean and standard "
                    "deviation they are normalised: pass --set checkpoint.mean=[0.5] --set checkpoint.std=[0.25], "
                    "with the numbers of its training."
                )
            what = "pixel statistics are" if len(unknown) == 2 else f"pixel {unknown[0]} is"
            self.assumed.append(f"{what} ImageNet's, which the file does not say")
        for name, value in statistics.items():
            values[name] = _IMAGENET[name] if value is None else value
        try:
            return ModelSpec(channels=channels, **values)
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"{part}: " for part in first["loc"])
            reason = first["msg"].removeprefix("Value error, ")
            raise MimiaError(f"{self.path} is not consistent: {where}{reason}.") from error

    def architecture(self, kind: type[_Architecture], **sizes: Any) -> _Architecture:
        """Return an architecture of the sizes that were read.

        Raises:
            MimiaError: A size is out of bounds.
        """
        try:
            return kind(**sizes)
        except ValidationError as error:
            raise MimiaError(f"{self.path} is of no model that is known ({first_mistake(error)}).") from error

    def refuse_mixtures(self, image_size: object, grid: int, patch: int) -> None:
        """Raise if positions and patches do not make images of the size of the training, where that is known.

        Raises:
            MimiaError: They do not.
        """
        if image_size not in (None, grid * patch):
            raise MimiaError(
                f"{self.path} was trained on images of {image_size} pixels, but its positions and patches are of "
                f"{grid * patch} ({grid} by {grid} patches of {patch} pixels): it is a mixture of two checkpoints."
            )

    def refuse_heads(self) -> None:
        """Raise if the model is a classifier.

        Raises:
            MimiaError: There is a weight of a classification head.
        """
        found = [name for name in self.state if re.match(r"(head|head_dist|fc_norm|classifier|cls_head|fc)\.", name)]
        if found:
            raise MimiaError(
                f"{self.path} has a classification head ({found[0]}): it is a supervised or fine-tuned model, not one "
                "as masked-image modeling left it; pass the pre-trained checkpoint, such as mae_pretrain_* or "
                "mae_visualize_*."
            )

    def refuse_without_mask_token(self, name: str) -> None:
        """Raise if a model of SimMIM has no mask token.

        Raises:
            MimiaError: There is no mask token.
        """
        if name not in self.state:
            raise MimiaError(
                f"{self.path} looks like a SimMIM encoder but lacks parameter {name}, without which nothing can be "
                "masked: pass the checkpoint as pre-training left it, not a supervised or fine-tuned one."
            )
