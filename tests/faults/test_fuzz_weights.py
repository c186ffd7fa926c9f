"""Fuzzes the readers of weights: headers of safetensors, pickles and archives of torch."""

import io
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

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
        b"N0" * 200,
    ),
    *(b"PK\x03\x04", b"PK\x05\x06", b'"shape":[4294967296]', b'"data_offsets":[0,1]', b'"dtype":"F64"', b"[" * 300),
    *(b"K\xff", b"J\xff\xff\xff\xff", b".", b"\x80\x02", b"Q", b"X\xff\xff\xff\x7f"),
]
SETTINGS = CheckpointSettings(mean=(0.5,), std=(0.5,), heads=4, decoder_heads=4)
NAMES = ("mae_visualize.safetensors", *(f"mae_visualize_{kind}.pth" for kind in ("zip", "legacy", "whole")))


@pytest.fixture(scope="module")
def seeds(own: Path) -> dict[str, bytes]:
    state = OrderedDict(load_file(own / "model.safetensors"))
    small = {"norm.bias": torch.ones(3), "pos_embed": torch.ones(1, 5, 3)}
    found = {"mae_visualize.safetensors": (own / "model.safetensors").read_bytes()}
    for name, content, zipped in (("zip", small, True), ("legacy", small, False), ("whole", {"model": state}, True)):
        buffer = io.BytesIO()
        torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
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
@pytest.mark.parametrize(
    "name",
    ["mae_visualize.safetensors", "mae_visualize_zip.pth", "mae_visualize_legacy.pth", "mae_visualize_whole.pth"],
)
def test_fuzz_weights(tmp_path: Path, seeds: dict[str, bytes], name: str) -> None:
    known = [path.read_bytes() for path in kept("weights")]
    fuzz("weights", reader_of(tmp_path / name), mutated([seeds[name]] * 3 + known, WORDS), kinds=len(NAMES))
