from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from mimia.attacks.encodermi import EncoderMI
from mimia.attacks.threshold import Threshold
from mimia.signals.arrays import AttackInput, ShadowSignals, Signals, leave_one_out

Pool = Callable[..., tuple[ShadowSignals, ShadowSignals]]
Variant = Literal["vector", "set"]

PAIRS = 45
BOTH_VARIANTS = pytest.mark.parametrize("variant", ["vector", "set"])


def with_views(inputs: AttackInput, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> AttackInput:
    target = inputs.target
    return replace(inputs, target=replace(target, values={"crop_similarity": change(target["crop_similarity"])}))


def spread_alone(shadows: int, seed: int, members: int = 150) -> ShadowSignals:
    """Simulate members whose distances are as large as those of others, and differ less among each other."""
    generator = np.random.default_rng(seed)
    membership = np.zeros((shadows, 300), dtype=bool)
    for shadow in range(shadows):
        membership[shadow, generator.permutation(300)[:members]] = True
    spread = np.where(membership, 0.05, 0.1)[:, :, None]
    values = (1 + spread * generator.normal(size=(shadows, 300, PAIRS))).astype(np.float32)
    names = tuple(f"model {number}" for number in range(shadows))
    return ShadowSignals(
        Signals({"crop_similarity": values}, names, np.array([f"{n:03}" for n in range(300)]), "masks"), membership
    )


@BOTH_VARIANTS
def test_order_of_the_pairs_of_views_does_not_matter(variant: Variant, pool: Pool) -> None:
    shadows, population = pool({"crop_similarity": PAIRS}, shadows=2)
    attack = EncoderMI(variant=variant, epochs=3).fit(shadows, population=population)
    inputs = leave_one_out(shadows, 0)
    order = np.random.default_rng(0).permuted(np.tile(np.arange(PAIRS), (60, 1)), axis=1)[None]
    shuffled = with_views(inputs, lambda views: np.take_along_axis(views, order, axis=2))
    np.testing.assert_allclose(attack._score(shuffled), attack._score(inputs), rtol=1e-4, atol=1e-5)


@BOTH_VARIANTS
def test_what_the_mean_does_not_tell_is_found(variant: Variant) -> None:
    evaluated, members = leave_one_out(spread_alone(2, seed=1), 0), spread_alone(2, seed=1).membership[0]
    attack = EncoderMI(variant=variant, epochs=12)
    attack.fit(spread_alone(2, seed=0), population=spread_alone(2, seed=2, members=0))
    assert roc_auc_score(members, attack._score(evaluated)) > 0.95
    assert 0.4 < roc_auc_score(members, Threshold(signal="crop_similarity")._score(evaluated)) < 0.6


@BOTH_VARIANTS
def test_members_whose_views_are_less_alike_are_found_too(variant: Variant, pool: Pool) -> None:
    shadows, population = pool({"crop_similarity": PAIRS}, leak=-0.7)
    evaluated = pool({"crop_similarity": PAIRS}, leak=-0.7, seed=1)[0]
    scores = (
        EncoderMI(variant=variant, epochs=12).fit(shadows, population=population)._score(leave_one_out(evaluated, 0))
    )
    assert roc_auc_score(evaluated.membership[0], scores) > 0.8


def test_variants_are_two_attacks(pool: Pool) -> None:
    shadows, population = pool({"crop_similarity": PAIRS}, shadows=2)
    vector = EncoderMI(variant="vector", epochs=2).fit(shadows, population=population)._score(leave_one_out(shadows, 0))
    together = EncoderMI(variant="set", epochs=2).fit(shadows, population=population)._score(leave_one_out(shadows, 0))
    assert not np.allclose(vector, together)
