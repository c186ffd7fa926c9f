"""What models say of images: the arrays that stand between models and attacks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mimia.arrays import Bools, Ids

AccessLevel = Literal["decoder", "encoder", "embeddings"]
"""How much of the target the adversary has: ``decoder``, all of it (D1); ``encoder``, all but the decoder (D2 with a
shadow's decoder, D3 with one that is fitted here); ``embeddings``, a function from images to vectors and no more."""

ACCESS_LEVELS: tuple[AccessLevel, ...] = ("embeddings", "encoder", "decoder")
"""Each level has all that stands before it."""


@dataclass(frozen=True)
class Signals:
    """Numbers that models give for images, by kind.

    Most kinds are distances: not negative, and smaller for what a model knows (`mimia.signals.kinds` says of each what
    it is).

    Attributes:
        values: By kind: float32, (models, images, numbers).
        models: Id of each model, (models,).
        images: Content id of each image, (images,).
        masks: Fingerprint of the masks and views; signals of different ones cannot be compared.
    """

    values: Mapping[str, NDArray[np.float32]]
    models: tuple[str, ...]
    images: Ids
    masks: str

    def __post_init__(self) -> None:
        for kind, values in self.values.items():
            if values.shape[:2] != (len(self.models), len(self.images)):
                raise ValueError(
                    f"{kind} of the shape {values.shape} are not those of {len(self.models)} models and "
                    f"{len(self.images)} images"
                )

    def __getitem__(self, kind: str) -> NDArray[np.float32]:
        """Give one kind, (models, images, numbers)."""
        return self.values[kind]

    def of_model(self, index: int) -> "Signals":
        """Keep one model."""
        values = {kind: values[index : index + 1] for kind, values in self.values.items()}
        return Signals(values, self.models[index : index + 1], self.images, self.masks)

    def without_model(self, index: int) -> "Signals":
        """Keep all models but one."""
        values = {kind: np.delete(values, index, axis=0) for kind, values in self.values.items()}
        return Signals(values, self.models[:index] + self.models[index + 1 :], self.images, self.masks)

    def of_images(self, chosen: Bools) -> "Signals":
        """Keep the chosen images, (images,)."""
        values = {kind: values[:, chosen] for kind, values in self.values.items()}
        return Signals(values, self.models, self.images[chosen], self.masks)


@dataclass(frozen=True)
class Shadows:
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
                f"membership of the shape {self.membership.shape} is not that of {len(self.signals.models)} models "
                f"and {len(self.signals.images)} images"
            )

    def __len__(self) -> int:
        return len(self.signals.models)

    def of_images(self, chosen: Bools) -> "Shadows":
        """Keep the chosen images, (images,)."""
        return Shadows(self.signals.of_images(chosen), self.membership[:, chosen])

    def ordered(self) -> "Shadows":
        """Bring models and images into the order of their ids: what is learned from them depends on no other."""
        models, images = np.argsort(self.signals.models), np.argsort(self.signals.images)
        values = {kind: values[models][:, images] for kind, values in self.signals.values.items()}
        names = tuple(self.signals.models[model] for model in models)
        signals = Signals(values, names, self.signals.images[images], self.signals.masks)
        return Shadows(signals, self.membership[models][:, images])

    def joined(self, other: "Shadows", kinds: Iterable[str]) -> "Shadows":
        """Put the images of the same shadows together, in some kinds."""
        if self.signals.models != other.signals.models:
            raise ValueError("images can be joined for the same models alone")
        values = {kind: np.concatenate([self.signals[kind], other.signals[kind]], axis=1) for kind in kinds}
        images = np.concatenate([self.signals.images, other.signals.images])
        signals = Signals(values, self.signals.models, images, self.signals.masks)
        return Shadows(signals, np.concatenate([self.membership, other.membership], axis=1))

    def without(self, shadow: int) -> "Shadows":
        """Keep all models but one."""
        return Shadows(self.signals.without_model(shadow), np.delete(self.membership, shadow, axis=0))


@dataclass(frozen=True)
class Evidence:
    """All that an attack sees of the model that it judges.

    Attributes:
        target: Signals of that model alone, (1, images, numbers).
        references: Signals of other models on the same images under the same masks.
        known: The same of images that are known to be no members of the target or of a reference, where there are any.
    """

    target: Signals
    references: Shadows
    known: "Evidence | None" = None

    def __post_init__(self) -> None:
        target, references = self.target, self.references.signals
        if len(target.models) != 1:
            raise ValueError(f"one target is judged at a time, not {len(target.models)}")
        if not np.array_equal(target.images, references.images) or target.masks != references.masks:
            raise ValueError("target and references must be of the same images and masks")
        if target.values.keys() != references.values.keys():
            raise ValueError("target and references must have the same kinds of signals")
        for kind, values in target.values.items():
            if values.shape[2] != references[kind].shape[2]:
                raise ValueError("target and references must have the same number of draws")
            if not (np.isfinite(values).all() and np.isfinite(references[kind]).all()):
                raise ValueError("signals must be finite")

    def of_images(self, chosen: Bools) -> "Evidence":
        """Keep the chosen images, (images,), and all that are known to be no members."""
        return Evidence(self.target.of_images(chosen), self.references.of_images(chosen), self.known)


def play(shadows: Shadows, shadow: int, known: Shadows | None = None) -> Evidence:
    """Put a shadow into the place of the target, with the other shadows as its references.

    Args:
        shadows: On the images that are judged.
        shadow: Which of them.
        known: The same shadows on images that none of them was trained on.
    """
    return Evidence(
        shadows.signals.of_model(shadow),
        shadows.without(shadow),
        None if known is None else play(known, shadow),
    )
