"""Files of weights in bad faith: each ends soon in one sentence, without taking memory."""

import argparse
import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mimia.models.checkpoints.loading import load_checkpoint

GIBIBYTE = 1 << 30


@pytest.fixture(scope="session")
def state(own: Path) -> dict[str, Tensor]:
    """The weights of a small MAE, under the names of the official code."""
    return load_file(own / "model.safetensors")


def with_weight(value: Any) -> Callable[[dict[Any, Any]], object]:
    return lambda state: state | {"norm.bias": value}


def renamed(name: Any) -> Callable[[dict[Any, Any]], object]:
    return lambda state: state | {name: torch.ones(64)}


ODD: dict[str, Callable[[dict[Any, Any]], object]] = {
    "a number as a name": renamed(1),
    "no name": renamed(None),
    "a pair as a name": renamed((1, 2)),
    "bytes as a name": renamed(b"norm.bias"),
    "a number as a name, nested": lambda state: {"model": state | {7: torch.ones(64)}},
    "all names are numbers": lambda state: {"state_dict": dict(enumerate(state.values()))},
    "a number beside, as a name": lambda state: {"model": {1: torch.ones(3)}, 5: "x"},
    "a long name": renamed("x" * 100_000),
    "a block of number 10⁹": lambda state: state | {"blocks.1000000000.norm1.bias": torch.ones(64)},
    "a block of 5,000 digits": lambda state: state | {f"blocks.{'9' * 5000}.norm1.bias": torch.ones(64)},
    "a block left out": lambda state: {name: value for name, value in state.items() if "blocks.1." not in name},
    "100,000 weights": lambda state: state | dict.fromkeys(map(str, range(100_000)), torch.ones(())),
    "complex": with_weight(torch.ones(64, dtype=torch.complex64)),
    "bool": with_weight(torch.ones(64, dtype=torch.bool)),
    "float8": with_weight(torch.ones(64).to(torch.float8_e4m3fn)),
    "sparse": with_weight(torch.ones(64).to_sparse()),
    "quantised": lambda state: with_weight(torch.quantize_per_tensor(torch.ones(64), 0.1, 0, torch.qint8))(state),
    "meta": with_weight(torch.ones(64, device="meta")),
    "one number for 64": with_weight(torch.ones(1).expand(64)),
    "one number for 10¹²": lambda state: state | {"pos_embed": torch.ones(1).expand(1, 10**6, 10**6)},
    "one weight, many times": lambda state: state | dict.fromkeys(map(str, range(900)), torch.ones(4 * 10**6)),
    "no numbers": with_weight(torch.ones(0)),
    "a single number": with_weight(torch.tensor(1.0)),
    "NaN": with_weight(torch.full((64,), torch.nan)),
    "NaN in half precision": with_weight(torch.full((64,), torch.nan, dtype=torch.float16)),
    "infinite after conversion": with_weight(torch.full((64,), 1e300, dtype=torch.float64)),
    "patches of no pixels": lambda state: state | {"patch_embed.proj.weight": torch.ones(64, 1, 0, 0)},
    "no width": lambda state: state | {"patch_embed.proj.weight": torch.ones(0, 1, 2, 2)},
    "no positions": lambda state: state | {"pos_embed": torch.ones(1, 0, 64)},
    "a class token and no positions": lambda state: state | {"pos_embed": torch.ones(1, 1, 64)},
    "many positions": lambda state: state | {"pos_embed": torch.ones(1, 1 + 3000**2, 1)},
    "odd dimensions": lambda state: state | {"patch_embed.proj.weight": torch.ones(64)},
    "a size of 5,000 digits": lambda state: {"model": state, "args": argparse.Namespace(input_size=9**5000)},
    "a ratio that is none": lambda state: {"model": state, "args": argparse.Namespace(mask_ratio=1e308)},
    "many heads": lambda state: {"model": state, "args": {"heads": 10**30}},
}


@pytest.mark.filterwarnings("ignore")  # of torch, on quantised and sparse tensors
@pytest.mark.parametrize("kind", list(ODD))
def test_odd_weights_are_refused(
    tmp_path: Path, state: dict[str, Tensor], refused: Callable[..., Any], kind: str
) -> None:
    torch.save(ODD[kind](state), tmp_path / "mae_visualize.pth")
    with refused():
        load_checkpoint(tmp_path / "mae_visualize.pth")


def grown(path: Path) -> None:
    """Let a file end in a hole of 40 GiB."""
    os.truncate(path, 40 * GIBIBYTE)


def hollow(path: Path) -> None:
    """Write a file of safetensors with a good header, and a hole for its numbers."""
    numbers = 8 * GIBIBYTE // 4
    described = {
        "patch_embed.proj.weight": {"dtype": "F32", "shape": [numbers, 1, 1, 1], "data_offsets": [0, 4 * numbers]}
    }
    header = json.dumps(described).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(path, 8 + len(header) + 4 * numbers)


@pytest.mark.parametrize("name", ["mae.pth", "mae.bin", "mae.safetensors"])
@pytest.mark.parametrize("start", [b"", b"PK\x03\x04", b"\x80\x02}q\x00.", b"\xff" * 8])
def test_file_of_40_gib_is_refused(tmp_path: Path, refused: Callable[..., Any], name: str, start: bytes) -> None:
    (tmp_path / name).write_bytes(start)
    grown(tmp_path / name)
    with refused("has 40 GiB, and 32 are the most"):
        load_checkpoint(tmp_path / name)


def test_checkpoint_that_ends_in_a_hole_is_refused(tmp_path: Path, own: Path, exported: Path, refused: Any) -> None:
    for source in (own, exported):
        directory = tmp_path / source.name
        shutil.copytree(source, directory)
        grown(directory / "model.safetensors")
        with refused("has 40 GiB"):
            load_checkpoint(directory)


def test_hole_with_a_good_header_is_refused(tmp_path: Path, own: Path, refused: Any) -> None:
    hollow(tmp_path / "mae.safetensors")
    with refused():
        load_checkpoint(tmp_path / "mae.safetensors")
    directory = shutil.copytree(own, tmp_path / "own")
    hollow(directory / "model.safetensors")
    with refused("lacks parameter|too few for"):
        load_checkpoint(directory)


def header(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text + b"\0" * 64


ONE = b'{"a":{"dtype":"F32","shape":[%s],"data_offsets":[%s]}}'


@pytest.mark.parametrize(
    "content",
    [
        header(b"{}", 2**63),
        header(b"{}", 2**40),
        header(b"{}", 10**6),
        header(b"{}", 0),
        header(b"[" * 100_000),
        header(b'{"a":' * 50_000),
        header(b"\xff" * 100),
        header(ONE % (b"16", b"0,1000000")),
        header(ONE % (b"4294967296,4294967296,16", b"0,64")),
        header(ONE % (b"-1", b"0,64")),
        header(ONE % (b"16", b"64,0")),
        header(ONE % (b"16", b"-1,63")),
        header(ONE % (b"9" * 5000, b"0,64")),
        header(b'{"a":{"dtype":"F4","shape":[16],"data_offsets":[0,64]}}'),
        header(
            b'{"a":{"dtype":"F32","shape":[16],"data_offsets":[0,64]},"b":{"dtype":"F32","shape":[16],"data_offsets":[0,64]}}'
        ),
        header(b'{"__metadata__":7}'),
        b"\x01",
    ],
    ids=lambda content: repr(content[8:40]),
)
def test_header_that_lies_is_refused(
    tmp_path: Path, own: Path, exported: Path, refused: Callable[..., Any], content: bytes
) -> None:
    (tmp_path / "mae.safetensors").write_bytes(content)
    with refused("damaged|holds weights of no known layout"):
        load_checkpoint(tmp_path / "mae.safetensors")
    for source in (own, exported):
        directory = shutil.copytree(source, tmp_path / source.name)
        (directory / "model.safetensors").write_bytes(content)
        with refused():
            load_checkpoint(directory)


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def repacked(change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Write the archive of a small checkpoint anew, with members changed."""
    buffer = io.BytesIO()
    whole = io.BytesIO(saved({"norm.bias": torch.ones(3)}))
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return buffer.getvalue()


def in_pickle(content: bytes) -> bytes:
    return repacked(lambda name, old: content if name.endswith("data.pkl") else old)


def nested(depth: int) -> bytes:
    """Pickle lists in each other."""
    return b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."


def doubled(depth: int) -> bytes:
    """Pickle a dictionary whose key is a pair of the same pair, and so on: its hash takes 2 ** depth steps."""
    return b"\x80\x02}K\x01" + b"2\x86" * depth + b"K\x01s."


@pytest.mark.parametrize("pack", [in_pickle, bytes], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "content",
    [
        nested(100_000),
        doubled(60),
        b"\x80\x02" + b"N0" * 1_000_000 + b"N.",
        b"\x80\x02\x8b" + struct.pack("<i", 10**6) + b"\x7f" * 10**6 + b".",
        b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"x.",
        b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"}.",
        b"\x80\x02]r" + struct.pack("<I", 2**32 - 1) + b".",
        b"." * 100,
        pickle.dumps({"norm.bias": [1.0] * 1000}),
    ],
    ids=["nested", "doubled", "long", "integer", "text", "frame", "memo", "stop", "list"],
)
def test_pickle_that_would_take_for_ever_is_refused(
    tmp_path: Path, refused: Callable[..., Any], pack: Callable[[bytes], bytes], content: bytes
) -> None:
    (tmp_path / "mae.pth").write_bytes(pack(content))
    with refused():
        load_checkpoint(tmp_path / "mae.pth")


@pytest.mark.parametrize(
    "content",
    [
        repacked(lambda name, old: old + b"\0" * (20 << 20), zipfile.ZIP_DEFLATED),
        repacked(lambda name, old: b"\0" * (40 << 20) if name.endswith(".pkl") else old),
        repacked(lambda name, old: old[:1]),
        repacked(lambda name, old: b""),
        saved({"norm.bias": torch.ones(3)})[:-30],
        saved({"norm.bias": torch.ones(3)})[:-30] + b"\xff" * 30,
    ],
    ids=["bomb", "large pickle", "cut members", "empty members", "cut directory", "spoilt directory"],
)
def test_archive_that_lies_is_refused(tmp_path: Path, refused: Callable[..., Any], content: bytes) -> None:
    (tmp_path / "mae.pth").write_bytes(content)
    with refused():
        load_checkpoint(tmp_path / "mae.pth")
