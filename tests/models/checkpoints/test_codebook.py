from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from mimia.config.settings import read_settings
from mimia.jobs.audit import audit
from mimia.models.base import ModelSpec
from mimia.models.beit import BEiT
from mimia.models.checkpoints import native
from mimia.models.checkpoints.codebook import open_tokenizer
from mimia.pretraining.command import pretrain
from mimia.runtime.errors import MimiaError

SPEC = ModelSpec(
    image_size=8,
    channels=1,
    patch_size=2,
    masking="blockwise",
    mask_ratio=0.4,
    target_space="tokens",
    mean=(0.3,),
    std=(0.4,),
)


@pytest.fixture(scope="module")
def codebook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("codebook")
    config = transformers.FlavaImageCodebookConfig(hidden_size=16, num_groups=4, vocab_size=32)
    transformers.FlavaImageCodebook(config).save_pretrained(directory)
    return directory


def test_tokens_are_those_of_the_codebook_at_eight_pixels_a_patch(codebook: Path) -> None:
    images = torch.randint(256, (3, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = open_tokenizer(str(codebook), SPEC)(images)
    theirs = transformers.FlavaImageCodebook.from_pretrained(codebook)
    pixels = torch.nn.functional.interpolate(images.float() / 255, size=(32, 32), mode="bicubic", antialias=True)
    with torch.inference_mode():
        tokens = theirs.get_codebook_indices(pixels.clamp(0, 1).expand(-1, 3, -1, -1) * 0.8 + 0.1)
    assert found.tolist() == tokens.flatten(1).tolist()


def test_beit_is_pretrained_on_the_tokens_of_a_given_codebook(codebook: Path, tmp_path: Path) -> None:
    values = {
        "store": str(tmp_path / "store"),
        "checkpoint": {"tokenizer": str(codebook)},
        "recipe": {"preset": "beit-nano", "epochs": 1},
        "split": {"n_members": 20},
        "compute": {"device": "cpu", "threads": 1},
    }
    model = native.load(pretrain(read_settings(None, values), tmp_path / "beit"))
    assert isinstance(model, BEiT)
    weights = transformers.FlavaImageCodebook.from_pretrained(codebook).state_dict()
    kept = {name.removeprefix("codebook."): value for name, value in model.tokenizer.state_dict().items()}
    assert kept.keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in kept.items())
    quick = {
        "signals": {"draws": 2},
        "split": {"n_members": 20, "n_nonmembers": 20, "shadow_size": 20},
        "attacks": {"names": ["calibrated"]},
    }
    report = audit(settings=read_settings(None, values | quick)).report
    assert np.isfinite([exhibit.distance for exhibit in report.run.gallery]).all()
    names = {path.name for path in (tmp_path / "store" / "models").iterdir() if path.is_dir()}
    tokenizers = {native.load(tmp_path / "store" / "models" / name) for name in names}
    assert len({model.tokenizer.fingerprint for model in tokenizers if isinstance(model, BEiT)}) == 1


def test_directory_of_another_class_is_no_tokenizer(tmp_path: Path) -> None:
    transformers.ViTMAEModel(
        transformers.ViTMAEConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    ).save_pretrained(tmp_path / "mae")
    with pytest.raises(MimiaError, match="is no tokenizer: pass a directory of FlavaImageCodebook"):
        open_tokenizer(str(tmp_path / "mae"), SPEC)
