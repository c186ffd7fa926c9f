"""What every attack is: arrays in, scores out; no model, no pixels, no labels of the target."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, final

import numpy as np
from sklearn.metrics import roc_curve

from mimia.arrays import Bools, Floats, Ids
from mimia.errors import MimiaError
from mimia.signals.base import Shadows, Signals

AccessLevel = Literal["decoder", "encoder", "embeddings"]
"""How much of the target the adversary has: ``decoder``, all of it (D1); ``encoder``, all but the decoder (D2 with a
shadow's decoder, D3 with one that is fitted here); ``embeddings``, a function from images to vectors and no more."""


@dataclass(frozen=True)
class Needs:
    """What an attack cannot do without.

    Attributes:
        access: Access level to the target.
        shadows: Fewest shadow models.
    """

    access: AccessLevel
    shadows: int


@dataclass(frozen=True)
class Scores:
    """How likely images are members, in an attack's own units; higher is more likely.

    Attributes:
        attack: Its name.
        values: (images,), finite.
        images: Content ids, (images,).
        threshold: Learned on shadows; an image of this score or more is called a member.
    """

    attack: str
    values: Floats
    images: Ids
    threshold: float

    def of_images(self, chosen: Bools) -> "Scores":
        """Keep the chosen images, (images,)."""
        return Scores(self.attack, self.values[chosen], self.images[chosen], self.threshold)


class Attack(ABC):
    """A membership inference attack.

    Hyper-parameters go into ``__init__``; a subclass writes ``_score`` alone. `fit` plays the attack on each
    shadow in turn, with the other shadows as its references, and learns a threshold from what is known there;
    `score` plays it on the target, with all shadows as references.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs]
    threshold: float

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in vars(self).items())
        return f"{type(self).__name__}({arguments})"

    @final
    def fit(self, shadows: Shadows) -> Self:
        """Learn the threshold of highest balanced accuracy on shadows.

        Args:
            shadows: Images of the reference pool, none of which is to be judged.

        Raises:
            MimiaError: There are too few shadows, or no image serves this attack as member or non-member.
        """
        if len(shadows) < self.needs.shadows:
            raise MimiaError(
                f"The attack {self.name!r} needs {self.needs.shadows} shadow models and has {len(shadows)}: raise "
                "shadows.count, or leave the attack out of attacks.names."
            )
        scores = np.concatenate(
            [self._score(shadows.signals.of_model(index), shadows.without(index)) for index in range(len(shadows))]
        )
        known = ~np.isnan(scores)  # an image that every reference saw says nothing
        labels = shadows.membership.ravel()[known]
        if labels.all() or not labels.any():
            raise MimiaError(
                f"The attack {self.name!r} finds no images in the reference pool to learn from: raise split.n_holdout."
            )
        self.threshold = _best_threshold(labels, scores[known])
        return self

    @final
    def score(self, target: Signals, references: Shadows) -> Scores:
        """Score images.

        Args:
            target: Signals of the target alone, (1, images, draws).
            references: Signals of the shadows on the same images under the same masks.

        Raises:
            ValueError: The two are not of the same images and masks, or signals are not finite.
            MimiaError: An image was seen by every reference.
        """
        signals = references.signals
        if len(target.models) != 1:
            raise ValueError(f"one target is scored at a time, not {len(target.models)}")
        if not np.array_equal(target.images, signals.images) or target.masks != signals.masks:
            raise ValueError("target and references must be scored on the same images and masks")
        if target.values.shape[2] != signals.values.shape[2]:
            raise ValueError("target and references must be scored with the same number of draws")
        if not (np.isfinite(target.values).all() and np.isfinite(signals.values).all()):
            raise ValueError("signals must be finite")
        values = self._score(target, references)
        if np.isnan(values).any():
            raise MimiaError(
                f"The attack {self.name!r} cannot judge {int(np.isnan(values).sum())} images that every shadow was "
                "trained on: keep them out of the reference pool."
            )
        return Scores(self.name, values, target.images, self.threshold)

    @abstractmethod
    def _score(self, target: Signals, references: Shadows) -> Floats:
        """Score images, (images,): higher for members; NaN where the references do not suffice."""


def _best_threshold(labels: Bools, scores: Floats) -> float:
    """Find the threshold of highest balanced accuracy, halfway to the next lower score."""
    false_rate, true_rate, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    best = int(np.argmax(true_rate - false_rate))
    if best == 0:  # nothing is better than calling no image a member
        return float(np.nextafter(scores.max(), np.inf))
    below = scores[scores < thresholds[best]]
    return float((thresholds[best] + below.max()) / 2 if len(below) else thresholds[best])
