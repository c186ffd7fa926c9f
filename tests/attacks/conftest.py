"""Evidence for tests of a score against a slow definition that is written from its formula."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from mimia.signals.base import Evidence, Shadows, Signals

# Few values, so that images and models tie, and any others.
NUMBERS = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0]), st.floats(0.0625, 4, width=32))


def make_signals(
    values: Mapping[str, NDArray[np.float32]], first_model: int = 0, images: str = "image", masks: str = "masks"
) -> Signals:
    models, count, _ = next(iter(values.values())).shape
    names = tuple(f"model {first_model + number}" for number in range(models))
    return Signals(values, names, np.array([f"{images} {number:03}" for number in range(count)]), masks)


def make_evidence(
    values: Mapping[str, NDArray[np.float32]],
    membership: NDArray[np.bool_],
    known: Mapping[str, NDArray[np.float32]] | None = None,
) -> Evidence:
    """Take the first model for the target and the others, of the membership given, for its references."""

    def of(values: Mapping[str, NDArray[np.float32]], membership: NDArray[np.bool_], images: str) -> Evidence:
        signals = make_signals(values, images=images)
        return Evidence(signals.of_model(0), Shadows(signals.without_model(0), membership))

    evidence = of(values, membership, "image")
    if known is None:
        return evidence
    nobody = np.zeros((len(membership), next(iter(known.values())).shape[1]), dtype=bool)
    return Evidence(evidence.target, evidence.references, of(known, nobody, "known"))


@st.composite
def draw_evidence(draw: st.DrawFn, kinds: Mapping[str, int], known: bool = False) -> Evidence:
    """Draw evidence of one to five references and as many images.

    Args:
        draw: Of hypothesis.
        kinds: Numbers of an image, by kind.
        known: Whether there are known non-members.
    """
    references, images, unseen = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(1, 5))

    def values(count: int) -> dict[str, NDArray[np.float32]]:
        shapes = {kind: (1 + references, count, numbers) for kind, numbers in kinds.items()}
        return {kind: draw(arrays(np.float32, shape, elements=NUMBERS)) for kind, shape in shapes.items()}

    membership = draw(arrays(np.bool_, (references, images)))
    return make_evidence(values(images), membership, values(unseen) if known else None)


@pytest.fixture(scope="session")
def evidence() -> Callable[..., Evidence]:
    """Make evidence of values by kind, of the references' membership, and of known non-members' values."""
    return make_evidence


@pytest.fixture(scope="session")
def drawn() -> Callable[..., st.SearchStrategy[Evidence]]:
    """Give a strategy for evidence with numbers of some kinds, and with known non-members or without."""
    return draw_evidence


@pytest.fixture(scope="session")
def pool() -> Callable[..., tuple[Shadows, Shadows]]:
    """Simulate shadows, of which each two saw complementary halves of 40 images and none 20 others, and known ones."""

    def make(kinds: Mapping[str, int], shadows: int = 4, leak: float = 0.3, seed: int = 0) -> tuple[Shadows, Shadows]:
        generator = np.random.default_rng(seed)
        membership = np.zeros((shadows, 60), dtype=bool)
        for shadow in range(0, shadows, 2):
            membership[shadow, :40] = generator.permutation(np.arange(40) < 20)
            membership[shadow + 1 : shadow + 2, :40] = ~membership[shadow, :40]

        def some(inside: NDArray[np.bool_], images: str) -> Shadows:
            values = {}
            for kind, numbers in kinds.items():
                difficulty = generator.normal(0, 0.3, (1, inside.shape[1], 1))
                noise = generator.normal(0, 0.1, (*inside.shape, numbers))
                values[kind] = np.exp(difficulty + noise - leak * inside[:, :, None]).astype(np.float32)
            return Shadows(make_signals(values, 1, images), inside)

        return some(membership, "pool"), some(np.zeros((shadows, 25), dtype=bool), "known")

    return make
