"""The table of files in docs/files.md: each layout, in each wrapping, by each writer, opens right or is refused."""

import os
import re
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file
from tests.models.checkpoints.test_directories import deepspeed as deepspeed_directory
from tests.models.checkpoints.test_directories import module
from tests.models.checkpoints.test_wrappings import (
    KINDS,
    REFUSED,
    SEVERAL,
    WRAPPINGS,
    WRITERS,
    State,
    Tree,
    Wrap,
    loaded,
    other,
    outputs,
    prefixed,
    training,
)
from torch.optim.swa_utils import AveragedModel

from mimia.runtime.errors import MimiaError

DOCUMENTED = Path(__file__).resolve().parents[3] / "docs" / "files.md"
NEAR = 1e-5  # of a prediction, in the model's target space
Write = Callable[[State, Path], Path]
INTRODUCTION = """# Files that are opened

A test makes each file of this table with random weights and opens it. **✓**: its predictions for two images differ
by less than 10⁻⁵ from those of the weights themselves, which other tests compare with the authors' own code. A number:
the file is refused with the sentence below the table. There is nothing in between.

"""


def file(wrap: Wrap) -> Write:
    def write(state: State, directory: Path) -> Path:
        torch.save(wrap(state), directory / "FILE.pth")
        return directory / "FILE.pth"

    return write


def writer(save: Callable[[object, Path], object]) -> Write:
    def write(state: State, directory: Path) -> Path:
        save(training(prefixed("module.", state)), directory / "FILE.pth")
        return directory / "FILE.pth"

    return write


def safetensors(prefix: str) -> Write:
    def write(state: State, directory: Path) -> Path:
        save_file(prefixed(prefix, state), directory / "FILE.safetensors", metadata={"format": "pt"})
        return directory / "FILE.safetensors"

    return write


def shards(*, safe: bool) -> Write:
    def write(state: State, directory: Path) -> Path:
        save_torch_state_dict(OrderedDict(state), directory, max_shard_size=20_000, safe_serialization=safe)
        return directory

    return write


def whole_of_deepspeed(state: State, directory: Path) -> Path:
    states: dict[str, object] = {"mp_rank_00_model_states.pt": module(prefixed("module.", state))}
    return deepspeed_directory(directory / "FOLDER", "global_step5", states)


def parts_of_deepspeed(state: State, directory: Path) -> Path:
    empty = module({name: torch.empty(0) for name in state})
    states: dict[str, object] = dict.fromkeys(
        (f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt" for rank in range(2)), empty
    )
    return deepspeed_directory(directory / "FOLDER", "global_step5", states)


def two_sets(wrap: Callable[[State, State], object], state: State) -> object:
    return wrap(state, other(state))


def rounded(state: State) -> State:
    return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


def other_shape(state: State) -> State:
    name = next(name for name in state if name.endswith(("norm1.bias", "ln1.bias")))
    return state | {name: torch.ones(7)}


def lacking(state: State) -> State:
    return {name: value for name, value in state.items() if not name.endswith(("norm1.bias", "ln1.bias"))}


HALF = file(rounded)
FILES: dict[str, Write] = {
    **{name: file(wrap) for name, wrap in WRAPPINGS.items()},
    "average of torch.optim.swa_utils": file(lambda state: {"model": AveragedModel(Tree(state)).state_dict()}),
    "half precision": HALF,
    **{f"a training, names with module., {name}": writer(save) for name, save in WRITERS.items()},
    **{f"safetensors, names with {prefix}": safetensors(prefix) for prefix in ("module.", "model._orig_mod.")},
    "parts in safetensors": shards(safe=True),
    "parts in files of torch": shards(safe=False),
    "folder of DeepSpeed, whole": whole_of_deepspeed,
    "folder of DeepSpeed, ZeRO stage 3": parts_of_deepspeed,
    **{f"two sets of weights, {name}": file(partial(two_sets, case[0])) for name, case in SEVERAL.items()},
    "the first norm of each block lacks its bias": file(lacking),
    "a weight of another shape": file(other_shape),
    **{name: file(wrap) for name, (wrap, _) in REFUSED.items()},
}


def outcome(name: str, kind: str, state: State, directory: Path) -> str:
    """Return the sentence with which a file is refused, or ✓ if it opens right."""
    directory.mkdir()
    path = FILES[name](state, directory)
    try:
        found = loaded(path, kind).model
    except MimiaError as error:
        return str(error).replace(f"{directory}{os.sep}", "").replace(str(directory), "FOLDER")
    expected = {key: value.float() for key, value in rounded(state).items()} if FILES[name] is HALF else state
    torch.save(expected, directory / "plain.pth")
    assert (outputs(found) - outputs(loaded(directory / "plain.pth", kind).model)).abs().max() < NEAR
    return "✓"


def table(states: dict[str, State], directory: Path) -> str:
    """Return the page of the documentation."""
    sentences: dict[str, str] = {}
    lines = [f"| {' | '.join(['', *KINDS])} |", "|---" * (1 + len(KINDS)) + "|"]
    for row, name in enumerate(FILES):
        cells = []
        for column, kind in enumerate(KINDS):
            found = outcome(name, kind, states[kind], directory / f"{row}-{column}")
            cells.append(found if found == "✓" else sentences.setdefault(found, str(1 + len(sentences))))
        lines.append(f"| {' | '.join([name, *cells])} |")
    refusals = [f"{number}. {sentence}" for sentence, number in sentences.items()]
    return "\n".join([INTRODUCTION, *lines, "", "## Why files are refused", "", *refusals, ""])


def test_documented_table_is_what_happens(tmp_path: Path, states: dict[str, State]) -> None:
    found = table(states, tmp_path)
    rewritten = tmp_path / "files.md"
    rewritten.write_text(found)
    assert DOCUMENTED.read_text() == found, f"look at the differences from {rewritten}, and copy it if they are right"
    sentences = re.findall(r"^\d+\. (.*)$", found, re.MULTILINE)
    assert all(len(each) <= 400 and each.endswith(".") for each in sentences)
    assert found.count("✓") >= 60
