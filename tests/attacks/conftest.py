"""Inputs for tests of a score against a slow definition that is written from its formula."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from mimia.signals.arrays import AttackInput, ShadowSignals, Signals

# Few values, so that images and models tie, and any others.
NUMBERS = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0]), st.floats(0.0625, 4, width=32))


def make_signals(
    values: Mapping[str, NDArray[np.float32]], first_model: int = 0, images: str = "image", query_id: str = "queries"
) -> Signals:
    models, count, _ = next(iter(values.values())).shape
    names = tuple(f"model {first_model + number}" for number in range(models))
    return Signals(values, names, np.array([f"{images} {number:03}" for number in range(count)]), query_id)


def make_input(
    values: Mapping[str, NDArray[np.float32]],
    membership: NDArray[np.bool_],
    population: Mapping[str, NDArray[np.float32]] | None = None,
) -> AttackInput:
    """Take the first model for the target and the others, of the membership given, for its references."""

    def of(values: Mapping[str, NDArray[np.float32]], membership: NDArray[np.bool_], images: str) -> AttackInput:
        signals = make_signals(values, images=images)
        return AttackInput(signals.of_model(0), ShadowSignals(signals.without_model(0), membership))

    inputs = of(values, membership, "image")
    if population is None:
        return inputs
    nobody = np.zeros((len(membership), next(iter(population.values())).shape[1]), dtype=bool)
    return AttackInput(inputs.target, inputs.references, of(population, nobody, "population"))


@st.composite
def draw_input(draw: st.DrawFn, signals: Mapping[str, int], population: bool = False) -> AttackInput:
    """Draw an input of one to five references and as many images.

    Args:
        draw: Of hypothesis.
        signals: Numbers of an image, by signal.
        population: Whether there is a population.
    """
    references, images, unseen = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(1, 5))

    def values(count: int) -> dict[str, NDArray[np.float32]]:
        shapes = {name: (1 + references, count, numbers) for name, numbers in signals.items()}
        return {name: draw(arrays(np.float32, shape, elements=NUMBERS)) for name, shape in shapes.items()}

    membership = draw(arrays(np.bool_, (references, images)))
    return make_input(values(images), membership, values(unseen) if population else None)


@pytest.fixture(scope="session")
def inputs() -> Callable[..., AttackInput]:
    """Make an input of values by signal, of the references' membership, and of the population's values."""
    return make_input


@pytest.fixture(scope="session")
def drawn() -> Callable[..., st.SearchStrategy[AttackInput]]:
    """Return a strategy for inputs with some signals, with a population or without."""
    return draw_input


@pytest.fixture(scope="session")
def pool() -> Callable[..., tuple[ShadowSignals, ShadowSignals]]:
    """Simulate shadows, each two on complementary halves of 40 images and none on 20 others, and a population."""

    def make(
        signals: Mapping[str, int], shadows: int = 4, leak: float = 0.3, seed: int = 0
    ) -> tuple[ShadowSignals, ShadowSignals]:
        generator = np.random.default_rng(seed)
        membership = np.zeros((shadows, 60), dtype=bool)
        for shadow in range(0, shadows, 2):
            membership[shadow, :40] = generator.permutation(np.arange(40) < 20)
            membership[shadow + 1 : shadow + 2, :40] = ~membership[shadow, :40]

        def some(inside: NDArray[np.bool_], images: str) -> ShadowSignals:
            values = {}
            for name, numbers in signals.items():
                difficulty = generator.normal(0, 0.3, (1, inside.shape[1], 1))
                noise = generator.normal(0, 0.1, (*inside.shape, numbers))
                values[name] = np.exp(difficulty + noise - leak * inside[:, :, None]).astype(np.float32)
            return ShadowSignals(make_signals(values, 1, images), inside)

        return some(membership, "pool"), some(np.zeros((shadows, 25), dtype=bool), "population")

    return make
