import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mimia.runtime.seeds import derived_seed, torch_generator


@given(st.lists(st.integers() | st.text(), max_size=4))
@settings(max_examples=50, deadline=None)
def test_derived_seed_is_one_that_numpy_and_torch_take(parts: list[int | str]) -> None:
    seed = derived_seed(*parts)
    assert seed == derived_seed(*parts)
    assert torch.Generator().manual_seed(seed).initial_seed() == seed
    np.random.default_rng(seed)


def test_derived_seeds_differ() -> None:
    seeds = {derived_seed(seed, use, number) for seed in range(10) for use in ("masks", "order") for number in range(9)}
    assert len(seeds) == 180


def test_generator_follows_from_all_parts() -> None:
    def draw(*parts: int | str) -> float:
        return float(torch.rand((), generator=torch_generator("cpu", *parts)))

    assert draw(0, "step", 1) == draw(0, "step", 1)
    assert len({draw(0, "step", 1), draw(1, "step", 1), draw(0, "order", 1), draw(0, "step", 2)}) == 4
