from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mimia.data.imageset import ImageSet
from mimia.models.base import MaskedImageModel
from mimia.models.checkpoints import native
from mimia.models.mae import MAE
from mimia.runtime.arrays import Floats
from mimia.runtime.store import Store
from mimia.signals.base import QueryConfig
from mimia.signals.extract import extract_signals
from mimia.signals.latents import Latents
from mimia.signals.queried import QueriedModel

MakeQuery = Callable[..., tuple[QueriedModel, QueryConfig, ImageSet]]


def slow_errors(model: MaskedImageModel, images: ImageSet, query: QueryConfig) -> Floats:
    """Mean over the hidden patches of the mean squared difference from the latents of the whole image."""
    assert isinstance(model, MAE)
    masks = model.spec.scoring_masks(images.ids, query.settings.draws, query.settings.seed)
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


def test_errors_are_those_of_the_definition(make_query: MakeQuery) -> None:
    for channels in (1, 3):
        queried, query, images = make_query("mae", channels)
        few = images.take(np.arange(4))
        found = Latents().compute(queried, few.pixels, few.ids, query)
        np.testing.assert_allclose(found, slow_errors(queried.latent_model, few, query), rtol=1e-4)


def test_another_decoder_of_latents_never_gets_an_old_result(
    make_query: MakeQuery, store: Store, tmp_path: Path
) -> None:
    queried, query, images = make_query("mae")
    assert queried.latents is not None
    model = native.load(queried.latents)
    with torch.no_grad():
        model.get_parameter("decoder_pred.bias").add_(1)
    native.save(tmp_path / "other", model)
    other = QueriedModel("target", queried.source, query.compute, tmp_path / "other")
    rows = np.arange(3)
    first, second = (extract_signals(["latents"], [each], images, rows, query, store) for each in (queried, other))
    assert not np.array_equal(first["latents"], second["latents"])
    assert first.models == second.models


def test_masks_are_those_of_the_distances(make_query: MakeQuery, store: Store) -> None:
    queried, query, images = make_query("mae")
    more = replace(query, settings=query.settings.model_copy(update={"draws": 6}))
    fewer, all_six = (
        extract_signals(["latents"], [queried], images, np.arange(3), each, store)["latents"] for each in (query, more)
    )
    np.testing.assert_allclose(all_six[:, :, :4], fewer, rtol=1e-5)
