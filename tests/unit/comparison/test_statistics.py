"""Numbers over seeds, against closed forms and scipy's own Welch test."""

import math

import numpy as np
import pytest
from scipy.stats import t as student
from scipy.stats import ttest_ind

from comparison.statistics import (
    LARGEST_QUANTILE,
    Spread,
    difference,
    half_width,
    ratio_std_error,
    share_within,
    spread,
    value_at,
)


def test_spread():
    assert spread([1.0, 2.0, 6.0]) == Spread(3, 3.0, pytest.approx(math.sqrt(7)))
    assert math.isnan(spread([4.0]).std)


@pytest.mark.parametrize(
    ("x", "expected"), [(1, 10), (1.5, 15), (3, 40), (2.5, 30), (0.9, None), (3.1, None), (1 - 1e-12, 10)]
)
def test_values_between_snapshots(x, expected):
    assert value_at(x, [1, 2, 3], [10, 20, 40]) == (None if expected is None else pytest.approx(expected))


def test_no_snapshots_no_value():
    assert value_at(1, [], []) is None


@pytest.mark.parametrize("freedom", [1, 1.5, 2, 7.3, 30, 2000])
def test_students_distribution(freedom):
    for t in (0.1, 1, 3, LARGEST_QUANTILE):
        assert share_within(t, freedom) == pytest.approx(1 - 2 * student.sf(t, freedom), rel=1e-6)
    assert half_width(2.0, freedom) == pytest.approx(2 * student.ppf(0.975, freedom), rel=1e-6)


def test_the_interval_is_that_of_welch():
    rng = np.random.RandomState(0)
    for num_a, num_b in ((2, 2), (3, 5), (8, 3)):
        a, b = rng.randn(num_a), 3 * rng.randn(num_b) + 2
        interval = ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
        found = difference(spread(a), spread(b))
        assert found.mean - found.half_width == pytest.approx(interval.low)
        assert found.mean + found.half_width == pytest.approx(interval.high)
        assert found.is_clear == (interval.low > 0 or interval.high < 0)


def test_one_seed_tells_nothing_of_the_deviation():
    assert difference(spread([1.0]), spread([2.0, 3.0])) is None


def test_the_error_of_a_ratio_is_that_of_many_draws():
    a, b = Spread(4, 100.0, 8.0), Spread(9, 50.0, 6.0)
    rng = np.random.RandomState(0)
    ratios = (50 + 2 * rng.randn(10**6)) / (100 + 4 * rng.randn(10**6))
    assert ratio_std_error(a, b) == pytest.approx(ratios.std(), rel=0.01)
    assert math.isnan(ratio_std_error(spread([1.0]), b))


def test_seeds_needed_are_the_fewest_that_make_it_clear():
    found = difference(Spread(3, 10.0, 4.0), Spread(3, 6.0, 2.0))
    assert not found.is_clear
    for num, is_clear in ((found.num_needed, True), (found.num_needed - 1, False)):
        assert difference(Spread(num, 10.0, 4.0), Spread(num, 6.0, 2.0)).is_clear == is_clear


def test_equal_means_need_too_many():
    assert difference(Spread(3, 1.0, 1.0), Spread(3, 1.0, 1.0)).num_needed is None


def test_tiny_values():
    large, small = (difference(spread([1.0 * f, 2.0 * f]), spread([3.0 * f, 5.0 * f])) for f in (1.0, 1e-90))
    assert small.half_width == pytest.approx(1e-90 * large.half_width)
    assert small.num_needed == large.num_needed


def test_runs_without_deviation():
    found = difference(Spread(2, 1.0, 0.0), Spread(2, 3.0, 0.0))
    assert found.is_clear
    assert found.half_width == 0
