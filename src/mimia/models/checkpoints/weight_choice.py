"""Which of the sets of weights in a file is the model, and what is said of the others."""

import re
from collections.abc import Sequence
from pathlib import Path

from mimia.models.checkpoints.wrappings import TOP, Found, WeightSet
from mimia.runtime.errors import MimiaError
from mimia.runtime.text import shortened

_FLAG = "--weights NAME (checkpoint.weights)"
_HEAD = re.compile(r"(^|[._])(heads?|head_dist|fc_norm|classifier|cls_head|fc|linear|logits)\d*\.")
_NAMES = 3  # in one sentence


def choose(found: Found, wanted: str | None, path: Path) -> tuple[WeightSet, tuple[str, ...]]:
    """Return the weights of the model in a file, and what a reader has to know of the others, one sentence each.

    Args:
        found: What the file holds.
        wanted: Name of the weights, or its beginning.
        path: The file, for errors.

    Raises:
        MimiaError: There are no weights of this name, several that are not the same, or only a part of them is here.
    """
    names = _short_names(found.sets)
    matching = _matching(found.sets, wanted) if wanted else list(found.sets)
    if not matching:
        existing = _some(list(names.values()))
        raise MimiaError(
            f"{path} holds no weights called {shortened(str(wanted), 40)}, but {existing}: pass one of these by "
            f"{_FLAG}, or leave it out if there is but one."
        )
    chosen, *more = matching
    listed = _some([names[each.name] for each in matching])
    if not all(_same(chosen, other) for other in more):
        raise MimiaError(f"{path} holds several sets of weights, {listed}: choose one by {_FLAG}.")
    _refuse_partitioned(chosen, path)
    notes = [f"{listed} are the same weights"] if more else []
    unused = [names[each.name] for each in found.sets if each not in matching]
    if unused:
        notes.append(f"of the weights in the file, {names[chosen.name]} is used, and not {_some(unused)}")
    if found.others:
        notes.append(f"left out, as no part of the model: {_some(found.others)}")
    return chosen, tuple(notes)


def refuse_head_beside(others: Sequence[str], path: Path) -> None:
    """Raise if a head stands beside an encoder without a decoder, as those of supervised models do.

    Args:
        others: Names of what belongs to no set of weights.
        path: The file.

    Raises:
        MimiaError: There is one.
    """
    head = next(filter(_HEAD.search, others), None)
    if head is not None:
        raise MimiaError(
            f"{path} has a head beside its encoder ({shortened(head, 60)}) and no decoder: it seems to be supervised, "
            "fine-tuned or of another method; pass the checkpoint as masked-image modeling left it."
        )


def _refuse_partitioned(weights: WeightSet, path: Path) -> None:
    empty = next((name for name, value in weights.contents.state.items() if not value.numel()), None)
    if empty is not None and "ds_version" in weights.contents.beside:
        raise MimiaError(
            f"{path} does not hold the weights themselves ({shortened(empty, 40)} is empty), which ZeRO stage 3 keeps "
            "in other files: run `python zero_to_fp32.py . OUT` in the directory of the checkpoint, and pass OUT."
        )


def _matching(sets: Sequence[WeightSet], wanted: str) -> list[WeightSet]:
    return [each for each in sets if each.name == wanted] or [
        each for each in sets if each.name.startswith(f"{wanted}.") and wanted != TOP
    ]


def _short_names(sets: Sequence[WeightSet]) -> dict[str, str]:
    """Return for the name of each set the shortest beginning that is of no other."""
    short = {}
    for each in sets:
        parts = each.name.split(".")
        heads = (".".join(parts[:length]) for length in range(1, len(parts)))
        short[each.name] = next((head for head in heads if head and _matching(sets, head) == [each]), each.name)
    return short


def _same(one: WeightSet, other: WeightSet) -> bool:
    mine, theirs = one.contents.state, other.contents.state
    return mine.keys() == theirs.keys() and all(
        value.dtype == theirs[name].dtype and value.equal(theirs[name]) for name, value in mine.items()
    )


def _some(names: Sequence[str]) -> str:
    """Return names as a part of a sentence, the first few of them if they are many."""
    few = [shortened(name, 40) for name in names[:_NAMES]]
    if len(names) > _NAMES:
        few.append(f"{len(names) - _NAMES:,} more")
    return " and ".join(filter(None, [", ".join(few[:-1]), few[-1]]))
