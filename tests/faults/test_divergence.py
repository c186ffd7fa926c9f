"""Numbers that are not finite: an error that names the setting, and nothing in the store."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mimia.config.recipes import Recipe
from mimia.config.settings import DecoderSettings, SignalSettings
from mimia.data.imageset import ImageSet
from mimia.models.checkpoints import native
from mimia.models.mae import MAE
from mimia.pretraining import trainer
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.decoders import borrowed_decoder, fitted_decoder
from mimia.pretraining.pool import pretrained, untrained
from mimia.pretraining.specs import spec_for
from mimia.runtime.arrays import Floats, Pixels
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store
from mimia.signals.base import QueryConfig
from mimia.signals.extract import extract_signals
from mimia.signals.queried import QueriedModel

RECIPE = Recipe.model_validate({"preset": "mae-nano", "epochs": 3, "batch_size": 16})


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"base_learning_rate": 1e30}, r"its loss became .* in epoch 2: lower recipe\.base_learning_rate\."),
        ({"base_learning_rate": 1e30, "epochs": 1}, "after the last step: lower recipe"),  # no loss shows it
        ({"base_learning_rate": 1e30, "epochs": 1, "defences": {"ema": {"decay": 0.5}}}, "after the last step"),
        ({"base_learning_rate": 1e30, "epochs": 3, "stop_epoch": 1}, "after the last step"),
    ],
)
def test_training_that_diverges_leaves_no_artifact(
    digits: ImageSet, store: Store, changes: dict[str, Any], what: str
) -> None:
    images = digits.take(np.arange(64))
    recipe = Recipe.model_validate({"preset": "mae-nano", "epochs": 3, "batch_size": 64, "warmup": 0} | changes)
    context = TrainingContext(ComputeSettings(device="cpu", threads=1), store)
    with pytest.raises(MimiaError, match=rf"The training \(pre-training\) diverged, .*{what}"):
        pretrained(images, spec_for(images, recipe), recipe, 0, context)
    assert not [*store.root.rglob("model.safetensors"), *store.root.rglob(trainer.STATE)]


def test_decoder_that_diverges_names_its_own_setting(digits: ImageSet, store: Store, tmp_path: Path) -> None:
    images = digits.take(np.arange(64))
    native.save(tmp_path / "encoder", untrained(images, spec_for(images, RECIPE), RECIPE, 0))
    settings = DecoderSettings(epochs=3, batch_size=16, base_learning_rate=1e30)
    context = TrainingContext(ComputeSettings(device="cpu", threads=1), store, description="decoder: target")
    with pytest.raises(MimiaError, match=r"\(decoder: target\) diverged, .*: lower decoder\.base_learning_rate\."):
        fitted_decoder(tmp_path / "encoder", images, RECIPE, settings, context)
    assert not list(store.root.rglob("model.safetensors"))


def test_latents_that_cannot_be_aligned_give_no_decoder(digits: ImageSet, store: Store, tmp_path: Path) -> None:
    images = digits.take(np.arange(64))
    for name, factor in {"encoder": 3e38, "donor": 1.0}.items():
        model = untrained(images, spec_for(images, RECIPE), RECIPE, 0)
        assert isinstance(model, MAE)
        with torch.no_grad():
            model.norm.weight.mul_(factor)  # to numbers that are finite, and make latents that are not
        native.save(tmp_path / name, model)
    with pytest.raises(MimiaError, match=r"cannot be aligned, .*: set decoder\.source \(--decoder\) to fitted"):
        borrowed_decoder(tmp_path / "encoder", tmp_path / "donor", store, images)
    assert not list(store.root.rglob("model.safetensors"))


def test_signal_that_is_not_finite_is_not_kept(digits: ImageSet, store: Store) -> None:
    query = QueryConfig(SignalSettings(), RECIPE, ComputeSettings(device="cpu"), spec_for(digits, RECIPE))
    answers = iter([1.0, np.nan])  # what names the function, and its signal

    def embed(pixels: Pixels) -> Floats:
        return np.arange(len(pixels) * 3.0).reshape(-1, 3) * next(answers)

    queried = QueriedModel("target", embed, ComputeSettings(device="cpu"))
    with pytest.raises(MimiaError, match="gives embeddings that are not finite"):
        extract_signals(["embeddings"], [queried], digits, np.arange(5), query, store)
    assert not list(store.root.glob("signals/*"))
