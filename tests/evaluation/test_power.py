import math

import numpy as np
import pytest
from scipy.stats import binom, mannwhitneyu, norm

from mimia.evaluation.power import detectable_auc


@pytest.mark.parametrize(
    ("members", "nonmembers", "level", "power"), [(60, 60, 0.05, 0.9), (100, 800, 0.01, 0.9), (200, 1000, 0.05, 0.5)]
)
def test_leak_of_that_size_is_found_as_often_as_promised(
    members: int, nonmembers: int, level: float, power: float
) -> None:
    generator = np.random.default_rng(0)
    shift, repeats = norm.ppf(detectable_auc(members, nonmembers, level, power)) * math.sqrt(2), 600
    found = 0
    for _ in range(repeats):
        inside, outside = generator.normal(shift, 1, members), generator.normal(size=nonmembers)
        found += float(mannwhitneyu(inside, outside, alternative="greater").pvalue) < level
    assert binom.ppf(0.001, repeats, power - 0.02) <= found <= binom.ppf(0.999, repeats, power + 0.03)


@pytest.mark.parametrize(("members", "nonmembers"), [(5, 7), (3, 40), (200, 1000)])
def test_half_of_the_leaks_are_found_at_the_critical_value_of_the_test(members: int, nonmembers: int) -> None:
    pairs = members * nonmembers
    deviation = math.sqrt(pairs * (members + nonmembers + 1) / 12)  # of the number of pairs in the right order
    critical = (pairs / 2 + norm.isf(0.05) * deviation) / pairs
    assert detectable_auc(members, nonmembers, 0.05, power=0.5) == pytest.approx(critical)


def test_more_images_find_smaller_leaks() -> None:
    aucs = [detectable_auc(count, 5 * count, 0.05) for count in (20, 100, 1000, 100_000)]
    assert aucs == sorted(aucs, reverse=True)
    assert aucs[-1] < 0.504


def test_handful_of_images_finds_no_leak_at_all() -> None:
    assert detectable_auc(2, 2, 0.0001) == 1
