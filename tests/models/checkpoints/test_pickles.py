"""Pickles as data: they say what was written into them, and nothing in them runs."""

import argparse
import builtins
import collections
import functools
import importlib
import io
import operator
import os
import pickle
import runpy
import shutil
import subprocess
import sys
import timeit
import typing
import zipfile
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.serialization import get_crc32_options, set_crc32_options

from mimia.models.checkpoints.names import ForbiddenNameError
from mimia.models.checkpoints.pickles import DamagedError, Made, read_pickle
from mimia.models.checkpoints.safe import read_values
from mimia.runtime.errors import MimiaError

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool]
VIEWS: list[Callable[[Tensor], Tensor]] = [
    lambda whole: whole,
    lambda whole: whole.T,
    lambda whole: whole[1:, ::2],
    lambda whole: whole[2],
    lambda whole: whole[0, 0],
    lambda whole: whole[:0],
    lambda whole: torch.nn.Parameter(whole) if whole.is_floating_point() else whole,
]
_WHOLE = torch.arange(20).view(4, 5)  # of which some tensors share the numbers
TENSORS = st.builds(
    lambda dtype, view: view(_WHOLE if dtype == torch.int64 else _WHOLE.to(dtype)),
    st.sampled_from(DTYPES),
    st.sampled_from(VIEWS),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.floats(allow_nan=False),
    st.text(max_size=300),
    st.binary(max_size=300),
    TENSORS,
    st.floats(width=32, allow_nan=False).map(np.float32),
    st.integers(-9, 9).map(np.int64),
    st.lists(st.floats(allow_nan=False), max_size=4).map(np.array),
    st.lists(st.text("ab", min_size=1, max_size=3), max_size=3).map(lambda parts: Path(*parts)),
    st.lists(st.integers(1, 9), max_size=3).map(torch.Size),
    st.sampled_from(DTYPES),
)
KEYS = st.one_of(st.text(max_size=5), st.integers(-99, 99), st.tuples(st.text(max_size=2), st.integers(0, 9)))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.lists(inner, max_size=4).map(lambda items: collections.deque(items, 9)),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4).map(collections.OrderedDict),
        st.dictionaries(KEYS, inner, max_size=4).map(lambda entries: collections.defaultdict(list, entries)),
        st.dictionaries(st.text("abc", min_size=1), inner, max_size=3).map(
            lambda entries: argparse.Namespace(**entries)
        ),
        st.frozensets(st.integers(0, 9), max_size=1),
        inner.map(lambda value: [value, value]),
    ),
    max_leaves=12,
)


def check_equal(found: Any, written: Any) -> None:
    """Check that a plain value is that of a value that was written."""
    match written:
        case Tensor():
            assert isinstance(found, Tensor)
            assert (found.dtype, found.shape) == (written.dtype, written.shape)
            assert found.equal(written)
        case dict():
            assert type(found) is dict
            assert list(found) == list(written)
            for key, value in written.items():
                check_equal(found[key], value)
        case list() | tuple() | collections.deque() | frozenset():
            assert type(found) is (tuple if isinstance(written, tuple) else list)
            assert len(found) == len(written)
            for mine, theirs in zip(found, written, strict=True):
                check_equal(mine, theirs)
        case argparse.Namespace():
            assert isinstance(found, argparse.Namespace)
            check_equal(vars(found), vars(written))
        case np.ndarray() | np.generic():
            assert (type(found), found) == (type(written.tolist()), written.tolist())
        case Path() | torch.dtype():
            assert found == str(written)
        case _:
            assert (type(found), found) == (type(written), written)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(value=VALUES)
def test_file_says_what_was_written(tmp_path: Path, zipped: bool, protocol: int, value: object) -> None:
    path = tmp_path / "file.pth"
    path.unlink(missing_ok=True)  # what was read before is mapped
    torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    check_equal(read_values(path), value)


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_is_read(protocol: int) -> None:
    value: dict[Any, Any] = {
        "a": [1, 2.5, None, True, -(2**70), "é", b"\xff"],
        "b": ({"c": ()}, {}, []),
        3: {"d": 2**31},
    }
    found = read_pickle(io.BytesIO(pickle.dumps(value, protocol)))
    assert isinstance(found, dict)
    if protocol < 3:  # which has bytes as what would have to be called
        assert isinstance(found["a"][6], Made)
        found["a"][6] = b"\xff"
    assert found == value


def test_packed_and_moved_archives_are_read(tmp_path: Path) -> None:
    state = {"a": torch.arange(6.0).view(2, 3), "b": torch.arange(5, dtype=torch.int64)}
    torch.save(state, tmp_path / "whole.pth")
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # without the alignment of torch, and packed
        path = tmp_path / f"{compression}.pth"
        with zipfile.ZipFile(tmp_path / "whole.pth") as old, zipfile.ZipFile(path, "w", compression) as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))
        check_equal(read_values(path), state)


def test_archive_without_checksums_is_read(tmp_path: Path) -> None:
    computed = get_crc32_options()
    set_crc32_options(False)
    try:
        torch.save({"a": torch.arange(6.0)}, tmp_path / "file.pth")
    finally:
        set_crc32_options(computed)
    check_equal(read_values(tmp_path / "file.pth"), {"a": torch.arange(6.0)})


def test_archive_of_another_byte_order_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(6.0)}, tmp_path / "file.pth")
    with zipfile.ZipFile(tmp_path / "file.pth") as old, zipfile.ZipFile(tmp_path / "big.pth", "w") as new:
        for name in old.namelist():
            new.writestr(name, b"big" if name.endswith("byteorder") else old.read(name))
    with pytest.raises(MimiaError, match="was written on a machine of another byte order"):
        read_values(tmp_path / "big.pth")


def test_damaged_pickle_in_an_archive_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(6.0), "mask_ratio": "0.75"}, tmp_path / "file.pth")
    content = (tmp_path / "file.pth").read_bytes()
    assert content.count(b"0.75") == 1
    (tmp_path / "file.pth").write_bytes(content.replace(b"0.75", b"0.25"))
    with pytest.raises(MimiaError, match="is a zip archive, but no checkpoint"):
        read_values(tmp_path / "file.pth")


def test_views_of_numbers_as_torch_before_0_4_had_them_are_read(tmp_path: Path) -> None:
    whole = torch.arange(10.0)
    buffer = io.BytesIO()
    torch.save({"part": whole}, buffer, _use_new_zipfile_serialization=False)
    content = buffer.getvalue()
    view = pickle.dumps(("1", 4, 6), 2)[2:-1]  # key, offset and size instead of no view
    size = content.index(b"K\x0aN")
    content = content[: size + 2] + view + content[size + 3 :]
    (tmp_path / "old.pth").write_bytes(content.replace(b"K\x00K\x0a\x85", b"K\x00K\x06\x85"))  # the size of the tensor
    found = read_values(tmp_path / "old.pth")
    check_equal(found, {"part": whole[4:]})


class Call:
    """What is pickled as a call."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return self.call


def own_function(marker: str) -> None:
    Path(marker).touch()


class Curve:
    """Stands for a curve of mmengine."""


def calls(marker: str) -> dict[str, Any]:
    """Ways to run code, or to come by something that does."""
    curve, attribute = Curve, builtins.getattr
    return {
        "a command": Call(os.system, f"touch {marker}"),
        "a process": Call(subprocess.Popen, ["touch", marker]),
        "eval": Call(builtins.eval, f"open({marker!r}, 'w')"),
        "exec": Call(builtins.exec, f"open({marker!r}, 'w')"),
        "an import": Call(builtins.__import__, "antigravity"),
        "a module": Call(importlib.import_module, "antigravity"),
        "a program": Call(runpy.run_path, marker),
        "a timer": Call(timeit.timeit, f"open({marker!r}, 'w')"),
        "a file": Call(builtins.open, marker, "w"),
        "a deletion": Call(shutil.rmtree, marker),
        "pickle": Call(pickle.loads, b"."),
        "torch.load": Call(torch.load, marker),
        "bytes of torch": Call(torch.storage._load_from_bytes, b""),
        "torch.hub": Call(torch.hub.load, "a/b", "c"),
        "TorchScript": Call(torch.jit.load, marker),
        "numpy": Call(np.load, marker),
        "reduce": Call(functools.reduce, operator.add, [1]),
        "a method caller": Call(operator.methodcaller, "touch"),
        "an attribute getter": Call(operator.attrgetter, "system"),
        "an item": Call(operator.getitem, {"a": 1}, "a"),
        "a function of its own": Call(own_function, marker),
        "named only": os.system,
        "within a partial": functools.partial(os.system, f"touch {marker}"),
        "an attribute of a path": Call(attribute, Path(marker), "touch"),
        "an attribute of a name": Call(attribute, collections.OrderedDict, "fromkeys"),
        "another attribute of a curve": Call(attribute, curve, "__init__"),
        "an attribute of an attribute": Call(attribute, Call(attribute, curve, "mean"), "__globals__"),
        "a third argument": Call(attribute, curve, "mean", os.system),
        "as a state": Call(collections.OrderedDict, [["a", Call(os.mkdir, marker)]]),
    }


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("kind", list(calls("")))
def test_code_is_refused_and_does_not_run(tmp_path: Path, kind: str, protocol: int) -> None:
    marker = tmp_path / "it-ran"
    name = b"mmengine.logging.history_buffer"
    content = pickle.dumps({"model": [calls(str(marker))[kind]]}, protocol)
    if protocol == 2:  # Curve by the name of a curve of mmengine
        content = content.replace(f"c{__name__}\nCurve".encode(), b"c" + name + b"\nHistoryBuffer")
    with pytest.raises(ForbiddenNameError):
        read_pickle(io.BytesIO(content))
    torch.save({"model": calls(str(marker))[kind]}, tmp_path / "file.pth", pickle_protocol=protocol)
    with pytest.raises(MimiaError, match=r"holds .* could run code, and is not opened"):
        read_values(tmp_path / "file.pth")
    assert not marker.exists()
    assert "antigravity" not in sys.modules


def test_getattr_gives_methods_of_a_curve_of_mmengine_alone() -> None:
    content = pickle.dumps({"mean": Call(builtins.getattr, Curve, "mean")}, 2)
    curve = b"cmmengine.logging.history_buffer\nHistoryBuffer"
    curve_of_mmengine = content.replace(f"c{__name__}\nCurve".encode(), curve)
    assert curve in curve_of_mmengine
    found = read_pickle(io.BytesIO(curve_of_mmengine))
    assert isinstance(found, dict)
    assert str(found["mean"]) == "mmengine.logging.history_buffer.HistoryBuffer.mean"
    with pytest.raises(ForbiddenNameError, match=r"builtins\.getattr"):
        read_pickle(io.BytesIO(content))


def test_unknown_classes_are_neither_imported_nor_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "it-ran"
    run = f"open({str(marker)!r}, 'w').close()\n"
    lines = (
        "class State:",
        "    def __init__(self, step):",
        "        self.step = step",
        "    def __setstate__(self, state):",
    )
    (tmp_path / "some_trainer.py").write_text("\n".join([run, *lines, f"        {run}"]))
    monkeypatch.syspath_prepend(tmp_path)
    state = importlib.import_module("some_trainer").State(3)
    options = {
        "state": state,
        "called": Call(type(state), 3),
        "a": typing.ClassVar[int],
        "path": PureWindowsPath("C:/a"),
    }
    torch.save({"options": options, "model": {"norm.bias": torch.ones(3)}}, tmp_path / "file.pth")
    marker.unlink()
    monkeypatch.delitem(sys.modules, "some_trainer")
    found: Any = read_values(tmp_path / "file.pth")
    assert found["options"]["state"] == {"step": 3}
    assert found["options"]["path"] == "C:\\a"
    assert "some_trainer" not in sys.modules
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"N",
        b".",
        b"(.",
        b"NN.",
        b"a.",
        b"(Na.",
        b"]NN\x86a0.",
        b"(](\x85ab.",
        b"}NN\x86N\x86Ns.",
        b"}]Ns.",
        b"}" + b"N" * 17 + b"".join([b"\x86"] * 16) + b"Ns.",
        b"N}b.",
        b"NNs.",
        b"cos\nsystem",
        b"NN\x93.",
        b"]]R.",
        b"ccollections\nOrderedDict\n]R.",
        b"h\x05.",
        b"g5\n.",
        b"\x82\x01.",
        b"Pid\n.",
        b"\x97.",
        b"1.",
        b"t.",
    ],
)
def test_damaged_pickle_is_an_error(content: bytes) -> None:
    with pytest.raises((DamagedError, ValueError, LookupError)):
        read_pickle(io.BytesIO(content))


def test_keys_whose_hash_takes_long_are_refused() -> None:
    pairs = b"K\x01" + b"2\x86" * 40  # a pair of pairs of pairs
    same = b"(" + b"K\x01" * 17 + b"t"
    colliding = pickle.dumps(2**61 - 1, 2)[2:-1]
    for key in (pairs, same, colliding):
        with pytest.raises(DamagedError, match="key"):
            read_pickle(io.BytesIO(b"\x80\x02}" + key + b"Ns."))
