from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import t

import mimia
from mimia.data.imageset import ImageSet
from mimia.models.base import MaskedImageModel
from mimia.signals.arrays import AttackInput, ShadowSignals, Signals
from mimia.validity.likeness import Likeness, compare_likeness, most_unlike

IMAGES, DRAWS = 60, 8


def answers(generator: np.random.Generator, models: int, level: float = 0.0, spread: float = 1.0) -> Signals:
    """Errors of models: equal for all up to their own level and spread, which differ by 5 % among equal trainings."""
    images = np.random.default_rng(0).normal(0, 0.4, (1, IMAGES, 1))
    own_level, own_spread = generator.normal(level, 0.05, models), spread * np.exp(generator.normal(0, 0.05, models))
    noise = np.random.default_rng(1).normal(0, 0.2, (1, IMAGES, DRAWS))
    logs = own_level[:, None, None] + own_spread[:, None, None] * (images + noise)
    ids = np.array([f"image {number}" for number in range(IMAGES)])
    values = {"reconstruction": np.exp(logs).astype(np.float32)}
    return Signals(values, tuple(f"model {number}" for number in range(models)), ids, "query")


def compare(target: Signals, shadows: Signals) -> dict[str, Likeness]:
    unseen = np.zeros((len(shadows.models), IMAGES), dtype=bool)
    return {each.quantity: each for each in compare_likeness(AttackInput(target, ShadowSignals(shadows, unseen)))}


def test_ratio_and_bound_are_those_of_the_formula() -> None:
    generator = np.random.default_rng(0)
    target, shadows = answers(generator, 1, level=0.3), answers(generator, 3)
    found = compare(target, shadows)["reconstruction error"]
    logs = [np.log(model.astype(np.float64)).mean() for model in shadows["reconstruction"]]
    mean = sum(logs) / 3
    variance = (4 * 0.05**2 + sum((each - mean) ** 2 for each in logs)) / (4 + 2)
    reach = t.ppf(1 - 0.001, 6) * np.sqrt(variance * (1 + 1 / 3))
    assert found.bound == pytest.approx(np.exp(reach))
    assert found.ratio == pytest.approx(np.exp(np.log(target["reconstruction"].astype(np.float64)).mean() - mean))
    assert found.alike == (abs(np.log(found.ratio)) <= reach)


@pytest.mark.parametrize("shadows", [2, 4, 8])
def test_model_of_the_shadows_training_is_seldom_called_unlike(shadows: int) -> None:
    generator = np.random.default_rng(shadows)
    unlike = [
        most_unlike(tuple(compare(answers(generator, 1), answers(generator, shadows)).values())) is not None
        for _ in range(500)
    ]
    assert np.mean(unlike) <= 0.015


@pytest.mark.parametrize(
    ("spread", "change"), [(2.0, "raise shadows.epochs or split.shadow_size"), (0.5, "lower shadows.epochs or split.")]
)
def test_model_of_another_training_is_named_with_what_to_change(spread: float, change: str) -> None:
    generator = np.random.default_rng(0)
    found = compare(answers(generator, 1, spread=spread), answers(generator, 2))
    assert not found["spread of the error over images"].alike
    sentence = most_unlike(tuple(found.values()))
    assert sentence is not None
    assert change in sentence


def test_signals_of_functions_are_compared_by_their_mean_and_spread() -> None:
    generator = np.random.default_rng(0)
    similarities = generator.uniform(0.5, 0.9, (1, IMAGES, 4)).repeat(3, axis=0).astype(np.float32)
    ids = np.array([f"image {number}" for number in range(IMAGES)])
    of_target = Signals({"view_similarity": similarities[:1]}, ("target",), ids, "query")
    found = compare(of_target, Signals({"view_similarity": similarities[1:]}, ("a", "b"), ids, "query"))
    assert list(found) == ["mean of view_similarity", "spread of view_similarity over images"]
    assert all(each.ratio == pytest.approx(1) for each in found.values())


@pytest.mark.slow
def test_trainings_of_other_length_or_augmentation_are_noticed_and_equal_ones_are_not(digits: ImageSet) -> None:
    """Each pair of six shadows of 100 digits, with every other one, and with two targets of each other training."""
    order = np.random.default_rng(0).permutation(len(digits))
    unseen, rest = digits.take(np.sort(order[:300])), order[300:]
    recipe = {"preset": "mae-nano", "patch_size": 4, "mask_ratio": 0.5, "epochs": 120, "batch_size": 50}
    recipe |= {"base_learning_rate": 0.016}

    def train(changes: Mapping[str, object], seed: int) -> MaskedImageModel:
        rows = np.random.default_rng(seed).permutation(rest)[:100]
        return mimia.pretrain(digits.take(np.sort(rows)), {**recipe, **changes}, seed=seed)

    others: dict[str, dict[str, object]] = {
        "epochs × 3": {"epochs": 360},
        "epochs / 8": {"epochs": 15},
        "crops": {"augmentation": "crop"},
    }
    models = [train({}, seed) for seed in range(6)]
    models += [train(changes, seed) for changes in others.values() for seed in (100, 101)]
    signals = mimia.extract_signals(models, unseen, ["reconstruction", "loss_neighbourhood"], n_masks=8)
    for name, targets in {
        "equal": range(6),
        **{other: (6 + 2 * n, 7 + 2 * n) for n, other in enumerate(others)},
    }.items():
        unlike = []
        for pair in combinations(range(6), 2):
            nobody = np.zeros((2, len(unseen)), dtype=bool)
            shadows = ShadowSignals(signals, np.zeros((len(models), len(unseen)), dtype=bool)).of_models(np.array(pair))
            for target in set(targets) - set(pair):
                inputs = AttackInput(signals.of_model(target), ShadowSignals(shadows.signals, nobody))
                unlike.append(most_unlike(compare_likeness(inputs)) is not None)
        print(f"{name}: {np.mean(unlike):.3f} of {len(unlike)} are called unlike")
        assert np.mean(unlike) <= 0.05 if name == "equal" else np.mean(unlike) >= 0.9
