import math
import statistics

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mimia.attacks.summaries import (
    auc,
    in_order,
    log_distance,
    log_mean_exp_where,
    mean_distance,
    mean_where,
    pooled_variance,
    variance_where,
)
from mimia.runtime.arrays import Bools, Floats
from mimia.signals.arrays import Signals


@st.composite
def values_and_chosen(draw: st.DrawFn) -> tuple[Floats, Bools]:
    shape = (draw(st.integers(1, 6)), draw(st.integers(1, 5)))
    elements = st.one_of(st.sampled_from([0.0, 1.0, -2.5]), st.floats(-50, 50, width=32))
    return draw(arrays(np.float64, shape, elements=elements)), draw(arrays(np.bool_, shape))


def groups_of(values: Floats, chosen: Bools) -> list[list[float]]:
    """The chosen values of each image."""
    pairs = zip(values.T.tolist(), chosen.T.tolist(), strict=True)
    return [[value for value, is_chosen in zip(*each, strict=True) if is_chosen] for each in pairs]


@given(values_and_chosen())
@settings(max_examples=50, deadline=None)
def test_moments_are_those_of_the_chosen_values(drawn: tuple[Floats, Bools]) -> None:
    groups = groups_of(*drawn)
    means = [statistics.fmean(group) if group else math.nan for group in groups]
    variances = [statistics.variance(group) if len(group) > 1 else math.nan for group in groups]
    np.testing.assert_allclose(mean_where(*drawn), means, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(variance_where(*drawn), variances, rtol=1e-9, atol=1e-9)
    freedom = sum(len(group) - 1 for group in groups if group)
    squares = sum(statistics.variance(group) * (len(group) - 1) for group in groups if len(group) > 1)
    pooled = squares / freedom if freedom else math.nan
    np.testing.assert_allclose(pooled_variance(*drawn), pooled, rtol=1e-9, atol=1e-9)


@given(values_and_chosen())
@settings(max_examples=50, deadline=None)
def test_mean_of_exponentials_is_that_of_the_chosen_values(drawn: tuple[Floats, Bools]) -> None:
    expected = [math.log(statistics.fmean(map(math.exp, group))) if group else math.nan for group in groups_of(*drawn)]
    np.testing.assert_allclose(log_mean_exp_where(*drawn), expected, rtol=1e-9, atol=1e-9)
    shifted = log_mean_exp_where(drawn[0] - 1e5, drawn[1])
    np.testing.assert_allclose(shifted + 1e5, expected, rtol=1e-6, atol=1e-6)


def test_distances_are_means_over_the_draws_in_double_precision() -> None:
    values = np.float32(1 + 1e-7) * np.ones((1, 2, 1000), np.float32)
    values[0, 1] = 0
    signals = Signals({"reconstruction": values}, ("a",), np.array(["y", "x"]), "masks")
    assert mean_distance(signals)[0].tolist() == [float(np.float32(1 + 1e-7)), 0]
    assert np.isfinite(log_distance(signals)).all()
    assert in_order(signals, "reconstruction")[0, :, 0].tolist() == [0, float(np.float32(1 + 1e-7))]


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=12))
@settings(max_examples=50, deadline=None)
def test_area_is_the_proportion_of_pairs_in_which_the_member_scores_higher(images: list[tuple[int, bool]]) -> None:
    scores, members = np.array([float(score) for score, _ in images]), np.array([each for _, each in images], bool)
    pairs = [(inside, outside) for inside in scores[members] for outside in scores[~members]]
    credit = [1.0 if inside > outside else 0.5 * (inside == outside) for inside, outside in pairs]
    np.testing.assert_allclose(auc(scores, members), statistics.fmean(credit) if credit else math.nan)
