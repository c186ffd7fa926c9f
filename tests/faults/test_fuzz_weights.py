"""Fuzzes the readers of weights: headers of safetensors, pickles and archives of torch."""

import io
from argparse import Namespace
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.faults.fuzzing import check, fuzz, kept, mutated, replayed

from mimia.config.settings import CheckpointSettings
from mimia.models.checkpoints.loading import load_checkpoint

WORDS = [
    *(
        b"\xff" * 8,
        b"\0" * 8,
        b"\x7f",
        b"(",
        b")",
        b"t",
        b"\x85",
        b"\x86",
        b"2\x86" * 40,
        b"}",
        b"]",
        b"R",
        b"b",
        b"s",
        b"u",
    ),
    *(
        b"cos\nsystem\n",
        b"cbuiltins\neval\n",
        b"q\x00",
        b"h\x00",
        b"r\xff\xff\xff\xff",
        b"\x8b\xff\xff\xff\x7f",
        b"\x8c\x02os\x8c\x06system\x93",
        b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x94",
        b"\x81",
        b"N0" * 200,
    ),
    *(b"PK\x03\x04", b"PK\x05\x06", b'"shape":[4294967296]', b'"data_offsets":[0,1]', b'"dtype":"F64"', b"[" * 300),
    *(b"K\xff", b"J\xff\xff\xff\xff", b".", b"\x80\x02", b"Q", b"X\xff\xff\xff\x7f"),
]
SETTINGS = CheckpointSettings(mean=(0.5,), std=(0.5,), heads=4, decoder_heads=4)
KINDS = ("zip", "legacy", "whole", "wrapped")
NAMES = ("mae_visualize.safetensors", *(f"mae_visualize_{kind}.pth" for kind in KINDS))


@pytest.fixture(scope="module")
def seeds(own: Path) -> dict[str, bytes]:
    state = OrderedDict(load_file(own / "model.safetensors"))
    small = {"norm.bias": torch.ones(3), "pos_embed": torch.ones(1, 5, 3)}
    found = {"mae_visualize.safetensors": (own / "model.safetensors").read_bytes()}
    wrapped = {
        "model": {f"module.{name}": value for name, value in small.items()},
        "args": Namespace(out=Path("a"), n=3),
    }
    wrapped["rng"] = (np.float64(0.5), np.arange(3), {1, 2}, b"abc", torch.Size([1]), defaultdict(list))
    contents = (small, small, {"model": state}, wrapped)
    for name, content in zip(KINDS, contents, strict=True):
        buffer = io.BytesIO()
        protocol = 5 if name == "wrapped" else 2
        torch.save(content, buffer, pickle_protocol=protocol, _use_new_zipfile_serialization=name in ("zip", "whole"))
        found[f"mae_visualize_{name}.pth"] = buffer.getvalue()
    return found


def reader_of(path: Path) -> Callable[[bytes], object]:
    def read(content: bytes) -> object:
        path.unlink(missing_ok=True)  # what was loaded before is mapped
        path.write_bytes(content)
        return load_checkpoint(path, SETTINGS)

    return read


@replayed("weights")
def test_kept_weights(tmp_path: Path, path: Path) -> None:
    for name in ("mae.pth", "mae.safetensors"):
        check(reader_of(tmp_path / name), path.read_bytes())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch and zipfile
@pytest.mark.parametrize("name", NAMES)
def test_fuzz_weights(tmp_path: Path, seeds: dict[str, bytes], name: str) -> None:
    known = [path.read_bytes() for path in kept("weights")]
    fuzz("weights", reader_of(tmp_path / name), mutated([seeds[name]] * 3 + known, WORDS), kinds=len(NAMES))
