"""The examples of CONTRIBUTING.md work: each is put into a copy of the package, and used there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r'^```(?:python|html) title="(registry: )?([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
MOST_LINES = 30

USE = """
import sys
from pathlib import Path

import numpy as np
import torch

import mimia
from mimia.config.recipes import Recipe
from mimia.config.settings import CheckpointSettings
from mimia.report.files import read_report
from mimia.report.html import render_report
from mimia.runtime.executors import EXECUTORS

tmp = Path(sys.argv[1])
digits = mimia.load_images("digits", store=tmp / "store")
few = digits.take(np.arange(40))

# attack
losses, membership = np.random.default_rng(0).random((2, 40, 3)), np.arange(80).reshape(2, 40) % 2 == 0
attack = mimia.attacks.make_attack("best-mask").fit(losses, membership)
assert np.array_equal(attack.score(losses[0]), -losses[0].min(axis=-1))

# model family and defence
recipe = Recipe.model_validate({"preset": "wide-nano", "epochs": 1, "batch_size": 20})
model = mimia.pretrain(few, recipe, store=tmp / "store")
assert model.architecture.family == "wide-simmim" and model.architecture.width == 128
from mimia.pretraining.defences.weight_noise import WeightNoise
noisy = mimia.pretrain(few, recipe, defence=WeightNoise(sigma=0.5), store=tmp / "store")
assert not torch.equal(noisy.encoder.mask_token, model.encoder.mask_token) or any(
    not torch.equal(a, b) for a, b in zip(noisy.parameters(), model.parameters())
)
assert Recipe.model_validate({"preset": "wide-nano", "defences": {"weight_noise": {"sigma": 0.5}}}).defences

# signal
signals = mimia.extract_signals([model], few, ["flip_gap", "reconstruction"], n_masks=1)
assert signals["flip_gap"].shape == (1, 40, 1) and np.ptp(signals["flip_gap"]) > 0

# checkpoint layout
mae = mimia.pretrain(few, Recipe.model_validate({"preset": "mae-nano", "epochs": 1}), store=tmp / "store")
torch.save({f"mae.{name}": value for name, value in mae.state_dict().items()}, tmp / "file.pth")
known = CheckpointSettings(
    heads=mae.architecture.heads,
    decoder_heads=mae.architecture.decoder_heads,
    target_space="normalised",
    mean=mae.spec.mean,
    std=mae.spec.std,
)
opened = mimia.load_model(tmp / "file.pth", known)
assert all(torch.equal(value, mae.state_dict()[name]) for name, value in opened.state_dict().items())

# image source
np.savez(tmp / "some.npz", images=np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8))
assert len(mimia.load_images(str(tmp / "some.npz"))) == 6

# section of the report
page = render_report(read_report(tmp))
assert "<h2>Threat model</h2>" in page and "trains 2 shadow models" in page

# executor
assert EXECUTORS["threads"]().map(abs, [-1, 2, -3]) == [1, 2, 3]
"""


@pytest.fixture(scope="module")
def blocks() -> list[tuple[bool, str, str]]:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return [(bool(registry), path, body) for registry, path, body in BLOCK.findall(text)]


def test_each_example_is_one_short_file_and_one_registry_line(blocks: list[tuple[bool, str, str]]) -> None:
    lines = [body for registry, _, body in blocks if registry]
    files = [path for registry, path, _ in blocks if not registry and path.endswith(".py")]
    assert len(lines) == len(files) == 8
    assert all(body.count("\n") == 1 for body in lines)
    for registry, _, body in blocks:
        code = [line for line in body.splitlines() if line.strip()]
        assert registry or len(code) <= MOST_LINES


def test_examples_work(blocks: list[tuple[bool, str, str]], tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src" / "mimia", tmp_path / "src" / "mimia", ignore=shutil.ignore_patterns("__pycache__"))
    for registry, name, body in blocks:
        path = tmp_path / name
        if registry:
            text = path.read_text(encoding="utf-8")
            first = re.search(r'^ +"[\w-]+": "mimia\.', text, re.MULTILINE)
            assert first is not None, name
            path.write_text(text[: first.start()] + body + text[first.start() :], encoding="utf-8")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(body, encoding="utf-8")
    shutil.copyfile(ROOT / "tests" / "report" / "old" / "audit-2.json", tmp_path / "report.json")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src")}
    ended = subprocess.run([sys.executable, "-c", USE, str(tmp_path)], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
