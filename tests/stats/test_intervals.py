"""Intervals: bands cover whole curves, perfect ratios keep a width, minima cover the truth."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.stats import binomtest

from ima.stats import intervals
from ima.stats.resampling import draw_bootstrap_weights


def curves(draws, *, layers=12, seed=0, shift=0.0):
    values = np.random.default_rng(seed).normal(shift, 1, size=(draws, layers))
    return xr.DataArray(values, dims=("draw", "layer"))


def test_percentile_is_numpys():
    draws = curves(999)
    low, high = intervals.compute_percentile_interval(draws)
    np.testing.assert_allclose(low, np.percentile(draws, 2.5, axis=0))
    np.testing.assert_allclose(high, np.percentile(draws, 97.5, axis=0))
    assert low.dims == ("layer",)


def test_band_holds_whole_curves_where_pointwise_intervals_do_not():
    draws = curves(4000)
    low, high = intervals.compute_simultaneous_band(draws)
    inside = ((draws >= low) & (draws <= high)).all("layer").mean()
    assert 0.95 <= inside < 0.96
    narrow, wide = intervals.compute_percentile_interval(draws)
    assert ((draws >= narrow) & (draws <= wide)).all("layer").mean() < 0.65
    assert (low < narrow).all()
    assert (high > wide).all()


def test_band_of_one_point_is_the_percentile_interval():
    draws = curves(10_000, layers=1)
    for edge, expected in zip(
        intervals.compute_simultaneous_band(draws),
        intervals.compute_percentile_interval(draws),
        strict=True,
    ):
        np.testing.assert_allclose(edge, expected, atol=0.02)


def test_band_of_few_draws_of_many_points_covers_the_curve():
    """200 draws of 52 points, correlated by a half: percentiles hold three curves in four."""
    hits, runs, n = 0, 250, 300
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        samples = rng.normal(size=(n, 1)) + rng.normal(size=(n, 52))
        draws = rng.multinomial(n, np.full(n, 1 / n), size=200) / n @ samples
        low, high = intervals.compute_simultaneous_band(
            xr.DataArray(draws, dims=("draw", "point")),
            estimate=xr.DataArray(samples.mean(0), dims="point"),
        )
        hits += bool(((low <= 0) & (high >= 0)).all())
    # 95 %, less three standard errors of this simulation.
    assert hits / runs >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / runs)


def count_hits(statistic, truth, *, n, runs=200):
    """Return how often the interval of a statistic of normal samples holds the truth."""
    hits = 0
    for seed in range(runs):
        sample = np.random.default_rng(seed).normal(size=n)
        counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=200)
        draws = [statistic(np.repeat(sample, own)) for own in counts]
        interval = intervals.Interval.of_draws(statistic(sample), draws, n=n)
        assert interval.low <= statistic(sample) <= interval.high
        hits += interval.low <= truth <= interval.high
    return hits / runs


def test_an_interval_of_biased_draws_is_corrected():
    # A resample repeats samples, so its variance is smaller: percentiles alone hold 73 %.
    assert count_hits(np.var, 1.0, n=10) > 0.75
    # The nearest neighbours of a resample are its repeated samples: no draw reaches the estimate.
    sample = np.sort(np.random.default_rng(0).normal(size=200))
    gaps = np.diff(sample)
    draws = [
        np.diff(np.sort(np.random.default_rng(i).choice(sample, 200))).mean() for i in range(200)
    ]
    value = gaps[gaps > np.median(gaps)].mean()
    interval = intervals.Interval.of_draws(value, draws, n=200)
    assert interval.low < value < interval.high
    assert interval.high - value == pytest.approx(value - interval.low)


def test_an_interval_of_unbiased_draws_is_the_percentiles():
    draws = np.random.default_rng(0).exponential(size=2001)
    interval = intervals.Interval.of_draws(np.median(draws), draws, n=9)
    np.testing.assert_allclose(
        [interval.low, interval.high], np.quantile(draws, [0.025, 0.975]), rtol=0.01
    )


def find_lowest(draws, estimate, n):
    return intervals.compute_lowest_point(xr.Dataset({"estimate": estimate, "draws": draws}), n=n)


def test_minimum_of_a_flat_curve_is_not_called_negative():
    """All layers at zero: resampled minima all lie below zero, the interval must not."""
    draws = curves(2000)
    assert float(draws.min("layer").quantile(0.975)) < 0
    interval = find_lowest(draws, draws.mean("draw"), 100)
    assert interval.low < 0 < interval.high


@pytest.mark.parametrize("slope", [0.0, 0.02, 1.0], ids=["flat", "nearly flat", "steep"])
def test_minimum_covers_the_truth(slope):
    truth = xr.DataArray(slope * np.linspace(0, 1, 12), dims="layer")
    outside, simultaneous = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        samples = truth.values + rng.normal(size=(50, 12))
        weights = draw_bootstrap_weights(50, resamples=400, seed=seed).values
        draws = xr.DataArray(weights @ samples, dims=("draw", "layer"))
        estimate = xr.DataArray(samples.mean(0), dims="layer")
        interval = find_lowest(draws, estimate, 50)
        outside.append((interval.low > 0, interval.high < 0))
        low, _ = intervals.compute_simultaneous_band(draws, estimate=estimate)
        simultaneous.append(float(low.min()) < interval.low)
    too_high, too_low = np.mean(outside, axis=0)
    # One lower end in forty, one interval in twenty, and three standard errors.
    assert too_high <= 0.025 + 0.033
    assert too_high + too_low <= 0.05 + 0.046
    assert np.mean(simultaneous) > 0.95


def test_a_clear_minimum_is_found_with_the_width_of_one_point():
    """Its lower end does not pay for the number of points: only the lowest one can mislead it."""
    rng = np.random.default_rng(0)
    samples = 0.4 + rng.normal(size=(50, 60))
    weights = draw_bootstrap_weights(50, resamples=400, seed=0).values
    draws = xr.DataArray(weights @ samples, dims=("draw", "layer"))
    estimate = xr.DataArray(samples.mean(0), dims="layer")
    found = find_lowest(draws, estimate, 50)
    one = find_lowest(draws.isel(layer=[0]), estimate.isel(layer=[0]), 50)
    assert found.value - found.low == pytest.approx(one.value - one.low, rel=0.35)
    assert found.high - found.value > 1.3 * (found.value - found.low)


@pytest.mark.parametrize("right", [0, 37, 100])
def test_wilson_is_scipys(right):
    low, high = intervals.compute_wilson_interval(xr.DataArray([right / 100]), n=100)
    expected = binomtest(right, 100).proportion_ci(method="wilson")
    assert float(low[0]) == pytest.approx(expected.low)
    assert float(high[0]) == pytest.approx(expected.high)
