"""Models of each family at the size of the digits, and images for them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mimia.arrays import content_id
from mimia.config import ComputeSettings, SignalSettings
from mimia.encoders.beit import Beit
from mimia.encoders.checkpoints import native
from mimia.encoders.families import architecture_for, build
from mimia.encoders.mae import Mae, of_decoder
from mimia.encoders.tokenizer import PatchTokenizer
from mimia.images.imageset import ImageSet
from mimia.images.load import load_images
from mimia.pretraining.specs import spec_for
from mimia.recipes import Recipe
from mimia.signals.kinds import Asking, Subject
from mimia.store import Store


def save_with_latent_decoder(checkpoint: Path, out: Path) -> None:
    """Write the encoder of a MAE with a decoder of its latents that was not trained."""
    source = native.load(checkpoint)
    assert isinstance(source, Mae)
    spec = source.spec.model_copy(update={"target_space": "latents"})
    model = Mae(spec, source.architecture, torch.Generator().manual_seed(0))
    encoder = {name: value for name, value in source.state_dict().items() if not of_decoder(name)}
    model.load_state_dict(model.state_dict() | encoder)
    native.save(out, model)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return load_images(["digits"], Store(tmp_path_factory.mktemp("digits"))).images


@pytest.fixture(scope="session")
def coloured(digits: ImageSet) -> ImageSet:
    """Images of three digits, one a channel."""
    pixels = np.concatenate([digits.pixels[start : start + 200] for start in (0, 200, 400)], axis=1)
    ids = np.array([content_id(image) for image in pixels])
    return replace(digits.take(np.arange(200)), pixels=pixels, ids=ids)


@pytest.fixture(scope="session")
def ask(
    tmp_path_factory: pytest.TempPathFactory, digits: ImageSet, coloured: ImageSet
) -> Callable[..., tuple[Subject, Asking, ImageSet]]:
    """Give a model of a family that was not trained, how it is asked, and images for it.

    No two of its parameters are alike, so that none can stand in for another.
    """
    home = tmp_path_factory.mktemp("models")
    compute = ComputeSettings(device="cpu", threads=1)

    def ask(
        family: str, channels: int = 1, seed: int = 0, patch_size: int | None = None
    ) -> tuple[Subject, Asking, ImageSet]:
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
            if isinstance(model, Beit) and isinstance(model.tokenizer, PatchTokenizer):
                model.tokenizer.codebook.normal_(generator=generator)
            native.save(checkpoint, model)
        settings = SignalSettings(draws=4, seed=1, batch_size=32)
        latents = None
        if family == "mae":
            latents = checkpoint.with_name(f"{checkpoint.name}-latents")
            save_with_latent_decoder(checkpoint, latents)
        return Subject("target", checkpoint, compute, latents), Asking(settings, recipe, compute, spec), images

    return ask
