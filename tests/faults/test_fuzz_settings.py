"""Fuzzes the reader of settings: TOML files, and values of the command line."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults.fuzzing import check, fuzz, kept, mutated, replayed

from mimia.cli.input import parse_assignment
from mimia.config.settings import Settings, read_settings
from mimia.config.toml import to_toml

WORDS = [
    *(b"nan", b"inf", b"-1", b"0", b"1e999", b"9" * 5000, b'""', b"[]", b"{}", b"true", b"1979-05-27T07:32:00Z", b"0x"),
    *(
        b"[" * 3000,
        b"[[",
        b"]]",
        b"=",
        b"\n",
        b"\0",
        b"\xff",
        b"'''",
        b'"\\ud800"',
        b"a.b.c = 1\n",
        b"[recipe]\n",
        b"[x]\n",
    ),
    *(b"1e30", b'"x"', b'"all"', b"[5, 9]", b"10000000000", b'"https://***@h"'),
]


def reader_of(directory: Path) -> Callable[[bytes], object]:
    """Read settings from a file, and the first line of it as an assignment."""

    def read(content: bytes) -> object:
        (directory / "settings.toml").write_bytes(content)
        first, _, rest = content.partition(b"\n")
        key, value = parse_assignment(first.decode("utf-8", "surrogateescape") + "=")
        assert isinstance(key, str), value
        parse_assignment("a=" + rest.decode("utf-8", "surrogateescape"))
        return to_toml(read_settings(directory / "settings.toml", {}))

    return read


@replayed("settings")
def test_kept_settings(tmp_path: Path, path: Path) -> None:
    check(reader_of(tmp_path), path.read_bytes())


@pytest.mark.slow
def test_fuzz_settings(tmp_path: Path) -> None:
    whole = to_toml(read_settings(None, {}))
    bare = "\n".join(line for line in whole.splitlines() if not line.startswith("#"))
    assert Settings.model_fields
    seeds = [whole.encode(), bare.encode(), bare.encode(), *(path.read_bytes() for path in kept("settings"))]
    fuzz("settings", reader_of(tmp_path), mutated(seeds, WORDS))
