"""Shadows in the place of the target, from which attacks learn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mimia.runtime.arrays import Bools, Floats
from mimia.signals.arrays import AttackInput, ShadowSignals, Signals


@dataclass(frozen=True)
class ShadowGame:
    """A shadow in the place of the target, with known membership.

    Attributes:
        inputs: What an attack on this shadow gets.
        members: Images that the shadow was trained on, (images,).
    """

    inputs: AttackInput
    members: Bools


def all_shadows(games: Sequence[ShadowGame]) -> ShadowSignals:
    """Return the shadows of games: the one in the place of the target and its references are all of them."""
    inputs, references = games[0].inputs, games[0].inputs.references
    values = {name: np.concatenate([values, references.signals[name]]) for name, values in inputs.target.values.items()}
    models = inputs.target.models + references.signals.models
    return ShadowSignals(
        Signals(values, models, inputs.target.images, inputs.target.query_id),
        np.concatenate([games[0].members[None], references.membership]),
    )


def labelled(games: Sequence[ShadowGame], features: Callable[[AttackInput], Floats]) -> tuple[Floats, Bools]:
    """Return the features of all images of all games, (rows, numbers), and their membership, (rows,)."""
    rows = np.concatenate([features(game.inputs) for game in games])
    return rows, np.concatenate([game.members for game in games])
