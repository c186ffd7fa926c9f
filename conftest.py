"""What tests and benchmarks share: real images, where this machine has them, and no network."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # each of pytest's workers has one core
os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported: no test waits for a network


@pytest.fixture
def data_file() -> Callable[[str], Path]:
    """Return the path of a file of real images, or skip where this machine does not have it."""
    default = Path(__file__).resolve().parents[1] / "shared" / "data"
    directory = Path(os.environ.get("MIMIA_DATA", default))

    def find(name: str) -> Path:
        path = directory / name
        if not path.is_file():
            pytest.skip(f"{path} is not there: set MIMIA_DATA to the folder that holds {name}")
        return path

    return find
