"""Signals as arrays: the only data that attacks get of the models."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mimia.runtime.arrays import Bools, Ids, Indices

AccessLevel = Literal["decoder", "encoder", "embeddings"]
"""What the adversary has of the target: ``decoder``, all of it (D1); ``encoder``, all but the decoder (D2 with the
decoder of a shadow, D3 with one that is fitted here); ``embeddings``, a function from images to vectors alone."""

ACCESS_LEVELS: tuple[AccessLevel, ...] = ("embeddings", "encoder", "decoder")
"""Each level includes those before it."""


@dataclass(frozen=True)
class Signals:
    """Numbers that models give for images, by signal.

    Most signals are distances: not negative, and lower for training images.

    Attributes:
        values: By name of the signal: float32, (models, images, numbers).
        models: Id of each model, (models,).
        images: Content id of each image, (images,).
        query_id: Fingerprint of the queries (masks, views, seeds); only signals of equal queries can be compared.
    """

    values: Mapping[str, NDArray[np.float32]]
    models: tuple[str, ...]
    images: Ids
    query_id: str

    def __post_init__(self) -> None:
        for name, values in self.values.items():
            if values.shape[:2] != (len(self.models), len(self.images)):
                raise ValueError(
                    f"the signal {name} has the shape {values.shape}, which does not fit {len(self.models)} models and "
                    f"{len(self.images)} images"
                )

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """Return one signal, (models, images, numbers)."""
        return self.values[name]

    def of_model(self, index: int) -> "Signals":
        """Return the signals of one model."""
        values = {name: values[index : index + 1] for name, values in self.values.items()}
        return Signals(values, self.models[index : index + 1], self.images, self.query_id)

    def without_model(self, index: int) -> "Signals":
        """Return the signals of all models but one."""
        values = {name: np.delete(values, index, axis=0) for name, values in self.values.items()}
        return Signals(values, self.models[:index] + self.models[index + 1 :], self.images, self.query_id)

    def of_images(self, chosen: Bools) -> "Signals":
        """Return the signals of the chosen images, (images,)."""
        values = {name: values[:, chosen] for name, values in self.values.items()}
        return Signals(values, self.models, self.images[chosen], self.query_id)

    def joined(self, other: "Signals", names: Iterable[str]) -> "Signals":
        """Return some signals of the same models on the images of both."""
        values = {name: np.concatenate([self[name], other[name]], axis=1) for name in names}
        return Signals(values, self.models, np.concatenate([self.images, other.images]), self.query_id)


@dataclass(frozen=True)
class ShadowSignals:
    """Signals of models whose training images are known.

    Attributes:
        signals: Of all shadows.
        membership: Whether a shadow was trained on an image, (shadows, images).
    """

    signals: Signals
    membership: Bools

    def __post_init__(self) -> None:
        if self.membership.shape != (len(self.signals.models), len(self.signals.images)):
            raise ValueError(
                f"the membership has the shape {self.membership.shape}, which does not fit {len(self.signals.models)} "
                f"models and {len(self.signals.images)} images"
            )

    def __len__(self) -> int:
        return len(self.signals.models)

    def of_images(self, chosen: Bools) -> "ShadowSignals":
        """Return the signals of the chosen images, (images,)."""
        return ShadowSignals(self.signals.of_images(chosen), self.membership[:, chosen])

    def of_models(self, chosen: Indices) -> "ShadowSignals":
        """Return the signals of the chosen shadows, (chosen,)."""
        values = {name: values[chosen] for name, values in self.signals.values.items()}
        models = tuple(self.signals.models[model] for model in chosen)
        signals = Signals(values, models, self.signals.images, self.signals.query_id)
        return ShadowSignals(signals, self.membership[chosen])

    def ordered(self) -> "ShadowSignals":
        """Return models and images in the order of their ids, so that what is learned depends on no other order."""
        models, images = np.argsort(self.signals.models), np.argsort(self.signals.images)
        values = {name: values[models][:, images] for name, values in self.signals.values.items()}
        ids = tuple(self.signals.models[model] for model in models)
        signals = Signals(values, ids, self.signals.images[images], self.signals.query_id)
        return ShadowSignals(signals, self.membership[models][:, images])

    def joined(self, other: "ShadowSignals", signals: Iterable[str]) -> "ShadowSignals":
        """Return some signals of the same shadows on the images of both."""
        if self.signals.models != other.signals.models:
            raise ValueError("images can be joined only for the same models")
        membership = np.concatenate([self.membership, other.membership], axis=1)
        return ShadowSignals(self.signals.joined(other.signals, signals), membership)

    def without(self, shadow: int) -> "ShadowSignals":
        """Return all shadows but one."""
        return ShadowSignals(self.signals.without_model(shadow), np.delete(self.membership, shadow, axis=0))


@dataclass(frozen=True)
class AttackInput:
    """All that an attack gets of the target.

    Attributes:
        target: Signals of the target alone, (1, images, numbers).
        references: Signals of other models on the same images by the same queries.
        population: The same for images that are known to be non-members of all these models, if there are any.
    """

    target: Signals
    references: ShadowSignals
    population: "AttackInput | None" = None

    def __post_init__(self) -> None:
        target, references = self.target, self.references.signals
        if len(target.models) != 1:
            raise ValueError(f"one target is evaluated at a time, not {len(target.models)}")
        if not np.array_equal(target.images, references.images) or target.query_id != references.query_id:
            raise ValueError("target and references must be of the same images and queries")
        if target.values.keys() != references.values.keys():
            raise ValueError("target and references must have the same signals")
        for name, values in target.values.items():
            if values.shape[2] != references[name].shape[2]:
                raise ValueError("target and references must have the same number of draws")
            if not (np.isfinite(values).all() and np.isfinite(references[name]).all()):
                raise ValueError("signals must be finite")

    def of_images(self, chosen: Bools) -> "AttackInput":
        """Return the input for the chosen images, (images,), with the whole population."""
        return AttackInput(self.target.of_images(chosen), self.references.of_images(chosen), self.population)

    def joined(self, other: "AttackInput", signals: Iterable[str]) -> "AttackInput":
        """Return some signals on the images of both, with the population of this one."""
        names = tuple(signals)
        target, references = self.target.joined(other.target, names), self.references.joined(other.references, names)
        return AttackInput(target, references, self.population)


def leave_one_out(shadows: ShadowSignals, shadow: int, population: ShadowSignals | None = None) -> AttackInput:
    """Return the input of an attack on one shadow, with the other shadows as references.

    Args:
        shadows: Signals on the images to score.
        shadow: Index of the shadow that takes the target's place.
        population: Signals of the same shadows on images that none of them was trained on.
    """
    return AttackInput(
        shadows.signals.of_model(shadow),
        shadows.without(shadow),
        None if population is None else leave_one_out(population, shadow),
    )
