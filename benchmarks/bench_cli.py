"""Time to the first answer of the command line."""

import subprocess
import sys

from pytest_benchmark.fixture import BenchmarkFixture


def test_help(benchmark: BenchmarkFixture) -> None:
    benchmark(subprocess.run, [sys.executable, "-m", "mimia", "--help"], check=True, capture_output=True)
