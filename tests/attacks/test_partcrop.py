from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mimia.attacks.partcrop import PartCrop
from mimia.signals.arrays import ShadowSignals, leave_one_out

Pool = Callable[..., tuple[ShadowSignals, ShadowSignals]]

NUMBERS = 256  # two divergences for each of 128 crops


@pytest.mark.parametrize("leak", [0.7, -0.7])
def test_leak_is_found_whether_divergences_of_members_are_smaller_or_larger(leak: float, pool: Pool) -> None:
    shadows, population = pool({"partcrop": NUMBERS}, leak=leak)
    attack = PartCrop(epochs=10).fit(shadows, population=population)
    evaluated = pool({"partcrop": NUMBERS}, leak=leak, seed=1)[0]
    assert roc_auc_score(evaluated.membership[0], attack._score(leave_one_out(evaluated, 0))) > 0.8


def test_each_number_has_a_weight_of_its_own(pool: Pool) -> None:
    # Members' first half is lower and their second half higher, so that the mean says nothing.
    _, population = pool({"partcrop": NUMBERS}, leak=0)

    def twisted(seed: int) -> ShadowSignals:
        shadows, _ = pool({"partcrop": NUMBERS}, leak=0, seed=seed)
        values = shadows.signals["partcrop"].copy()
        sign = np.where(np.arange(NUMBERS) < NUMBERS // 2, -1, 1)
        values += (0.2 * sign * shadows.membership[:, :, None]).astype(np.float32)
        return replace(shadows, signals=replace(shadows.signals, values={"partcrop": values}))

    evaluated = twisted(1)
    assert roc_auc_score(evaluated.membership[0], evaluated.signals["partcrop"][0].mean(axis=1)) < 0.65
    scores = PartCrop(epochs=10).fit(twisted(0), population=population)._score(leave_one_out(evaluated, 0))
    assert roc_auc_score(evaluated.membership[0], scores) > 0.95


def test_references_are_not_used(pool: Pool) -> None:
    shadows, population = pool({"partcrop": NUMBERS})
    attack = PartCrop(epochs=1).fit(shadows, population=population)
    few = leave_one_out(shadows.without(3), 0)
    assert np.array_equal(attack._score(leave_one_out(shadows, 0)), attack._score(few))
