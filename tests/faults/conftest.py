"""Small checkpoints to be spoilt, and what every refusal has to be."""

import copy
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from mimia.config.recipes import Recipe
from mimia.models.base import ModelSpec
from mimia.models.checkpoints import native
from mimia.models.checkpoints.export import export
from mimia.models.mae import MAE, SIZES
from mimia.runtime.errors import MimiaError

LONGEST = 300  # characters of a sentence
PATIENCE = 10  # seconds


@pytest.fixture(scope="session")
def refused() -> Callable[..., Any]:
    """Check that a block ends soon in one sentence that is short, whatever it was given."""

    @contextmanager
    def check(match: str | None = None) -> Iterator[None]:
        started = time.monotonic()
        with pytest.raises(MimiaError, match=match) as caught:
            yield
        assert time.monotonic() - started < PATIENCE
        sentence = str(caught.value)
        assert len(sentence) <= LONGEST, sentence
        assert "\n" not in sentence
        assert sentence.endswith(".")

    return check


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of mimia."""
    spec = ModelSpec(
        image_size=8, channels=1, patch_size=2, mask_ratio=0.75, target_space="normalised", mean=(0.3,), std=(0.4,)
    )
    training = native.Training(
        recipe=Recipe.model_validate({"preset": "mae-nano", "epochs": 3}),
        seed=5,
        images=7,
        images_fingerprint="f" * 32,
        losses=(0.3, 0.2, 0.1),
        seconds=1.5,
        hardware={"device": "cpu"},
        versions={"torch": "2"},
        privacy=native.Privacy(epsilon=3, delta=1e-6, noise_multiplier=1, clip=1, sample_rate=0.1, steps=30),
    )
    directory = tmp_path_factory.mktemp("c") / "own"
    native.save(directory, MAE(spec, SIZES["nano"], torch.Generator().manual_seed(0)), training)
    return directory


@pytest.fixture(scope="session")
def exported(own: Path) -> Path:
    """The same checkpoint as a directory of transformers."""
    export(own, own.with_name("exported"))
    return own.with_name("exported")


def changed(content: Any, where: Sequence[str | int], value: object) -> Any:
    """Return JSON values with one of them replaced."""
    content = copy.deepcopy(content)
    place = content
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    return content


@pytest.fixture
def spoil(tmp_path: Path) -> Callable[..., Path]:
    """Link the files of a directory into a new one, with one value of a JSON file replaced."""

    def make(source: Path, file: str, where: Sequence[str | int], value: object) -> Path:
        target = tmp_path / "c"
        target.mkdir()
        for path in source.iterdir():
            (target / path.name).symlink_to(path)
        (target / file).unlink(missing_ok=True)
        content = json.loads((source / file).read_text()) if (source / file).exists() else {}
        (target / file).write_text(json.dumps(changed(content, where, value)))
        return target

    return make
