"""What `fit` does for every attack: each shadow is scored by an attack that has not learned on it."""

from collections.abc import Callable, Sequence

from sklearn.metrics import balanced_accuracy_score

from mimia.attacks.base import Attack, Requirements
from mimia.attacks.games import ShadowGame
from mimia.attacks.summaries import mean_distance
from mimia.runtime.arrays import Floats
from mimia.signals.arrays import AttackInput, ShadowSignals

Pool = Callable[..., tuple[ShadowSignals, ShadowSignals]]


class Recorder(Attack):
    """Notes what it learns on and what it scores; the score is the loss with the sign changed."""

    paper = "none"
    requirements = Requirements(signals=("reconstruction",), shadows=2)

    def __init__(self) -> None:
        self.log: list[tuple[str, list[str]]] = []

    def _hyperparameters(self) -> dict[str, object]:
        return {}

    def _learn(self, games: Sequence[ShadowGame]) -> None:
        self.log.append(("learn", [game.inputs.target.models[0] for game in games]))

    def _score(self, inputs: AttackInput) -> Floats:
        self.log.append(("score", list(inputs.target.models)))
        scores: Floats = -mean_distance(inputs.target)[0]
        return scores


def test_no_shadow_is_scored_by_an_attack_that_learned_on_it(pool: Pool) -> None:
    shadows, _ = pool({"reconstruction": 3})
    names = [f"model {number}" for number in range(1, 5)]
    expected = []
    for name in names:
        expected += [("learn", [other for other in names if other != name]), ("score", [name])]
    assert Recorder().fit(shadows).log == [*expected, ("learn", names)]


def test_threshold_is_the_best_on_all_shadows_together(pool: Pool) -> None:
    shadows, _ = pool({"reconstruction": 3})
    threshold = Recorder().fit(shadows).threshold_
    scores, members = -mean_distance(shadows.signals).ravel(), shadows.membership.ravel()
    found = balanced_accuracy_score(members, scores >= threshold)
    assert found == max(balanced_accuracy_score(members, scores >= other) for other in scores)
    assert threshold not in scores  # but between two of them
