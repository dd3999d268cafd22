"""The least change over treatments: the minimum, and an interval that one bad treatment moves."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from ima.measures.treated_alignment import compute_least_depth_rise, compute_least_score_change


def make_curve(values, *, seed=0, spread=0.01, draws=400):
    """Return a curve of one data set with noisy draws around its values."""
    noise = np.random.default_rng(seed).normal(size=(draws, 1, len(values))) * spread
    estimate = xr.DataArray([values], {"layer": range(len(values))}, ("dataset", "layer"))
    curve = xr.Dataset(
        {
            "estimate": estimate,
            "draws": estimate + xr.DataArray(noise, dims=("draw", "dataset", "layer")),
        }
    )
    return curve.assign_attrs(samples=30)


def test_the_least_rise_is_that_of_the_worst_treatment():
    curves = {"a": make_curve([0.0, 0.1, 0.9], seed=1), "b": make_curve([0.0, 0.2, 0.3], seed=2)}
    least = compute_least_depth_rise(curves)
    assert least.value == pytest.approx(0.1)
    assert 0.05 < least.low < least.value < least.high < 0.15
    assert least.n == 30
    # A treatment that reverses the sign takes the support away.
    reversed_ = compute_least_depth_rise({**curves, "c": make_curve([0.0, 0.4, 0.2], seed=3)})
    assert reversed_.high < 0


def test_the_interval_covers_the_minimum_and_is_not_biased_down():
    """Three treatments without any change: the interval of the minimum holds zero."""
    held = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        curves = {
            name: make_curve([0.0, 0.0, rng.normal() * 0.0141], seed=100 * seed + place)
            for place, name in enumerate("abc")
        }
        least = compute_least_depth_rise(curves)
        held += least.low <= 0 <= least.high
    assert held >= 93


def test_the_least_change_leaves_the_last_layer_out():
    before, after = make_curve([0.1, 0.3, 0.9], seed=1), make_curve([0.5, 0.7, 0.0], seed=2)
    weak = make_curve([0.2, 0.3, 0.9], seed=3)
    least = compute_least_score_change({"a": (before, after), "b": (before, weak)})
    assert least.value == pytest.approx(0.05)
    assert least.low < 0.05 < least.high
