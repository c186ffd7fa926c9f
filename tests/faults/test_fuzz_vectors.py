"""Fuzzes the reader of an endpoint's answers."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from tests.faults.fuzzing import check, fuzz, kept, mutated, replayed

from mimia.models.vectors import check_vectors, read_vectors

WORDS = [
    *(
        b"'<f8'",
        b"'|O'",
        b"'<f16'",
        b"'>f2'",
        b"True",
        b"(4, 1000000000)",
        b"(4,)",
        b"(4, -1)",
        b"(4, 0)",
        b"(" * 200,
        b"[",
    ),
    *(
        b"9" * 300,
        b"{",
        b"}",
        b"'",
        b"\\",
        b"\n",
        b"\0",
        b"\xff",
        b"\x93NUMPY",
        b"\x02\x00",
        b"\x03\x00",
        b"__import__('os')",
    ),
    *(b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"1L", b"lambda: 0", b"f'{1}'", b"10**10"),
]


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


SEEDS = [npy(np.random.default_rng(0).normal(size=(4, 6)).astype(kind)) for kind in ("<f2", "<f4", "<f8", ">f8")]


def read(content: bytes) -> object:
    return check_vectors(read_vectors(io.BytesIO(content).read, 4, "It"), 4, None, "It")


@replayed("vectors")
def test_kept_answers(path: Path) -> None:
    check(read, path.read_bytes())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Python, on odd literals
def test_fuzz_answers() -> None:
    known = [path.read_bytes() for path in kept("vectors")]
    fuzz("vectors", read, st.one_of(mutated(SEEDS + known, WORDS), st.binary(max_size=300)))
