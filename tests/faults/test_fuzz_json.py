"""Fuzzes the readers of JSON: configurations, records of trainings, and reports."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults.fuzzing import check, fuzz, kept, mutated, replayed

from mimia.models.checkpoints import native
from mimia.models.checkpoints.loading import load_checkpoint
from mimia.report.files import read_report
from mimia.report.html import render_report

WORDS = [
    *(b"NaN", b"Infinity", b"-1", b"0", b"1e999", b"9" * 30, b"9" * 5000, b"null", b"true", b'""', b"[]", b"{}"),
    *(b"[" * 200, b'{"a":' * 200, b'"\\ud800"', b'"$\\\\frac{$"', b'"http://127.0.0.1:1/a.png"', b"1e-320", b"1e308"),
    *(
        b",",
        b'"',
        b"\\",
        b"\xff",
        b"10000000",
        b"0.5",
        b'"mae"',
        b'"<script>"',
        b"2147483648",
        b'"width":',
        b'"depth":',
    ),
]
"""What JSON that goes wrong is made of."""


@pytest.fixture(scope="module")
def directory(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(own, tmp_path_factory.mktemp("f") / "c")


@pytest.fixture(scope="module")
def of_transformers(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(exported, tmp_path_factory.mktemp("f") / "c")


def reader_of(directory: Path, file: str) -> Callable[[bytes], object]:
    def read(content: bytes) -> object:
        (directory / file).write_bytes(content)
        return native.load_training(directory) if file == native.TRAINING else load_checkpoint(directory)

    return read


def read_and_render(directory: Path) -> Callable[[bytes], object]:
    def read(content: bytes) -> object:
        (directory / "report.json").write_bytes(content)
        return render_report(read_report(directory))

    return read


@replayed("config")
def test_kept_configurations(directory: Path, of_transformers: Path, path: Path) -> None:
    for each in (directory, of_transformers):
        check(reader_of(each, "config.json"), path.read_bytes())
    check(reader_of(directory, "training.json"), path.read_bytes())


@pytest.mark.filterwarnings("ignore")  # of matplotlib, on glyphs and sizes
@replayed("report")
def test_kept_reports(tmp_path: Path, path: Path) -> None:
    check(read_and_render(tmp_path), path.read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["own", "transformers", "training"])
def test_fuzz_configurations(own: Path, exported: Path, directory: Path, of_transformers: Path, kind: str) -> None:
    file = native.TRAINING if kind == "training" else native.CONFIG
    source, target = (exported, of_transformers) if kind == "transformers" else (own, directory)
    seeds = [(source / file).read_bytes(), *(path.read_bytes() for path in kept("config"))]
    fuzz("config", reader_of(target, file), mutated(seeds[:1] * 3 + seeds, WORDS), kinds=3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_fuzz_reports(tmp_path: Path) -> None:
    fuzz("report", read_and_render(tmp_path), mutated([path.read_bytes() for path in kept("report")], WORDS))
