"""What a file does not say is found by the pixels, on models whose truth is known because they are trained here."""

import argparse
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from mimia.config.recipes import Recipe
from mimia.config.settings import CheckpointSettings
from mimia.data.imageset import ImageSet
from mimia.data.loading import load_images
from mimia.models.base import ModelSpec, TargetSpace
from mimia.models.checkpoints.identification import identify
from mimia.models.checkpoints.loading import load_checkpoint
from mimia.models.mae import MAE, MAEArchitecture
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.trainer import Trainer
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store

State = dict[str, Tensor]
COMPUTE = ComputeSettings(device="cpu")
TRUTH: dict[str, Any] = {"heads": 2, "decoder_heads": 4}
_SEEN = 700
HALF = ((0.5,) * 3, (0.5,) * 3)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    """Coloured digits of 8 by 8 pixels, red more than blue."""
    grey = load_digits().images[:, :, :, None] / 16
    colours = np.random.default_rng(0).uniform((0.7, 0.3, 0.1), (1, 0.6, 0.3), (len(grey), 1, 1, 3))
    return load_images((grey * colours * 255).astype(np.uint8))


@pytest.fixture(scope="module")
def train(images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Callable[[TargetSpace], State]:
    """Train on the first images, and return the weights."""

    @cache
    def make(space: TargetSpace) -> State:
        mean, std = HALF
        sizes = {"image_size": 8, "channels": 3, "patch_size": 2, "mask_ratio": 0.75}
        spec = ModelSpec.model_validate(sizes | {"target_space": space, "mean": mean, "std": std})
        architecture = MAEArchitecture(width=32, depth=2, decoder_width=32, decoder_depth=1, **TRUTH)
        model = MAE(spec, architecture, torch.Generator().manual_seed(0))
        recipe = Recipe.model_validate({"preset": "mae-nano", "epochs": 150, "base_learning_rate": 8e-3})
        work = tmp_path_factory.mktemp("work")
        Trainer(recipe, TrainingContext(COMPUTE, Store(work / "store"))).fit(
            model, images.take(np.arange(_SEEN)), 0, work
        )
        return {name: value.detach().clone() for name, value in model.state_dict().items()}

    return make


@pytest.fixture(scope="module")
def raw(train: Callable[[TargetSpace], State]) -> State:
    return train("normalised")


def origins(loaded: Any) -> dict[str, tuple[Any, str]]:
    return {name: (fact.value, fact.origin) for name, fact in loaded.facts.items()}


def unseen(images: ImageSet) -> ImageSet:
    return images.take(np.arange(_SEEN, len(images)))


@pytest.mark.parametrize("space", ["normalised", "patch-normalised"])
def test_heads_space_and_statistics_are_found(
    tmp_path: Path, images: ImageSet, train: Callable[[TargetSpace], State], space: TargetSpace
) -> None:
    torch.save({"model": train(space)}, tmp_path / "a.pth")
    loaded = load_checkpoint(tmp_path / "a.pth")
    assert {each.name for each in loaded.unknown} == {
        *("heads", "decoder_heads", "target_space", "statistics", "channel_order")
    }
    found = identify(loaded, unseen(images), COMPUTE)
    assert not found.unknown
    facts = origins(found)
    assert facts["target_space"] == (space, "pixels")
    assert (facts["heads"], facts["decoder_heads"]) == ((2, "pixels"), (4, "pixels"))
    assert found.model.spec.target_space == space
    assert all(re.search(r"the error of .* larger, by \d+ standard errors", found.facts[name].reason) for name in TRUTH)
    if space == "normalised":
        assert (found.model.spec.mean, found.model.spec.std) == HALF
    assert origins(identify(loaded, unseen(images), COMPUTE)) == facts


def test_reversed_colours_are_found_and_put_in_order(tmp_path: Path, images: ImageSet, raw: State) -> None:
    """A model of BGR images is the same function of RGB images as the one that it was made from."""
    reverse = {
        "patch_embed.proj.weight": raw["patch_embed.proj.weight"][:, [2, 1, 0]],
        **{
            name: raw[name].view(4, 3, -1)[:, [2, 1, 0]].reshape(raw[name].shape)
            for name in ("decoder_pred.weight", "decoder_pred.bias")
        },
    }
    torch.save({"model": raw | reverse}, tmp_path / "bgr.pth")
    given = CheckpointSettings(target_space="normalised", mean=HALF[0], std=HALF[1], **TRUTH)
    found = identify(load_checkpoint(tmp_path / "bgr.pth", given), unseen(images), COMPUTE)
    assert origins(found)["channel_order"] == ("bgr", "pixels")
    stated = load_checkpoint(tmp_path / "bgr.pth", given.model_copy(update={"channel_order": "bgr"}))
    for model in (found.model, stated.model):
        weights = model.state_dict()
        assert all(torch.equal(weights[name], value) for name, value in raw.items())


def test_what_the_file_or_the_user_says_is_not_looked_for(tmp_path: Path, images: ImageSet, raw: State) -> None:
    args = argparse.Namespace(norm_pix_loss=False, num_heads=2)
    torch.save({"model": raw, "args": args}, tmp_path / "a.pth")
    given = CheckpointSettings(decoder_heads=2, mean=HALF[0], std=HALF[1], channel_order="rgb")  # wrong heads
    loaded = load_checkpoint(tmp_path / "a.pth", given)
    assert loaded.unknown == ()
    facts = origins(identify(loaded, images, COMPUTE))
    assert facts["target_space"] == ("normalised", "file")
    assert (facts["heads"], facts["decoder_heads"]) == ((2, "file"), (2, "you"))


@pytest.mark.parametrize("case", ["untrained", "few images"])
def test_pixels_that_do_not_say_it_end_with_the_flag(tmp_path: Path, images: ImageSet, raw: State, case: str) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = {name: 0.1 * torch.randn(value.shape, generator=generator) for name, value in raw.items()}
    torch.save({"model": noise | {"pos_embed": raw["pos_embed"]} if case == "untrained" else raw}, tmp_path / "a.pth")
    given = CheckpointSettings(target_space="normalised", decoder_heads=4)
    shown = unseen(images) if case == "untrained" else images.take(np.arange(_SEEN, _SEEN + 8))
    with pytest.raises(
        MimiaError, match=r"pixels do not say the checkpoint's heads: .*; pass --set checkpoint\.heads=N"
    ):
        identify(load_checkpoint(tmp_path / "a.pth", given), shown, COMPUTE)
