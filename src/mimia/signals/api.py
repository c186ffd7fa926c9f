"""Signals of models and images in memory, for the Python interface."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mimia.config.recipes import Recipe
from mimia.config.settings import SignalSettings
from mimia.data.imageset import ImageSet
from mimia.data.loading import load_images
from mimia.data.sources.base import SourceLike
from mimia.models.base import MaskedImageModel
from mimia.models.checkpoints import native
from mimia.models.checkpoints.loading import load_checkpoint, refuse_unknown
from mimia.models.embedders import Embedder
from mimia.pretraining.specs import spec_for
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store
from mimia.signals import extract
from mimia.signals.arrays import Signals
from mimia.signals.base import QueryConfig
from mimia.signals.queried import QueriedModel
from mimia.signals.registry import SIGNALS

Model = MaskedImageModel | Embedder | str | Path
"""A model, a function from raw pixels, uint8, (B, C, H, W), to vectors, (B, D), or a checkpoint."""


def extract_signals(
    models: Sequence[Model],
    images: SourceLike | ImageSet,
    signals: Sequence[str],
    *,
    n_masks: int = 16,
    seed: int = 0,
    compute: ComputeSettings | None = None,
) -> Signals:
    """Return signals of models on images, all by the same queries.

    Args:
        models: Models, functions from raw pixels to vectors, or checkpoints, in any mixture. Masks are those of the
            first model that has some.
        images: Images of the models' size, as `mimia.load_images` takes them.
        signals: Names of signals, as `mimia attacks` lists them.
        n_masks: Number of masks, or of views, for each image.
        seed: Seed of masks, views and crops.
        compute: Device and precision.

    Returns:
        Signals with values of the shape (models, images, numbers); pass them to attacks as they are, or as arrays.

    Raises:
        MimiaError: A signal is unknown or needs more than a model has, or a model takes other images or is masked
            otherwise than the first.
    """
    compute = compute or ComputeSettings()
    if isinstance(signals, str) or not signals:
        raise MimiaError(f"signals is {signals!r}: pass a list of one name or more, such as ['reconstruction'].")
    if isinstance(models, str) or not models:
        raise MimiaError(f"models is {models!r}: pass a list of one model or more.")
    if n_masks < 1 or seed < 0:
        raise MimiaError(f"n_masks is {n_masks} and seed {seed}: pass one mask or more, and a seed from 0 on.")
    images, signals = load_images(images), list(dict.fromkeys(signals))
    with TemporaryDirectory() as folder:
        sources = [_source(model, Path(folder) / f"model {place}") for place, model in enumerate(models)]
        for name in signals:
            _check_models(name, sources)
        queried = [QueriedModel(f"model {place}", source, compute) for place, source in enumerate(sources)]
        query = _query(sources, images, SignalSettings(draws=n_masks, seed=seed), compute)
        store = Store(Path(folder) / "store")
        return extract.extract_signals(signals, queried, images, np.arange(len(images)), query, store)


def _source(model: Model, directory: Path) -> Path | Embedder:
    """Return a directory of mimia's own layout, or the function."""
    if isinstance(model, str | Path) or (hasattr(model, "state_dict") and not isinstance(model, MaskedImageModel)):
        loaded = load_checkpoint(model)
        refuse_unknown(loaded)
        if loaded.own is not None:
            return loaded.own
        model = loaded.model
    if isinstance(model, MaskedImageModel):
        native.save(directory, model)
        return directory
    return model


def _check_models(name: str, sources: Sequence[Path | Callable[..., object]]) -> None:
    signal = SIGNALS.find(name)
    if signal.decoder == "latents":
        raise MimiaError(f"The signal {name!r} needs a decoder that is fitted here: use it in an audit.")
    for source in sources:
        if signal.access != "embeddings" and not isinstance(source, Path):
            raise MimiaError(f"The signal {name!r} needs a model's {signal.access}, and a function has vectors alone.")
        if signal.decoder == "reconstruction" and not (isinstance(source, Path) and native.load(source).has_decoder):
            raise MimiaError(f"The signal {name!r} needs a decoder, and {source} has none.")


def _query(
    sources: Sequence[Path | Embedder], images: ImageSet, settings: SignalSettings, compute: ComputeSettings
) -> QueryConfig:
    """Return the query that fits the first checkpoint, or the images if all models are functions."""
    directory = next((source for source in sources if isinstance(source, Path)), None)
    training = None if directory is None else native.load_training(directory)
    recipe = Recipe.model_validate({"preset": "mae-micro"}) if training is None else training.recipe
    spec = spec_for(images, recipe) if directory is None else native.load_config(directory).spec
    return QueryConfig(settings, recipe, compute, spec)
