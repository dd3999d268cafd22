"""Jackknife intervals against formulas, and their coverage of a biased statistic."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ima.errors import ParameterError
from ima.stats.jackknife import compute_jackknife_error, compute_jackknife_interval


def leave_out(values, groups):
    return [np.delete(values, group).mean() for group in np.array_split(range(len(values)), groups)]


def test_the_interval_of_a_mean_is_that_of_a_t_test():
    values = np.random.default_rng(0).normal(size=12)
    interval = compute_jackknife_interval(values.mean(), [leave_out(values, 12)], n=12)
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert compute_jackknife_error(leave_out(values, 12)) == pytest.approx(stats.sem(values))


def test_strata_are_added_as_welch_adds_two_samples():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=9), rng.normal(scale=3, size=5)
    without = [np.array(leave_out(a, 9)) - b.mean(), a.mean() - np.array(leave_out(b, 5))]
    interval = compute_jackknife_interval(a.mean() - b.mean(), without, n=14)
    low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    assert (interval.low, interval.high) == pytest.approx((low, high))
    wider = compute_jackknife_interval(a.mean() - b.mean(), without, n=14, noise=1.0)
    assert wider.high - wider.low > interval.high - interval.low


def test_one_group_is_refused():
    with pytest.raises(ParameterError, match="at least two groups of samples; got 1"):
        compute_jackknife_interval(0.0, [[0.1, 0.2], [0.3]], n=3)
