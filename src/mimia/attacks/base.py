"""What every attack is: arrays in, scores out; no model, no pixels, no labels of the target."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, final

import numpy as np
from sklearn.metrics import roc_curve

from mimia.arrays import Bools, Floats, Ids
from mimia.errors import MimiaError
from mimia.signals.base import Evidence, Shadows, Signals, play

Played = Sequence[tuple[Evidence, Bools]]
"""Shadows in the place of the target, each with its members, (images,)."""


@dataclass(frozen=True)
class Needs:
    """What an attack cannot do without.

    Attributes:
        signals: Kinds of signals; the access level follows from them.
        shadows: Fewest shadow models.
        online: Whether the shadows must be trained on halves of the very images that are judged.
        known: Whether it learns from the target's signals on images that are known to be no members.
    """

    signals: tuple[str, ...]
    shadows: int
    online: bool = False
    known: bool = False


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

    Hyper-parameters go into ``__init__``; a subclass says what it needs and writes `_score`, and `_learn` if there is
    something to learn. `fit` plays the attack on each shadow in turn, with the other shadows as its references, and
    learns a threshold from what is known there; `score` plays it on the target, with all shadows as references.

    Attributes:
        name: In the registry.
        threshold: What `fit` learned.
    """

    name: str
    threshold: float

    @property
    @abstractmethod
    def paper(self) -> str:
        """Where it was published, with the equation."""

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """What it cannot do without."""

    def __repr__(self) -> str:
        names = inspect.signature(type(self)).parameters
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    @final
    def fit(self, shadows: Shadows, known: Shadows | None = None) -> Self:
        """Learn on shadows, and find the threshold of highest balanced accuracy.

        What the attack learns is learned on all shadows; for the threshold each shadow is scored by what was learned
        on the others. An attack that asks for known non-members learns from them and from the shadows' own images, and
        from no image of the holdout, so that members' p-values among the holdout are exact.

        Args:
            shadows: On images of the reference pool, none of which is to be judged: the shadows' own and the holdout.
            known: The same shadows on other images, which none of them was trained on.

        Raises:
            MimiaError: There are too few shadows, or no image serves this attack as member or non-member.
        """
        if len(shadows) < self.needs.shadows:
            raise MimiaError(
                f"The attack {self.name!r} needs {self.needs.shadows} shadow models and has {len(shadows)}: raise "
                "shadows.count, or leave the attack out of attacks.names."
            )
        self._refuse_without_known(known)
        shadows, known = shadows.ordered(), None if known is None else known.ordered()
        members = shadows.membership
        if members.all() or not members.any():
            raise self._nothing_to_learn_from()
        learning = shadows
        if known is not None:
            own: Bools = np.any(members, axis=0)
            learning = shadows.of_images(own).joined(known, self.needs.signals)
        played = [(play(learning, index, known), learning.membership[index]) for index in range(len(shadows))]
        scores = []
        for index in range(len(shadows)):
            self._learn(played[:index] + played[index + 1 :])
            scores.append(self._score(play(shadows, index, known)))
        self._learn(played)
        values = np.concatenate(scores)
        usable = ~np.isnan(values)  # an image that every reference saw says nothing
        labels = members.ravel()[usable]
        if labels.all() or not labels.any():
            raise self._nothing_to_learn_from()
        self.threshold = _best_threshold(labels, values[usable])
        return self

    @final
    def score(self, evidence: Evidence) -> Scores:
        """Score the images of the evidence.

        Raises:
            MimiaError: The references do not suffice to judge an image, or known non-members are missing.
        """
        self._refuse_without_known(evidence.known)
        values = self._score(evidence)
        if np.isnan(values).any():
            raise MimiaError(
                f"The attack {self.name!r} cannot judge {int(np.isnan(values).sum())} images that every shadow was "
                "trained on: keep them out of the reference pool."
            )
        return Scores(self.name, values, evidence.target.images, self.threshold)

    def _learn(self, played: Played) -> None:  # noqa: B027 - many attacks have nothing to learn
        """Learn from shadows in the place of the target; called anew for each choice of them, which may be empty."""

    @abstractmethod
    def _score(self, evidence: Evidence) -> Floats:
        """Score images, (images,): higher for members; NaN where the references do not suffice."""

    def _refuse_without_known(self, known: object) -> None:
        if self.needs.known and known is None:
            raise MimiaError(
                f"The attack {self.name!r} learns from images that are known to be no members: set split.n_known."
            )

    def _nothing_to_learn_from(self) -> MimiaError:
        return MimiaError(
            f"The attack {self.name!r} finds no images in the reference pool to learn from: raise split.n_holdout."
        )


def all_shadows(played: Played) -> Shadows:
    """Put the shadows together again: one in the place of the target and its references hold all of them."""
    evidence, members = played[0]
    references = evidence.references
    values = {
        kind: np.concatenate([values, references.signals[kind]]) for kind, values in evidence.target.values.items()
    }
    models = evidence.target.models + references.signals.models
    return Shadows(
        Signals(values, models, evidence.target.images, evidence.target.masks),
        np.concatenate([members[None], references.membership]),
    )


def _best_threshold(labels: Bools, scores: Floats) -> float:
    """Find the threshold of highest balanced accuracy, halfway to the next lower score."""
    false_rate, true_rate, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    best = int(np.argmax(true_rate - false_rate))
    if best == 0:  # nothing is better than calling no image a member
        return float(np.nextafter(scores.max(), np.inf))
    below = scores[scores < thresholds[best]]
    return float((thresholds[best] + below.max()) / 2 if len(below) else thresholds[best])
