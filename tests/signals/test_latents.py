from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mimia.arrays import Floats
from mimia.encoders.base import Reconstructor
from mimia.encoders.checkpoints import native
from mimia.encoders.mae import Mae
from mimia.images.imageset import ImageSet
from mimia.signals.kinds import Asking, Subject
from mimia.signals.latents import Latents
from mimia.signals.scoring import score_images
from mimia.store import Store

Ask = Callable[..., tuple[Subject, Asking, ImageSet]]


def slow_errors(model: Reconstructor, images: ImageSet, asking: Asking) -> Floats:
    """Mean over the hidden patches of the mean squared difference from the latents of the whole image."""
    assert isinstance(model, Mae)
    masks = model.spec.scoring_masks(images.ids, asking.settings.draws, asking.settings.seed)
    nothing = torch.zeros(1, 1, model.spec.tokens, dtype=torch.bool)
    errors = np.zeros(masks.shape[:2])
    for row, pixels in enumerate(images.pixels):
        image = torch.from_numpy(np.array(pixels))[None]
        with torch.inference_mode():
            latents = model.encode(image, nothing)[0, 0, 1:].double().numpy()
            for draw, mask in enumerate(masks[row]):
                predicted = model.reconstruct(image, torch.from_numpy(mask)[None, None])[0, 0].double().numpy()
                hidden = [((predicted[patch] - latents[patch]) ** 2).mean() for patch in np.flatnonzero(mask)]
                errors[row, draw] = np.mean(hidden)
    return errors


def test_errors_are_those_of_the_definition(ask: Ask) -> None:
    for channels in (1, 3):
        subject, asking, images = ask("mae", channels)
        few = images.take(np.arange(4))
        found = Latents().measure(subject, few.pixels, few.ids, asking)
        np.testing.assert_allclose(found, slow_errors(subject.latent_model, few, asking), rtol=1e-4)


def test_another_decoder_of_latents_never_gets_an_old_answer(ask: Ask, store: Store, tmp_path: Path) -> None:
    subject, asking, images = ask("mae")
    assert subject.latents is not None
    model = native.load(subject.latents)
    with torch.no_grad():
        model.get_parameter("decoder_pred.bias").add_(1)
    native.save(tmp_path / "other", model)
    other = Subject("target", subject.source, asking.compute, tmp_path / "other")
    rows = np.arange(3)
    first, second = (score_images(["latents"], [each], images, rows, asking, store) for each in (subject, other))
    assert not np.array_equal(first["latents"], second["latents"])
    assert first.models == second.models


def test_masks_are_those_of_the_distances(ask: Ask, store: Store) -> None:
    subject, asking, images = ask("mae")
    more = replace(asking, settings=asking.settings.model_copy(update={"draws": 6}))
    fewer, all_six = (
        score_images(["latents"], [subject], images, np.arange(3), each, store)["latents"] for each in (asking, more)
    )
    np.testing.assert_allclose(all_six[:, :, :4], fewer, rtol=1e-5)
