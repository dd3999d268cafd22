"""Alignment against its definition, the double loop over pairs of samples."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from madestates import make_aligned_states
from scipy.spatial.distance import cosine

from ima.errors import ParameterError, UnknownNameError
from ima.measures import alignment
from ima.stats.intervals import Interval


def loop(means, *, at_p, at_t):
    p, t = (means.sel(kind=kind).to_numpy() for kind in ("perceptual", "textual"))
    pairs = [1 - cosine(a, b) for a in p[:, at_p] for b in t[:, at_t]]
    return np.mean(pairs)


def test_both_versions_are_the_double_loop():
    means = {"a": make_aligned_states(6, seed=0), "b": make_aligned_states(4, seed=1)}
    same = alignment.compute_alignment_curve(means, resamples=3)
    start = alignment.compute_alignment_curve(means, version="input", resamples=3)
    for name, array in means.items():
        for layer in range(5):
            expected = loop(array, at_p=layer, at_t=layer)
            assert same["estimate"].sel(dataset=name, layer=layer) == pytest.approx(expected)
            expected = loop(array, at_p=0, at_t=layer)
            assert start["estimate"].sel(dataset=name, layer=layer) == pytest.approx(expected)


def test_the_ima_score_leaves_the_last_layer_out():
    curve = alignment.compute_alignment_curve({"a": make_aligned_states(30, seed=2)}, resamples=200)
    got = alignment.compute_ima_score(curve)
    assert got.value == pytest.approx(float(curve["estimate"][:, :-1].mean()))
    assert got.low < got.value < got.high
    assert got.n == 30
    rise = alignment.correlate_with_depth(curve)
    assert rise.value == pytest.approx(1)
    # Five layers in order: of random walks, which have no trend either, some are.
    assert rise.low == 0
    assert 0.1 < alignment.compute_depth_p(curve) < 0.5
    backwards = curve.isel(layer=slice(None, None, -1))
    assert alignment.correlate_with_depth(backwards).value == pytest.approx(-1)
    mean = curve["estimate"].mean("dataset")
    gain = alignment.compute_depth_rise(curve)
    assert gain.value == pytest.approx(float(mean[-1] - mean[1]))
    assert 0 < gain.low < gain.value < gain.high
    assert alignment.compute_depth_p(curve) == alignment.compute_depth_p(backwards)


def test_curves_without_an_order_are_seldom_called_ordered():
    """Random walks, known exactly: few intervals leave 0 out, where samples alone leave it all."""
    rng = np.random.default_rng(8)
    trials, out = 150, 0
    for _ in range(trials):
        values = rng.standard_normal(9).cumsum()
        exact = xr.Dataset(
            {
                "estimate": (("dataset", "layer"), values[None]),
                "draws": (("draw", "dataset", "layer"), np.stack([values[None]] * 3)),
            },
            attrs={"samples": 50},
        )
        interval = alignment.correlate_with_depth(exact)
        assert -1 <= interval.low <= interval.value <= interval.high <= 1
        out += not interval.low <= 0 <= interval.high
    assert out / trials < 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)


def test_the_interval_of_the_score_covers_the_score_of_the_population():
    population = make_aligned_states(4000, seed=3)
    truth = alignment.compute_ima_score(
        alignment.compute_alignment_curve({"a": population}, resamples=1)
    ).value
    hits = 0
    for trial in range(40):
        part = population.isel(sample=slice(trial * 100, (trial + 1) * 100))
        got = alignment.compute_ima_score(
            alignment.compute_alignment_curve({"a": part}, resamples=200, seed=trial)
        )
        hits += got.low <= truth <= got.high
    assert hits >= 34


def test_the_order_of_scores_over_steps():
    steps = {}
    for at, step in enumerate([0, 10, 40, 160]):
        # What all share makes any two more similar.
        means = make_aligned_states(30, seed=11) + 2 * at
        steps[step] = alignment.compute_alignment_curve({"a": means}, resamples=50)
    got = alignment.correlate_with_step({"run": steps})
    assert (got.value, got.n) == (1, 4)
    change = alignment.compute_training_change({"run": steps})
    scores = [alignment.compute_ima_score(steps[step]).value for step in (0, 160)]
    assert (change.value, change.n) == (pytest.approx(scores[1] - scores[0]), 30)
    assert change.low > 0
    with pytest.raises(ParameterError, match="a change needs 2"):
        alignment.compute_training_change({"run": {0: steps[0]}})
    falling = dict(zip(steps, reversed(list(steps.values())), strict=True))
    assert alignment.correlate_with_step({"run": falling}).value == -1
    assert alignment.correlate_with_step({"run": steps, "back": falling}).value == 0
    with pytest.raises(ParameterError, match="at least 3"):
        alignment.correlate_with_step({"run": {0: steps[0], 10: steps[10]}})


def test_the_layer_matrix_is_the_double_loop():
    means = make_aligned_states(5, seed=4)
    matrix = alignment.compute_cross_layer_cosine(means)
    for p in range(5):
        for t in range(5):
            expected = loop(means, at_p=p, at_t=t)
            assert matrix.sel(perceptual=p, textual=t) == pytest.approx(expected)


def test_bad_requests_are_refused():
    with pytest.raises(UnknownNameError, match="same layer"):
        alignment.compute_alignment_curve({"a": make_aligned_states(5, seed=0)}, version="output")
    with pytest.raises(ParameterError, match="No data sets"):
        alignment.compute_alignment_curve({})
    with pytest.raises(ParameterError, match="not from one language model"):
        alignment.compute_alignment_curve(
            {"a": make_aligned_states(5, seed=0), "b": make_aligned_states(5, seed=0, layers=4)}
        )


def test_the_largest_control_is_chosen_in_each_draw():
    rng = np.random.default_rng(0)

    def make_curve(score, spread):
        draws = score + spread * rng.standard_normal(4000)
        values = np.stack([np.append(score, draws), np.zeros(4001)], axis=1)[:, None]
        curve = xr.DataArray(values, dims=("draw", "dataset", "layer"))
        parts = {"estimate": curve.isel(draw=0), "draws": curve.isel(draw=slice(1, None))}
        return xr.Dataset(parts).assign_attrs(samples=9)

    own, first, second = (make_curve(*given) for given in ((0.75, 0.0), (0.25, 0.05), (0.24, 0.05)))
    margin, largest = alignment.compute_margin_over_controls(own, {"a": first, "b": second})
    assert (round(margin.value, 6), largest) == (0.5, "a")
    draws = 0.75 - np.maximum(*(each["draws"][:, 0, 0] for each in (first, second)))
    assert margin == Interval.of_draws(margin.value, draws, n=9)
    # Chosen once, the second would not matter.
    once, _ = alignment.compute_margin_over_controls(own, {"a": first})
    assert margin.value == once.value
    assert abs(margin.low - once.low) > 0.01
