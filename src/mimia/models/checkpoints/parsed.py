"""What a layout reads from a file: a description of the model, and weights by the names of our models."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from torch import Tensor

from mimia.config.settings import CheckpointSettings
from mimia.config.sizes import collapsed, height_and_width, sides
from mimia.models.base import Architecture, ModelSpec
from mimia.models.checkpoints.provenance import Fact, UnknownFact
from mimia.models.checkpoints.saved_settings import SavedSettings
from mimia.models.checkpoints.usual_statistics import IMAGENET, named_statistics
from mimia.models.sizes import MOST_CHANNELS
from mimia.models.vit import find_grid
from mimia.runtime.errors import MimiaError, first_mistake
from mimia.runtime.text import shortened

WHERE_IS_THE_DECODER = (
    "mae_pretrain_* files of the official MAE hold no decoder; mae_pretrain_*_full and mae_visualize_* hold one"
)
_HEADS = {192: 3, 384: 6, 512: 16, 768: 12, 1024: 16, 1280: 16}  # of released models, by their width
_USUAL_HEAD_WIDTH = 64
_HEAD_WIDTHS = range(8, 129)
_Architecture = TypeVar("_Architecture", bound=Architecture)
_HUGE = 2**31
_CELL_SIZE = 32  # pixels, of the official SimMIM and of all its released files


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


@dataclass
class CheckpointFacts:
    """What is known of a model: from its weights, from what its file says beside them, and from the settings.

    Attributes:
        path: The file or directory, for errors.
        state: Weights, under the names that they have so far.
        saved: What the file says beside them.
        given: What the settings say, which wins.
        facts: What was asked for so far, by name.
        unknown: What nothing says.
        remarks: Assumptions that are no value of a fact, one sentence each.
    """

    path: Path
    state: Mapping[str, Tensor]
    saved: SavedSettings
    given: CheckpointSettings
    facts: dict[str, Fact] = field(default_factory=dict)
    unknown: list[UnknownFact] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.said = {name: self._plain(name, value) for name, value in self.saved.model.items()}

    def _plain(self, name: str, value: object) -> object:
        """Return a value of a file if it is a number, a text or a short list of numbers, and None otherwise.

        Raises:
            MimiaError: It is a number that no model has.
        """
        values = [*value] if isinstance(value, list | tuple) else [value]
        if len(values) > MOST_CHANNELS or not all(isinstance(each, int | float | str) for each in values):
            return None
        if not all(-_HUGE < each < _HUGE for each in values if isinstance(each, int | float)):
            raise MimiaError(f"{self.path} says a {name} that no model has: correct --set checkpoint.{name}=….")
        return value

    def stated(self, name: str) -> Any:
        """Return what the settings say, or else the file; None if neither does."""
        given, said = getattr(self.given, name, None), self.said.get(name)
        if given is not None:
            differs = said not in (None, given)
            self.facts[name] = Fact(given, "you", f"{self.saved.place} says {shortened(str(said))}" if differs else "")
            return given
        if said is not None:
            self.facts[name] = Fact(said, "file", self.saved.place)
        return said

    def or_else(self, name: str, value: Any, sentence: str) -> Any:
        """Return what is known, or else a value, and then note the sentence as an assumption."""
        known = self.stated(name)
        if known is None:
            self.facts[name] = Fact(value, "assumed", sentence)
        return value if known is None else known

    def parsed(self, layout: str, spec: ModelSpec, architecture: Architecture, **more: Any) -> ParsedCheckpoint:
        """Return the checkpoint with all that was found out."""
        return ParsedCheckpoint(
            **{
                "layout": layout,
                "spec": spec,
                "architecture": architecture,
                "state": self.state,
                "facts": self.facts,
                "unknown": tuple(self.unknown),
                "remarks": tuple(self.remarks),
                "recipe": self.saved.recipe,
                **more,
            }
        )

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

    def grid(self, name: str, before: Sequence[int], patch: int) -> tuple[int, int, int]:
        """Return rows and columns of the patches, and how many positions are of tokens before them.

        Sine-cosine positions show the grid. Others could be of any grid of so many patches: it is a square, unless the
        size of the images is known.

        Args:
            name: Weight with the positions, (1, rows, D).
            before: Possible numbers of positions of other tokens, which stand before those of the patches.
            patch: Side of a patch in pixels.

        Raises:
            MimiaError: The size that is known is of another grid, or nothing says it and the positions make no square.
        """
        count = self.shape(name, 3)[1]
        for first in before:
            positions = self.state[name][0, first:]
            sizes = ((rows, len(positions) // rows) for rows in divisors(len(positions)))
            found = find_grid(positions) or self.likely_grid(tuple(sizes), patch)
            if found is not None:
                return *self.checked_grid(found, patch), first
        raise self.no_grid(count)

    def likely_grid(self, grids: Sequence[tuple[int, int]], patch: int) -> tuple[int, int] | None:
        """Return that of several grids that is known, or else the square one; None if neither is among them."""
        size = self.stated("image_size")
        known = None if size is None else tuple(side // patch for side in height_and_width(size))
        square = next((grid for grid in grids if grid[0] == grid[1]), None)
        return next((grid for grid in grids if grid == known), square)

    def no_grid(self, count: int) -> MimiaError:
        """Return the error for positions whose grid nothing says."""
        return MimiaError(
            f"{self.path} has {count} positions, which make no square: pass "
            "--set checkpoint.image_size=[HEIGHT,WIDTH], the size of its training images."
        )

    def checked_grid(self, grid: tuple[int, int], patch: int) -> tuple[int, int]:
        """Return a grid that the weights show, and note the size of the images.

        Raises:
            MimiaError: The size that is known is of another grid.
        """
        size, (rows, columns) = self.stated("image_size"), grid
        shown = rows * patch, columns * patch
        if size not in (None, collapsed(shown)):
            raise MimiaError(
                f"{self.path} was trained on images of {sides(size)} pixels, but its positions and patches are of "
                f"{sides(collapsed(shown))} ({rows} by {columns} patches of {patch} pixels): it is a mixture of two "
                "checkpoints."
            )
        if size is None:
            self.facts["image_size"] = Fact(collapsed(shown), "weights")
        return grid

    def heads(self, name: str, width: int, *, visible: bool) -> int:
        """Return the number of attention heads: the known one, or the likeliest, which is then an open fact.

        Args:
            name: ``heads`` or ``decoder_heads``.
            width: What is split into heads.
            visible: Whether reconstructions show which number is right, as those of a whole model do.

        Raises:
            MimiaError: The number does not fit, or nothing says it and no released model is like it.
        """
        known = self.stated(name)
        flag = f"--set checkpoint.{name}=N"
        if known is None:
            known = self._likely_heads(name, width, flag, visible=visible)
        if not isinstance(known, int) or known < 1 or width % known:
            raise MimiaError(f"{shortened(repr(known))} heads do not divide a width of {width}: correct {flag}.")
        return known

    def _likely_heads(self, name: str, width: int, flag: str, *, visible: bool) -> int:
        released = _HEADS.get(width)
        possible = [heads for heads in divisors(width) if width // heads in _HEAD_WIDTHS]
        if released is None and not (visible and possible):
            raise MimiaError(
                f"{self.path} does not say how many attention heads a width of {width} is split into, and no weight "
                f"shows it: pass {flag}."
            )
        likeliest = released or min(possible, key=lambda heads: abs(math.log2(width / heads / _USUAL_HEAD_WIDTH)))
        usual = f"at the usual {_USUAL_HEAD_WIDTH} values a head"
        reason = usual if released is None else f"as released models of width {width} have it"
        self.facts[name] = Fact(likeliest, "assumed", f"{name} = {likeliest}, {reason}; no weight shows it")
        if visible:
            candidates = {str(heads): heads for heads in (likeliest, *possible)}
            self.unknown.append(UnknownFact(name, candidates, flag, has_default=released is not None))
        return likeliest

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

    def spec(self, channels: int, *, visible: bool, **values: Any) -> ModelSpec:
        """Return the spec of a model, with the pixel statistics that are known or else the likeliest.

        Args:
            channels: Of its images.
            visible: Whether reconstructions show which statistics are right, as those of a whole model do.
            values: The other fields of `ModelSpec`.

        Raises:
            MimiaError: The sizes contradict each other, or nothing says the statistics and there are no usual ones.
        """
        values |= self._statistics(channels, visible=visible)
        if channels == len(IMAGENET[0]):
            self._ask_for_order(visible=visible)
        try:
            return ModelSpec(channels=channels, **values)
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"{part}: " for part in first["loc"])
            reason = first["msg"].removeprefix("Value error, ")
            raise MimiaError(f"{self.path} is not consistent: {where}{reason}.") from error

    def _statistics(self, channels: int, *, visible: bool) -> dict[str, tuple[float, ...]]:
        known = {name: self.stated(name) for name in ("mean", "std")}
        for name, value in known.items():
            if isinstance(value, int | float):  # one number for all channels
                known[name] = (value,) * channels
        unknown = [name for name, value in known.items() if value is None]
        if not unknown:
            return known
        usual = named_statistics(channels)
        flag = "--set checkpoint.mean=[0.5] --set checkpoint.std=[0.25], with the numbers of its training"
        if channels != len(IMAGENET[0]) and not visible:
            raise MimiaError(
                f"{self.path} takes images of {channels} channels and does not say with which mean and standard "
                f"deviation they are normalised: pass {flag}."
            )
        likeliest, (mean, std) = next(iter(usual.items()))
        what = "pixel statistics are" if len(unknown) == 2 else f"pixel {unknown[0]} is"
        reason = f"{what} {likeliest}, which the file does not say"
        for name, value in {"mean": mean, "std": std}.items():
            if name in unknown:
                self.facts[name] = Fact(value, "assumed", reason if name == unknown[0] else "")
                known[name] = value
        if visible and len(unknown) == 2:
            has_default = channels == len(IMAGENET[0])
            self.unknown.append(UnknownFact("statistics", usual, flag, has_default=has_default))
        return known

    def _ask_for_order(self, *, visible: bool) -> None:
        if self.stated("channel_order") is None and visible:
            flag = "--set checkpoint.channel_order=rgb, or =bgr"
            self.unknown.append(UnknownFact("channel_order", {"rgb": "rgb", "bgr": "bgr"}, flag, has_default=True))

    def architecture(self, kind: type[_Architecture], **sizes: Any) -> _Architecture:
        """Return an architecture of the sizes that were read.

        Raises:
            MimiaError: A size is out of bounds.
        """
        try:
            return kind(**sizes)
        except ValidationError as error:
            raise MimiaError(f"{self.path} is of no model that is known ({first_mistake(error)}).") from error

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


def divisors(number: int) -> list[int]:
    """Return the numbers that divide a number.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    return [each for each in range(1, number + 1) if number % each == 0]
