"""Alignment against its definition, the double loop over pairs of samples."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from madestates import make_aligned_states
from scipy.spatial.distance import cosine

from ima.errors import ParameterError, UnknownNameError
from ima.measures import alignment
from ima.measures.treated_alignment import average_runs


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


def loop_matched(means, *, at):
    p, t = (means.sel(kind=kind).to_numpy()[:, at] for kind in ("perceptual", "textual"))
    return np.mean([1 - cosine(a, b) for a, b in zip(p, t, strict=True)])


def test_the_gain_of_matched_pairs_is_the_double_loop():
    means = {"a": make_aligned_states(6, seed=0), "b": make_aligned_states(4, seed=1)}
    gain = alignment.compute_alignment_curve(means, pairs="matched minus all", resamples=3)
    for name, array in means.items():
        for layer in range(5):
            expected = loop_matched(array, at=layer) - loop(array, at_p=layer, at_t=layer)
            assert gain["estimate"].sel(dataset=name, layer=layer) == pytest.approx(expected)


def test_a_shared_direction_raises_the_curve_but_not_the_gain_of_matched_pairs():
    """What F3.1 tests: states that only grow more alike, whatever they show, align no pair."""
    rng = np.random.default_rng(5)
    values = rng.normal(size=(200, 2, 5, 7))
    values += 2 * np.arange(5)[:, None]
    states = xr.DataArray(
        values,
        dims=("sample", "kind", "layer", "hidden"),
        coords={"kind": ["perceptual", "textual"], "layer": range(5)},
    )
    rises = {
        pairs: alignment.compute_depth_rise(
            alignment.compute_alignment_curve({"a": states}, pairs=pairs, resamples=200)
        )
        for pairs in alignment.ALIGNMENT_PAIRS
    }
    assert rises["all"].low > 0.1
    assert rises["matched minus all"].low < 0 < rises["matched minus all"].high
    assert rises["matched minus all"].high < 0.1
    paired = make_aligned_states(200, seed=5)
    gain = alignment.compute_alignment_curve(
        {"a": paired}, pairs="matched minus all", resamples=200
    )
    assert alignment.compute_depth_rise(gain).low > 0.05


def test_the_interval_of_the_gain_covers_the_gain_of_the_population():
    def measure(states, **settings):
        gain = alignment.compute_alignment_curve(
            {"a": states}, pairs="matched minus all", **settings
        )
        return alignment.compute_depth_rise(gain)

    population = make_aligned_states(4000, seed=3)
    truth = measure(population, resamples=1).value
    hits = 0
    for trial in range(40):
        part = population.isel(sample=slice(trial * 100, (trial + 1) * 100))
        got = measure(part, resamples=200, seed=trial)
        hits += got.low <= truth <= got.high
    assert hits >= 34


def test_changes_are_described_by_direction_and_size():
    def make_curve(*values):
        own = xr.DataArray([values], {"layer": range(len(values))}, ("dataset", "layer"))
        return xr.Dataset({"estimate": own, "draws": own.expand_dims("draw")})

    falling, flat = make_curve(0.9, 0.5, 0.25), make_curve(0.9, 0.5, 0.5)
    assert alignment.describe_depth_rise(falling, quantity="It") == (
        "It falls from 0.500 at layer 1 to 0.250 at layer 2."
    )
    assert alignment.describe_depth_rise(flat) == (
        "PvsT is the same at layer 1 and at layer 2: 0.500."
    )
    runs = {"a": {0: flat, 9: falling}, "b": {0: make_curve(0.0, 0.0, 0.0), 9: falling}}
    assert alignment.describe_training_change(runs, quantity="it") == (
        "Over 2 runs, it rises from 0.350 before training to 0.700 after it."
    )


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


def test_a_content_that_several_runs_read_counts_once():
    runs = {}
    for name, contents in {"caption": range(30), "qa": range(30), "sounds": range(90, 120)}.items():
        means = make_aligned_states(30, seed=11).assign_coords(id=("sample", list(contents)))
        start, end = (
            alignment.compute_alignment_curve({name: each}, resamples=20)
            for each in (means, means + 2)
        )
        runs[name] = {0: start, 10: end}
    assert alignment.compute_training_change(runs).n == 60
    pairs = [{"raw": (steps[0], steps[10])} for steps in runs.values()]
    assert [side.attrs["samples"] for side in average_runs(pairs)["raw"]] == [60, 60]


def test_two_scores_are_compared_with_contents_drawn_together():
    rows = np.repeat(np.arange(10), 3)
    means = make_aligned_states(10, seed=2).isel(sample=rows).assign_coords(id=("sample", rows))
    first, second = (
        alignment.compute_alignment_curve({"a": each}, resamples=50) for each in (means, means + 1)
    )
    found = alignment.compare_ima_scores(second, first)
    assert {own.n for own in found.values()} == {10}
    for name, curve in (("first", second), ("second", first)):
        assert found[name] == alignment.compute_ima_score(curve)
    gap = found["difference"]
    assert gap.value == pytest.approx(found["first"].value - found["second"].value)
    draws = [alignment.compute_ima_score_draws(curve)[1] for curve in (second, first)]
    assert gap.low == pytest.approx(np.quantile(draws[0] - draws[1], 0.025), rel=0.1)


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
    with pytest.raises(UnknownNameError, match="matched minus all"):
        alignment.compute_alignment_curve({"a": make_aligned_states(5, seed=0)}, pairs="matched")
    with pytest.raises(ParameterError, match="No data sets"):
        alignment.compute_alignment_curve({})
    with pytest.raises(ParameterError, match="not from one language model"):
        alignment.compute_alignment_curve(
            {"a": make_aligned_states(5, seed=0), "b": make_aligned_states(5, seed=0, layers=4)}
        )
