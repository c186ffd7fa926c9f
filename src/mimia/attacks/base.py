"""The interface of an attack: arrays in, scores out; it gets no model, no pixels and no labels of the target."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self, final, overload

import numpy as np

from mimia.attacks.games import ShadowGame
from mimia.attacks.hyperparameters import validated
from mimia.attacks.plain import PlainShadows, Values
from mimia.attacks.summaries import auc, best_threshold
from mimia.runtime.arrays import Bools, Floats, Ids
from mimia.runtime.errors import MimiaError
from mimia.signals.arrays import AttackInput, ShadowSignals, leave_one_out


@dataclass(frozen=True)
class Requirements:
    """What an attack needs.

    Attributes:
        signals: Names of signals; the access level follows from them.
        shadows: Smallest number of shadow models.
        online: Whether the shadows must be trained on halves of the images that are evaluated.
        population: Whether it learns from the target's signals on known non-members.
    """

    signals: tuple[str, ...]
    shadows: int
    online: bool = False
    population: bool = False


@dataclass(frozen=True)
class Scores:
    """Scores of images in an attack's own units; higher is more likely a member.

    Attributes:
        attack: Name of the attack.
        values: (images,), finite.
        images: Content ids, (images,).
        threshold: Learned on shadows, or where there are none, on known non-members; an image with this score or a
            higher one is classified as a member.
        shadow_auc: Mean AUC on the shadows, each in the place of the target of an attack that learned on the others;
            None without shadows.
    """

    attack: str
    values: Floats
    images: Ids
    threshold: float
    shadow_auc: float | None

    def of_images(self, chosen: Bools) -> "Scores":
        """Return the scores of the chosen images, (images,)."""
        return replace(self, values=self.values[chosen], images=self.images[chosen])


class Attack(ABC):
    """A membership inference attack.

    A subclass declares its requirements and its paper, takes hyper-parameters as keyword arguments of ``__init__``, and
    writes `_score`, and `_learn` if it learns. `fit` runs the attack on each shadow with the others as references and
    learns a threshold; `score` runs it on the target with all shadows as references.

    Attributes:
        name: Name in the registry; by default that of the class.
        threshold_: Learned by `fit`.
        shadow_auc_: Measured by `fit`: mean AUC on the shadows, by the same leave-one-out scores; None after
            `fit_nonmembers`.
    """

    name: str
    threshold_: float
    shadow_auc_: float | None
    _plain: PlainShadows | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.name = cls.__dict__.get("name", cls.__name__)

    @property
    @abstractmethod
    def paper(self) -> str:
        """The publication, with the equation."""

    @property
    @abstractmethod
    def requirements(self) -> Requirements:
        """What the attack needs."""

    @property
    def learns(self) -> bool:
        """Whether it learns from shadows in the place of the target more than a threshold."""
        return type(self)._learn is not Attack._learn

    def __repr__(self) -> str:
        values = (f"{name}={value!r}" for name, value in self._hyperparameters().items())
        return f"{type(self).__name__}({', '.join(values)})"

    @final
    def fit(
        self,
        shadows: ShadowSignals | Values,
        membership: Bools | None = None,
        *,
        population: ShadowSignals | Values | None = None,
    ) -> Self:
        """Learn on shadows, find the threshold of highest balanced accuracy, and measure the AUC on them.

        The attack learns on all shadows. For the threshold, each shadow is scored by an attack that learned on the
        others. A model that was trained on none of the images is a reference, and takes no target's place. An attack
        with a population learns from it and from the shadows' training images, and from no image of the holdout, so
        that members' p-values among the holdout are exact.

        Args:
            shadows: Signals of the shadows on their training images and the holdout. As a plain array, the losses
                (shadows, images) or (shadows, images, draws); for several signals, a mapping from names to arrays.
            membership: For plain arrays: whether a shadow was trained on an image, (shadows, images).
            population: Signals of the same shadows on known non-members, of the same form.

        Raises:
            MimiaError: There are too few shadows, arrays do not fit together, there are no members or no non-members
                to learn from, or a hyper-parameter has no meaning.
        """
        vars(self).update(validated(self.name, type(self), self._hyperparameters()))
        self._plain = None
        if not isinstance(shadows, ShadowSignals):
            self._plain = PlainShadows.of(self.requirements.signals, shadows, membership, population)
            shadows, population = self._plain.shadows, self._plain.population
        elif membership is not None or not isinstance(population, ShadowSignals | None):
            raise MimiaError("ShadowSignals have the membership in them: pass a population of ShadowSignals alone.")
        self._fit(shadows, population)
        return self

    @final
    def fit_nonmembers(self, inputs: AttackInput, rate: float = 0.01) -> Self:
        """Find the threshold at which few known non-members of the target are called members, without any shadow.

        Args:
            inputs: Signals of the target and of references on images that none of them was trained on.
            rate: Largest proportion of these images with a score at or above the threshold.

        Raises:
            MimiaError: The attack learns from shadows, or the references do not suffice.
        """
        if self.learns:
            raise MimiaError(f"The attack {self.name!r} learns from shadow models, and there are none: call fit.")
        values = self._checked_scores(inputs)
        self.threshold_ = float(np.nextafter(np.quantile(values, 1 - rate, method="higher"), np.inf))
        self.shadow_auc_ = None
        return self

    @overload
    def score(self, inputs: AttackInput) -> Scores: ...

    @overload
    def score(
        self,
        inputs: Values,
        *,
        references: Values | None = None,
        membership: Bools | None = None,
        population: Values | None = None,
    ) -> Floats: ...

    @final
    def score(
        self,
        inputs: AttackInput | Values,
        *,
        references: Values | None = None,
        membership: Bools | None = None,
        population: Values | None = None,
    ) -> Scores | Floats:
        """Score images; higher is more likely a member.

        Args:
            inputs: Signals of the target and the references; or the target's losses as a plain array, (images,) or
                (images, draws), or a mapping from names of signals to such arrays.
            references: For plain arrays: losses of the shadows on the same images, (shadows, images[, draws]); by
                default the images are those that the attack was fitted on.
            membership: Whether a reference was trained on an image, (shadows, images); by default none was.
            population: For plain arrays: the target's losses on the population that the attack was fitted on.

        Returns:
            `Scores`, or for plain arrays the values alone, (images,).

        Raises:
            MimiaError: The references do not suffice to score an image, the population is missing, or plain arrays do
                not fit those of `fit`.
        """
        if isinstance(inputs, AttackInput):
            values = self._checked_scores(inputs)
            return Scores(self.name, values, inputs.target.images, self.threshold_, self.shadow_auc_)
        if self._plain is None:
            raise MimiaError("Plain arrays can be scored by an attack that was fitted on plain arrays: call fit first.")
        return self._checked_scores(self._plain.input(inputs, references, membership, population))

    def _hyperparameters(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def _learn(self, games: Sequence[ShadowGame]) -> None:  # noqa: B027 - many attacks have nothing to learn
        """Learn from shadows in the place of the target; called again for each subset, which may be empty."""

    @abstractmethod
    def _score(self, inputs: AttackInput) -> Floats:
        """Return scores, (images,): higher for members; NaN if the references do not suffice."""

    def _fit(self, shadows: ShadowSignals, population: ShadowSignals | None) -> None:
        if len(shadows) < self.requirements.shadows:
            raise MimiaError(
                f"The attack {self.name!r} needs {self.requirements.shadows} shadow models and has {len(shadows)}: "
                "pass more, or set shadows.count."
            )
        self._check_population(population)
        shadows, population = shadows.ordered(), None if population is None else population.ordered()
        members = shadows.membership
        if members.all() or not members.any():
            raise self._nothing_to_learn_from()
        learning = shadows
        if population is not None:
            own: Bools = np.any(members, axis=0)
            learning = shadows.of_images(own).joined(population, self.requirements.signals)
        trained = np.flatnonzero(members.any(axis=1)).tolist()
        games = [
            ShadowGame(leave_one_out(learning, index, population), learning.membership[index]) for index in trained
        ]
        scores = []
        for game, index in enumerate(trained):
            self._learn(games[:game] + games[game + 1 :])
            scores.append(self._score(leave_one_out(shadows, index, population)))
        self._learn(games)
        members = members[trained]
        values = np.stack(scores)
        usable = ~np.isnan(values)  # an image that every reference saw says nothing
        labels = members[usable]
        if labels.all() or not labels.any():
            raise self._nothing_to_learn_from()
        self.threshold_ = best_threshold(labels, values[usable])
        aucs = [auc(found[each], inside[each]) for found, inside, each in zip(values, members, usable, strict=True)]
        known = [each for each in aucs if not np.isnan(each)]
        self.shadow_auc_ = float(np.mean(known)) if known else 0.5

    def _checked_scores(self, inputs: AttackInput) -> Floats:
        self._check_population(inputs.population)
        values = self._score(inputs)
        if missing := int(np.isnan(values).sum()):
            raise MimiaError(
                f"The attack {self.name!r} cannot score {missing} images that too many shadows were trained on: keep "
                "them out of the reference pool, or train more shadows."
            )
        return values

    def _check_population(self, population: object) -> None:
        if self.requirements.population and population is None:
            raise MimiaError(
                f"The attack {self.name!r} learns from known non-members: set split.n_population, or "
                "pass arrays of them as population."
            )

    def _nothing_to_learn_from(self) -> MimiaError:
        return MimiaError(
            f"The attack {self.name!r} finds no members or no non-members in the reference pool to learn from: add "
            "images that no shadow was trained on (split.n_holdout)."
        )
