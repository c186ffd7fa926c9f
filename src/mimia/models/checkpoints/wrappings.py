"""Weights in what trainers wrap around them: one search for the dictionary, and prefix, that a layout recognises.

A trainer saves dictionaries in dictionaries, and puts the names of its own modules before those of the model:
``state_dict``, then ``model.``; ``student``, then ``module.backbone.``. No trainer is known here by name. All
dictionaries of a file are searched, and in each of them all prefixes, from the outside in; the first prefix under which
a layout recognises the names is that of the model. So ``encoder.`` is a part of a SimMIM, and a prefix of an MAE. What
belongs to no set of weights is named; where there are several sets, a setting chooses (`weight_choice`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from mimia.models.checkpoints.layout import LAYOUTS, FileLayout
from mimia.models.checkpoints.pickles import Made
from mimia.models.checkpoints.safe import MOST_WEIGHTS, Contents, check_weights, no_weights
from mimia.models.checkpoints.values import is_module
from mimia.runtime.errors import MimiaError
from mimia.runtime.text import shortened

TOP = "."
"""Name of weights that stand in no dictionary of the file and have no prefix."""
_DEEPEST, _LONGEST = 32, 256  # parts and characters of a prefix
_WITHIN = re.compile(r"(?<=\.)(?:module|_orig_mod|_fsdp_wrapped_module|_fpw_module|_checkpoint_wrapped_module)\.")
"""Wrappers of single blocks of a model, in the midst of its names."""
_TRAINING = re.compile(r"optim|sched|scaler|rng|random|callback|loop|sampler|message_hub", re.IGNORECASE)
"""What keeps the state of a training, as every file of one has it."""
_OF_TRANSFORMERS = re.compile(r"(^|\.)embeddings\.(patch_embeddings|position_embeddings)")


@dataclass(frozen=True, eq=False)
class WeightSet:
    """Weights of one model in a file.

    Attributes:
        name: Keys of the dictionaries that they stand in, and their prefix, with dots between.
        layout: Which recognises them.
        contents: The weights by the names of the layout, and what stands beside them.
    """

    name: str
    layout: FileLayout
    contents: Contents


@dataclass(frozen=True, eq=False)
class Found:
    """What a file holds.

    Attributes:
        sets: The weights of models.
        others: Names of what else may be a part of a model, and belongs to none of the sets.
    """

    sets: Sequence[WeightSet]
    others: Sequence[str]


@dataclass(frozen=True, eq=False)
class _Place:
    """A dictionary, list or object of a file.

    Attributes:
        keys: Of the dictionaries and lists around it, from the outside in.
        value: What stands there.
        around: The dictionaries around it, and itself if it is one.
    """

    keys: tuple[str, ...]
    value: Any
    around: tuple[dict[Any, Any], ...]

    @property
    def name(self) -> str:
        return ".".join(self.keys) or TOP

    @property
    def weights(self) -> dict[Any, Any]:
        """The tensors in a dictionary."""
        items = self.value.items() if isinstance(self.value, dict) else ()
        return {key: each for key, each in items if _is_weight(each)}

    @property
    def names(self) -> list[str]:
        """The names of the weights, if these are most of a dictionary."""
        weights = self.weights
        return list(map(str, weights)) if weights and 2 * len(weights) > len(self.value) else []

    @property
    def is_nameless(self) -> bool:
        """Whether it is a list of weights without names."""
        return isinstance(self.value, list | tuple) and any(map(_is_weight, self.value))

    def beside(self) -> dict[str, Any]:
        """Return what stands beside the weights of a dictionary and around it; what is nearer wins."""
        chain = set(map(id, self.around))
        return {
            key: each
            for table in self.around
            for key, each in table.items()
            if isinstance(key, str) and not _is_weight(each) and id(each) not in chain
        }


def find(values: object, path: Path) -> Found:
    """Return what the values of a file hold.

    Args:
        values: As `read_values` returns them.
        path: The file, for errors.

    Raises:
        MimiaError: There are no weights that a layout recognises, or they are no plain arrays of numbers.
    """
    places = list(_walk(values, (), (), set()))
    sets, others = [], [place.name for place in places if place.is_nameless or is_module(place.value)]
    for place in places:
        weights = place.weights
        taken: set[str] = set()
        for prefix, layout in _recognised(weights):
            under = [name for name in weights if not isinstance(name, str) or name.startswith(prefix)]
            check_weights({name: weights[name] for name in under}, path)
            state = {_WITHIN.sub("", name.removeprefix(prefix)): weights[name] for name in under}
            if len(state) < len(under):
                raise MimiaError(
                    f"{path} has two weights of one name, with a wrapper and without: save model.state_dict()."
                )
            name = ".".join([*place.keys, *filter(None, prefix.split("."))]) or TOP
            sets.append(WeightSet(name, layout, Contents(path, state, place.beside())))
            taken.update(under)
        others += [".".join([*place.keys, str(name)]) for name in weights if name not in taken]
    if not sets:
        raise _nothing_found(places, path)
    return Found(sets, [name for name in others if not _TRAINING.search(name)])


def _walk(value: Any, keys: tuple[str, ...], around: tuple[dict[Any, Any], ...], seen: set[int]) -> Iterator[_Place]:
    """Yield each dictionary, list and object once, those farther outside first."""
    if not isinstance(value, dict | list | tuple | Made) or id(value) in seen:
        return
    seen.add(id(value))
    around = (*around, value) if isinstance(value, dict) else around
    yield _Place(keys, value, around)
    if not isinstance(value, Made):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _walk(each, (*keys, str(key)), around, seen)


def _is_weight(value: object) -> bool:
    """Return whether a value is a tensor, or the description of one that is no plain array."""
    return isinstance(value, Tensor) or (
        isinstance(value, Made) and str(value.by).startswith(("torch._utils.", "torch._tensor.", "torch.distributed."))
    )


def _recognised(weights: Mapping[Any, Any]) -> Iterator[tuple[str, FileLayout]]:
    """Yield the outermost prefixes under which a layout recognises names, each with the layout."""
    under: dict[str, list[str]] = {}
    for name in (name for name in islice(weights, MOST_WEIGHTS + 1) if isinstance(name, str)):
        prefix = ""
        for part in name.split(".", _DEEPEST)[:_DEEPEST]:
            under.setdefault(prefix, []).append(name)
            prefix += f"{part}."
            if len(prefix) > _LONGEST:
                break
    layouts = [layout for layout in LAYOUTS.values() if isinstance(layout, FileLayout)]
    done: list[str] = []
    for prefix in sorted(under, key=lambda prefix: prefix.count(".")):
        if prefix.startswith(tuple(done)):
            continue
        names = [_WITHIN.sub("", name.removeprefix(prefix)) for name in under[prefix]]
        layout = next((each for each in layouts if each.recognise(names)), None)
        if layout is not None:
            done.append(prefix)
            yield prefix, layout


def _nothing_found(places: Sequence[_Place], path: Path) -> MimiaError:
    """Return the error of a file without weights that a layout recognises, with what it holds instead."""
    names = max((place.names for place in places), key=len, default=[])
    module = next((place for place in places if is_module(place.value)), None)
    nameless = next((place for place in places if place.is_nameless and not _TRAINING.search(place.name)), None)
    if any(map(_OF_TRANSFORMERS.search, names)):
        return MimiaError(f"{path} holds weights of transformers, which need their config.json: pass their directory.")
    if module is not None:
        return MimiaError(
            f"{path} holds {shortened(str(module.value.by), 60)}, a whole model with its code: save its weights alone, "
            "with torch.save(model.state_dict(), path), and pass that file."
        )
    if nameless is not None and nameless.keys:
        return MimiaError(
            f"{path} holds a list of weights without their names ({shortened(nameless.name, 40)}), which fit no model: "
            "load them into the model and save model.state_dict()."
        )
    if not names:
        return no_weights(path)
    first = ", ".join(shortened(name, 40) for name in sorted(names)[:3])
    return MimiaError(
        f"{path} holds weights of no known layout (its first names are {first}): pass a checkpoint of the "
        "official MAE or SimMIM, timm, mmpretrain, transformers or mimia."
    )
