"""Random bit flips in everything that an audit keeps: its scores stay the same to the last bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from transformers import ViTMAEConfig, ViTMAEModel

import mimia
from mimia.runtime import artifacts

pytestmark = pytest.mark.usefixtures("quick_network")
KINDS = ["decoders", "images", "models", "signals", "to_native"]
FLIPS = 20
SETTINGS: dict[str, Any] = {
    "shadows": {"count": 2},
    "recipe": {"preset": "mae-nano", "epochs": 2},
    "compute": {"device": "cpu", "threads": 1},
    "attacks": {"names": ["threshold", "calibrated"]},
    "signals": {"draws": 2},
    "checkpoint": {"mean": [0.3], "std": [0.37]},
    "decoder": {"epochs": 2},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an encoder of transformers, which is audited with decoders that are fitted to it."""
    place = tmp_path_factory.mktemp("flips")
    sizes: dict[str, Any] = {
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 192,
    }
    torch.manual_seed(0)
    config = ViTMAEConfig(**sizes, image_size=8, patch_size=2, num_channels=1)
    ViTMAEModel(config).save_pretrained(place / "encoder")
    return place


@pytest.fixture(scope="module")
def audit(place: Path) -> Callable[[], str]:
    """Audit the encoder as a new run does, and return the table of scores."""
    digits = np.rint(load_digits().images * 255 / 16).astype(np.uint8)

    def run() -> str:
        artifacts._verified.clear()
        result = mimia.audit(
            str(place / "encoder"),
            members=digits[:60],
            nonmembers=digits[60:200],
            reference=digits[200:400],
            settings=SETTINGS | {"store": str(place / "store")},
        )
        table: str = result.to_frame().to_csv()
        return table

    return run


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_audit_after_a_flipped_bit_gives_the_same_scores(
    place: Path, audit: Callable[[], str], capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    scores = audit()
    assert (
        sorted({path.parents[1].name for path in (place / "store").glob("*/*/artifact.json")} - {"quarantine"}) == KINDS
    )
    generator = np.random.default_rng(list(kind.encode()))
    for number in range(FLIPS):
        files = [path for path in sorted((place / "store" / kind).glob("*/*")) if not path.name.startswith(".")]
        names = sorted({path.name for path in files})
        alike = [path for path in files if path.name == names[number % len(names)]]
        file = alike[generator.integers(len(alike))]
        data = bytearray(file.read_bytes())
        bit = int(generator.integers(8 * len(data)))
        data[bit // 8] ^= 1 << bit % 8
        file.write_bytes(data)
        capsys.readouterr()
        assert audit() == scores, f"bit {bit} of {file}"
        assert "is moved to quarantine/" in capsys.readouterr().err
