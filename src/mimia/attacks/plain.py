"""Plain arrays as the input of attacks: losses of shadows and of a target, without ids.

Rows are named by their place: image 3 of the shadows and image 3 of the target are taken for the same image.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mimia.runtime.arrays import Bools
from mimia.runtime.errors import MimiaError
from mimia.signals.arrays import AttackInput, ShadowSignals, Signals

Values: TypeAlias = NDArray[Any] | Mapping[str, NDArray[Any]]
"""Losses, or a mapping from names of signals to arrays."""


@dataclass(frozen=True)
class PlainShadows:
    """Shadows that an attack was fitted on, from plain arrays.

    Attributes:
        names: Signals that the attack needs.
        shadows: The shadows on the images of `fit`.
        population: The shadows on non-members.
    """

    names: tuple[str, ...]
    shadows: ShadowSignals
    population: ShadowSignals | None

    @classmethod
    def of(
        cls, names: tuple[str, ...], shadows: Values, membership: Bools | None, population: object
    ) -> "PlainShadows":
        """Name the rows of plain arrays, (shadows, images) or (shadows, images, draws).

        Raises:
            MimiaError: The membership is missing, or the arrays do not fit together.
        """
        if membership is None:
            raise MimiaError("Plain arrays need the membership: pass fit(losses, membership), both (shadows, images).")
        if isinstance(population, ShadowSignals):
            raise MimiaError("The shadows are plain arrays and the population is not: pass both in the same form.")
        unseen = None if population is None else _shadows(names, population, None, "population")
        made = cls(names, _shadows(names, shadows, membership, "image"), unseen)
        own = made.shadows.signals
        if unseen is not None and any(unseen.signals[name].shape[::2] != own[name].shape[::2] for name in names):
            raise MimiaError("The population must have losses of the same shadows, with as many draws as the others.")
        return made

    def input(
        self, target: Values, references: Values | None, membership: Bools | None, population: Values | None
    ) -> AttackInput:
        """Return the input of an attack on a target; the arguments are those of `Attack.score`.

        Raises:
            MimiaError: The arrays do not fit those of `fit`.
        """
        shadows = self.shadows
        if references is not None:
            shadows = _shadows(self.names, references, membership, "image")
        unseen = None
        if self.population is not None and population is not None:
            unseen = _input(self.names, population, self.population, "population")
        return _input(self.names, target, shadows, "image", unseen)


def _input(
    names: tuple[str, ...], target: Values, shadows: ShadowSignals, tag: str, unseen: AttackInput | None = None
) -> AttackInput:
    values = {name: array[None] for name, array in _named(names, target).items()}
    signals = _signals(values, tag, ("target",))
    count = len(shadows.signals.images)
    if len(signals.images) != count:
        raise MimiaError(
            f"The target has losses of {len(signals.images)} images and the shadows of {count}: score the images that "
            "the attack was fitted on, or pass the shadows' losses on these as references."
        )
    for name, array in signals.values.items():
        if array.shape[2] != shadows.signals[name].shape[2]:
            raise MimiaError(
                f"The target has {array.shape[2]} numbers for each image and the shadows "
                f"{shadows.signals[name].shape[2]} ({name}): use the same masks for both."
            )
    return AttackInput(signals, shadows, unseen)


def _shadows(names: tuple[str, ...], values: object, membership: Bools | None, tag: str) -> ShadowSignals:
    signals = _signals(_named(names, values), tag)
    shape = len(signals.models), len(signals.images)
    membership = np.zeros(shape, dtype=bool) if membership is None else np.asarray(membership)
    if membership.dtype.kind in "iu" and np.isin(membership, (0, 1)).all():
        membership = membership.astype(bool)
    if membership.shape != shape or membership.dtype != np.bool_:
        raise MimiaError(
            f"The membership must be booleans of the shape {shape} (shadows, images), and is {membership.dtype} of the "
            f"shape {membership.shape}."
        )
    return ShadowSignals(signals, membership)


def _named(names: tuple[str, ...], values: object) -> dict[str, NDArray[Any]]:
    """Return floating-point arrays by the names of the signals that an attack needs."""
    if not isinstance(values, Mapping):
        if len(names) > 1:
            raise MimiaError(f"The attack takes several signals: pass a mapping with arrays for {', '.join(names)}.")
        values = {names[0]: values}
    if missing := [name for name in names if name not in values]:
        raise MimiaError(f"There are no arrays for {', '.join(missing)}, which the attack needs.")
    arrays = {name: np.asarray(values[name]) for name in names}
    return {name: array if array.dtype.kind == "f" else array.astype(np.float64) for name, array in arrays.items()}


def _signals(values: dict[str, NDArray[Any]], tag: str, models: tuple[str, ...] | None = None) -> Signals:
    """Name models and images by their places; zeros before the numbers keep their order."""
    values = {name: array[:, :, None] if array.ndim == 2 else array for name, array in values.items()}
    shapes = {array.shape[:2] for array in values.values()}
    if len(shapes) != 1 or any(array.ndim != 3 for array in values.values()):
        raise MimiaError(
            "Losses must be arrays of the same shadows and images, (shadows, images) or (shadows, images, draws), and "
            "of a target (images,) or (images, draws)."
        )
    if not all(np.isfinite(array).all() for array in values.values()):
        raise MimiaError("Losses must be finite.")
    count, images = shapes.pop()
    ids = np.array([f"{tag} {number:09}" for number in range(images)])
    return Signals(values, models or tuple(f"shadow {number:09}" for number in range(count)), ids, "plain arrays")
