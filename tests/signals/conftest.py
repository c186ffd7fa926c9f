"""Models of each family at the size of the digits, and images for them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mimia.config.recipes import Recipe
from mimia.config.settings import SignalSettings
from mimia.data.imageset import ImageSet
from mimia.models.beit import BEiT
from mimia.models.checkpoints import native
from mimia.models.mae import MAE, of_decoder
from mimia.models.registry import architecture_for, build
from mimia.models.tokenizer import PatchTokenizer
from mimia.pretraining.specs import spec_for
from mimia.runtime.arrays import content_id
from mimia.runtime.compute import ComputeSettings
from mimia.signals.base import QueryConfig
from mimia.signals.queried import QueriedModel


def save_with_latent_decoder(checkpoint: Path, out: Path) -> None:
    """Write the encoder of a MAE with a decoder of its latents that was not trained."""
    source = native.load(checkpoint)
    assert isinstance(source, MAE)
    spec = source.spec.model_copy(update={"target_space": "latents"})
    model = MAE(spec, source.architecture, torch.Generator().manual_seed(0))
    encoder = {name: value for name, value in source.state_dict().items() if not of_decoder(name)}
    model.load_state_dict(model.state_dict() | encoder)
    native.save(out, model)


@pytest.fixture(scope="session")
def coloured(digits: ImageSet) -> ImageSet:
    """Images of three digits, one a channel."""
    pixels = np.concatenate([digits.pixels[start : start + 200] for start in (0, 200, 400)], axis=1)
    ids = np.array([content_id(image) for image in pixels])
    return replace(digits.take(np.arange(200)), pixels=pixels, ids=ids)


@pytest.fixture(scope="session")
def make_query(
    tmp_path_factory: pytest.TempPathFactory, digits: ImageSet, coloured: ImageSet
) -> Callable[..., tuple[QueriedModel, QueryConfig, ImageSet]]:
    """Return a model of a family that was not trained, its query, and images for it.

    No two of its parameters are alike, so that none can stand in for another.
    """
    home = tmp_path_factory.mktemp("models")
    compute = ComputeSettings(device="cpu", threads=1)

    def make_query(
        family: str, channels: int = 1, seed: int = 0, patch_size: int | None = None
    ) -> tuple[QueriedModel, QueryConfig, ImageSet]:
        images = digits if channels == 1 else coloured
        changes = {} if patch_size is None else {"patch_size": patch_size}
        recipe = Recipe.model_validate({"preset": f"{family}-nano"} | changes)
        spec = spec_for(images, recipe)
        checkpoint = home / f"{family}-{channels}-{seed}-{recipe.patch_size}"
        if not checkpoint.exists():
            generator = torch.Generator().manual_seed(seed)
            model = build(spec, architecture_for(recipe, spec), generator)
            with torch.no_grad():
                for value in model.parameters():
                    value.add_(0.05 * torch.randn(value.shape, generator=generator))
            if isinstance(model, BEiT) and isinstance(model.tokenizer, PatchTokenizer):
                model.tokenizer.codebook.normal_(generator=generator)
            native.save(checkpoint, model)
        settings = SignalSettings(draws=4, seed=1, batch_size=32)
        latents = None
        if family == "mae":
            latents = checkpoint.with_name(f"{checkpoint.name}-latents")
            save_with_latent_decoder(checkpoint, latents)
        return (
            QueriedModel("target", checkpoint, compute, latents),
            QueryConfig(settings, recipe, compute, spec),
            images,
        )

    return make_query
