from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mimia.attacks.partcrop import PartCrop
from mimia.signals.base import Shadows, play

Pool = Callable[..., tuple[Shadows, Shadows]]

NUMBERS = 256  # two divergences for each of 128 crops


@pytest.mark.parametrize("leak", [0.7, -0.7])
def test_leak_is_found_whether_divergences_of_members_are_smaller_or_larger(leak: float, pool: Pool) -> None:
    attack = PartCrop(epochs=10).fit(*pool({"parts": NUMBERS}, leak=leak))
    judged = pool({"parts": NUMBERS}, leak=leak, seed=1)[0]
    assert roc_auc_score(judged.membership[0], attack._score(play(judged, 0))) > 0.8


def test_each_number_has_a_weight_of_its_own(pool: Pool) -> None:
    # Members' first half is lower and their second half higher, so that the mean says nothing.
    _, known = pool({"parts": NUMBERS}, leak=0)

    def twisted(seed: int) -> Shadows:
        shadows, _ = pool({"parts": NUMBERS}, leak=0, seed=seed)
        values = shadows.signals["parts"].copy()
        sign = np.where(np.arange(NUMBERS) < NUMBERS // 2, -1, 1)
        values += (0.2 * sign * shadows.membership[:, :, None]).astype(np.float32)
        return replace(shadows, signals=replace(shadows.signals, values={"parts": values}))

    judged = twisted(1)
    assert roc_auc_score(judged.membership[0], judged.signals["parts"][0].mean(axis=1)) < 0.65
    scores = PartCrop(epochs=10).fit(twisted(0), known)._score(play(judged, 0))
    assert roc_auc_score(judged.membership[0], scores) > 0.95


def test_references_are_not_asked(pool: Pool) -> None:
    shadows, known = pool({"parts": NUMBERS})
    attack = PartCrop(epochs=1).fit(shadows, known)
    few = play(shadows.without(3), 0)
    assert np.array_equal(attack._score(play(shadows, 0)), attack._score(few))
