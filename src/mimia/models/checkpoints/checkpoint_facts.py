"""What is known of a model while a layout reads its file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from torch import Tensor

from mimia.config.settings import CheckpointSettings
from mimia.models.base import Architecture, ModelSpec
from mimia.models.checkpoints.parsed import ParsedCheckpoint
from mimia.models.checkpoints.provenance import Fact, UnknownFact
from mimia.models.checkpoints.saved_settings import SavedSettings
from mimia.models.checkpoints.usual_statistics import IMAGENET, named_statistics
from mimia.models.sizes import MOST_CHANNELS
from mimia.runtime.errors import MimiaError, first_mistake
from mimia.runtime.text import shortened

_Architecture = TypeVar("_Architecture", bound=Architecture)
_HUGE = 2**31
UNMASKED_ENCODER = (
    "the encoder has no mask token, as exports of it have none: one is fitted with the decoder; whether it is as "
    "masked-image modeling left it, or supervised or fine-tuned, does not show, and is assumed"
)
_CELL_SIZE = 32  # pixels, of the official SimMIM and of all its released files


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

    def simmim_masks(self, patch: int) -> dict[str, Any]:
        """Return the fields of a `ModelSpec` for how SimMIM masks and what it predicts.

        Raises:
            MimiaError: Its cells are not whole patches, or its targets are normalised.
        """
        if "norm_target" in self.said:
            raise MimiaError(
                f"{self.path} was trained on targets normalised in windows of {self.said['norm_target']} pixels "
                "(SIMMIM.NORM_TARGET), which mimia does not know: its errors would mean nothing, and it is not opened."
            )
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

    def has_mask_token(self, name: str, *, whole: bool) -> bool:
        """Return whether a SimMIM has its mask token, and note it of an encoder that has none.

        Args:
            name: Of the mask token.
            whole: Whether the model has its decoder.

        Raises:
            MimiaError: It has its decoder and no mask token.
        """
        if name in self.state:
            return True
        if whole:
            raise MimiaError(
                f"{self.path} looks like a SimMIM with its decoder but lacks parameter {name}, without which nothing "
                "can be masked: pass the checkpoint as pre-training left it."
            )
        self.remarks.append(UNMASKED_ENCODER)
        return False
