"""What models say of images: the arrays that stand between models and attacks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimia.arrays import Bools, Ids


@dataclass(frozen=True)
class Signals:
    """Distances of images under masks: smaller for what a model knows.

    Attributes:
        values: float32, (models, images, draws), not negative; reconstruction errors over the masked patches in each
            model's own target space, or how unlike masked views are embedded.
        models: Id of each model, (models,).
        images: Content id of each image, (images,).
        masks: Fingerprint of the masks; signals of different masks cannot be compared.
    """

    values: NDArray[np.float32]
    models: tuple[str, ...]
    images: Ids
    masks: str

    def __post_init__(self) -> None:
        if self.values.shape[:2] != (len(self.models), len(self.images)):
            raise ValueError(
                f"values of the shape {self.values.shape} are not those of {len(self.models)} models and "
                f"{len(self.images)} images"
            )

    def of_model(self, index: int) -> "Signals":
        """Keep one model."""
        return Signals(self.values[index : index + 1], self.models[index : index + 1], self.images, self.masks)

    def without_model(self, index: int) -> "Signals":
        """Keep all models but one."""
        values = np.delete(self.values, index, axis=0)
        return Signals(values, self.models[:index] + self.models[index + 1 :], self.images, self.masks)

    def of_images(self, chosen: Bools) -> "Signals":
        """Keep the chosen images, (images,)."""
        return Signals(self.values[:, chosen], self.models, self.images[chosen], self.masks)


@dataclass(frozen=True)
class Shadows:
    """Signals of models whose training images are known.

    Attributes:
        signals: (shadows, images, draws).
        membership: Whether a shadow was trained on an image, (shadows, images).
    """

    signals: Signals
    membership: Bools

    def __post_init__(self) -> None:
        if self.membership.shape != self.signals.values.shape[:2]:
            raise ValueError(
                f"membership of the shape {self.membership.shape} is not that of signals of the shape "
                f"{self.signals.values.shape}"
            )

    def __len__(self) -> int:
        return len(self.signals.models)

    def of_images(self, chosen: Bools) -> "Shadows":
        """Keep the chosen images, (images,)."""
        return Shadows(self.signals.of_images(chosen), self.membership[:, chosen])

    def without(self, shadow: int) -> "Shadows":
        """Keep all models but one."""
        return Shadows(self.signals.without_model(shadow), np.delete(self.membership, shadow, axis=0))
