import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from mimia.evaluation.intervals import Estimate, proportion


@given(st.integers(1, 3000), st.data(), st.sampled_from([0.95, 0.975]))
@settings(max_examples=50, deadline=None)
def test_interval_of_a_proportion_is_made_of_beta_quantiles(of: int, data: st.DataObject, confidence: float) -> None:
    hits = data.draw(st.integers(0, of))
    tail = (1 - confidence) / 2
    low = beta.ppf(tail, hits, of - hits + 1) if hits else 0
    high = beta.ppf(1 - tail, hits + 1, of - hits) if hits < of else 1
    found = proportion(hits, of, confidence)
    assert (found.value, found.low, found.high) == pytest.approx((hits / of, low, high), abs=1e-8)


@pytest.mark.parametrize("truth", [0.01, 0.2, 0.5, 0.97])
def test_interval_of_a_proportion_holds_the_truth_as_often_as_it_says(truth: float) -> None:
    covered = 0.0
    for hits in range(31):
        found = proportion(hits, 30)
        assert found.low is not None
        assert found.high is not None
        covered += binom.pmf(hits, 30, truth) * (found.low <= truth <= found.high)
    assert covered >= 0.95


def test_proportion_of_nothing_has_no_value() -> None:
    assert proportion(0, 0) == Estimate(None, note="too few images")


def test_estimate_is_written_with_its_interval_or_with_the_reason_why_there_is_none() -> None:
    assert str(Estimate(0.5, 0.25, 0.75)) == "0.500 [0.250, 0.750]"
    assert str(Estimate(0.5)) == "0.500"
    assert str(Estimate(None, note="too few images")) == "too few images"
