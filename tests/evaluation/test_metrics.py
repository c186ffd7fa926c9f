import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from mimia import metrics
from mimia.runtime.errors import MimiaError

GENERATOR = np.random.default_rng(0)
IS_MEMBER = np.arange(300) < 100
SCORES = GENERATOR.normal(0.7 * IS_MEMBER, 1)
BROKEN: Any = 2.5
A_NAME: Any = "halves"


def test_figures_are_those_of_scikit_learn_and_scipy() -> None:
    assert metrics.roc_auc(SCORES, IS_MEMBER) == pytest.approx(roc_auc_score(IS_MEMBER, SCORES))
    accuracy = balanced_accuracy_score(IS_MEMBER, SCORES >= 0.4)
    assert metrics.balanced_accuracy(SCORES, IS_MEMBER, threshold=0.4) == pytest.approx(accuracy)
    test = mannwhitneyu(SCORES[IS_MEMBER], SCORES[~IS_MEMBER], alternative="greater")
    assert metrics.auc_p_value(SCORES, IS_MEMBER) == pytest.approx(test.pvalue)


@pytest.mark.parametrize("fpr", [0.0, 0.004, 0.01, 0.3, 0.99])
def test_tpr_is_the_largest_on_the_curve_up_to_the_fpr(fpr: float) -> None:
    curve_fpr, curve_tpr, _ = metrics.roc_curve(SCORES, IS_MEMBER)
    assert metrics.tpr_at_fpr(SCORES, IS_MEMBER, fpr) == pytest.approx(curve_tpr[curve_fpr <= fpr + 1e-12].max())


def test_lists_and_labels_of_zeros_and_ones_are_taken() -> None:
    auc = metrics.roc_auc(SCORES.tolist(), IS_MEMBER.astype(int).tolist())
    assert auc == metrics.roc_auc(SCORES, IS_MEMBER)
    low, high = metrics.auc_interval(SCORES, IS_MEMBER)
    assert low < auc < high
    narrow = metrics.auc_interval(SCORES, IS_MEMBER, confidence=0.5)
    assert low < narrow[0] < auc < narrow[1] < high


def test_comparison_favours_the_better_score() -> None:
    difference, p_value = metrics.compare_auc(SCORES + IS_MEMBER, SCORES, IS_MEMBER)
    expected = roc_auc_score(IS_MEMBER, SCORES + IS_MEMBER) - roc_auc_score(IS_MEMBER, SCORES)
    assert difference == pytest.approx(expected)
    assert p_value < 1e-6


def test_bounds_on_epsilon_know_their_settings() -> None:
    said = IS_MEMBER.astype(float)
    by_default = metrics.epsilon_lower_bound(said, IS_MEMBER)
    assert 0 < by_default < metrics.epsilon_lower_bound(said, IS_MEMBER, strategy=metrics.Fixed(0.5))
    assert metrics.epsilon_lower_bound(said, IS_MEMBER, delta=0.1, confidence=0.99) < by_default
    assert metrics.one_run_epsilon(said, IS_MEMBER, guesses=[10]) < metrics.one_run_epsilon(said, IS_MEMBER)
    assert metrics.one_run_epsilon(1 - said, IS_MEMBER) == 0


def test_set_of_members_scores_higher() -> None:
    members, others = SCORES[IS_MEMBER], SCORES[~IS_MEMBER]
    assert max(metrics.welch_test(members, others), metrics.permutation_test(members, others, resamples=999)) < 0.01
    assert min(metrics.welch_test(others, members), metrics.permutation_test(others, members, resamples=999)) > 0.9


@pytest.mark.parametrize(
    ("scores", "is_member", "message"),
    [
        ([1, 2, 3], [1, 0], "3 scores and 2 labels"),
        ([1, math.nan], [1, 0], "infinite or no number"),
        ([1, math.inf], [1, 0], "infinite or no number"),
        ([1, 2], [1, 1], "no non-member"),
        ([1, 2], [0, 0], "There is no member"),
        ([1, 2], [0, 2], "Labels must be True"),
        ([[1, 2]], [[0, 1]], "one number for each image"),
        ([], [], "one number for each image"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(scores: list[Any], is_member: list[Any], message: str) -> None:
    for function in (metrics.roc_auc, metrics.roc_curve, metrics.one_run_epsilon, metrics.RocDisplay.from_scores):
        with pytest.raises(MimiaError, match=message):
            function(scores, is_member)


def test_numbers_outside_their_range_are_refused() -> None:
    with pytest.raises(MimiaError, match=r"fpr must be at least 0 and below 1, and is 1\.0"):
        metrics.tpr_at_fpr(SCORES, IS_MEMBER, 1.0)
    with pytest.raises(MimiaError, match="confidence must be"):
        metrics.epsilon_lower_bound(SCORES, IS_MEMBER, confidence=-1)
    with pytest.raises(MimiaError, match="p-values and not scores"):
        metrics.benjamini_hochberg([0.5, 2], fdr=0.1)
    with pytest.raises(MimiaError, match="two members and two non-members"):
        metrics.compare_auc([1, 2, 3], [1, 2, 3], [1, 0, 0])


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: metrics.balanced_accuracy(SCORES, IS_MEMBER, threshold=math.nan), "threshold is no number"),
        (lambda: metrics.roc_auc(["a", "b"], [1, 0]), "must be numbers"),
        (lambda: metrics.holm([0.5, math.nan]), "infinite or no number"),
        (lambda: metrics.holm([0.5, 2]), "p-values and not scores"),
        (lambda: metrics.epsilon_lower_bound(SCORES, IS_MEMBER, strategy=metrics.Bonferroni(0)), "from 1 on"),
        (lambda: metrics.epsilon_lower_bound(SCORES, IS_MEMBER, strategy=metrics.Bonferroni(BROKEN)), "whole number"),
        (lambda: metrics.epsilon_lower_bound(SCORES, IS_MEMBER, strategy=metrics.Fixed(math.nan)), "no number"),
        (lambda: metrics.epsilon_lower_bound(SCORES, IS_MEMBER, strategy=A_NAME), "strategy must be"),
        (lambda: metrics.one_run_epsilon(SCORES, IS_MEMBER, guesses=[]), "guesses has no number"),
        (lambda: metrics.detectable_auc(100, 100, level=0), "level must be above 0"),
        (lambda: metrics.detectable_auc(100, 100, power=1), "power must be above 0"),
        (lambda: metrics.detectable_auc(0, 100), "members must be a whole number from 1 on"),
        (lambda: metrics.permutation_test([1, 2], [1, 2], resamples=0), "resamples must be"),
        (lambda: metrics.permutation_test([1, 2], [1, 2], seed=-1), "seed must be"),
    ],
)
def test_arguments_outside_their_meaning_are_refused(act: Callable[[], object], message: str) -> None:
    with pytest.raises(MimiaError, match=message):
        act()


def test_display_keeps_its_numbers_and_draws_low_rates_on_logarithmic_axes() -> None:
    display = metrics.RocDisplay.from_scores(SCORES, IS_MEMBER, name="attack")
    assert display.auc == pytest.approx(np.trapezoid(display.tpr, display.fpr))
    axes = display.plot()
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xlim() == pytest.approx((1 / 200, 1))
    assert display.plot(axes) is axes
    assert [line.get_label() for line in axes.lines] == ["chance", *2 * [f"attack (AUC = {display.auc:.3f})"]]
    drawn = np.asarray(axes.lines[1].get_xdata()), np.asarray(axes.lines[1].get_ydata())
    assert drawn[0].min() >= 1 / 200
    assert drawn[1][drawn[0] <= 0.05].max() == pytest.approx(metrics.tpr_at_fpr(SCORES, IS_MEMBER, 0.05))
