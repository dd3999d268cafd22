"""Controls compared: the largest is chosen in each draw, over pairs of different samples."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from madestates import make_aligned_states
from scipy.spatial.distance import cosine

from ima.errors import ParameterError
from ima.measures import control_comparison
from ima.measures.control_comparison import SEPARATED, UNCHANGED
from ima.stats.intervals import Interval


def label(values):
    return xr.DataArray(values, dims=("sample", "other"))


def draw(noise, random):
    """Label the cosines of both controls, ``(draw, sample, other)`` each."""
    return xr.DataArray(
        np.stack([noise, random]),
        dims=("control", "draw", "sample", "other"),
        coords={"control": ["noise", "random blocks"]},
    )


def make_cosines(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape) * 0.1


def loop(cosines):
    n = len(cosines)
    return np.mean([cosines[i, j] for i in range(n) for j in range(n) if i != j])


def test_the_largest_control_is_chosen_in_each_resample():
    rng = np.random.default_rng(0)

    def make_curve(score, spread):
        draws = score + spread * rng.standard_normal(4000)
        values = np.stack([np.append(score, draws), np.zeros(4001)], axis=1)[:, None]
        curve = xr.DataArray(values, dims=("draw", "dataset", "layer"))
        parts = {"estimate": curve.isel(draw=0), "draws": curve.isel(draw=slice(1, None))}
        return xr.Dataset(parts).assign_attrs(samples=9)

    own, first, second = (make_curve(*given) for given in ((0.75, 0.0), (0.25, 0.05), (0.24, 0.05)))
    controls = {"noise": first, SEPARATED: second}
    margin, largest = control_comparison.compute_margin_over_controls(own, controls)
    assert (round(margin.value, 6), largest) == (0.5, "noise")
    draws = 0.75 - np.maximum(*(each["draws"][:, 0, 0] for each in (first, second)))
    assert margin == Interval.of_draws(margin.value, draws, n=9)
    # Chosen once, the second would not matter.
    once, _ = control_comparison.compute_margin_over_controls(own, {"noise": first})
    assert margin.value == once.value
    assert abs(margin.low - once.low) > 0.01


def test_pair_cosines_are_the_loop_over_pairs_and_layers():
    means = make_aligned_states(4, seed=1).assign_coords(id=("sample", list("abcd")))
    cosines = control_comparison.compute_pair_cosines(means)
    p, t = (means.sel(kind=kind).to_numpy() for kind in ("perceptual", "textual"))
    for i in range(4):
        for j in range(4):
            expected = np.mean([1 - cosine(p[i, at], t[j, at]) for at in range(4)])  # of five
            assert cosines[i, j] == pytest.approx(expected)
    assert cosines["id"].values.tolist() == list("abcd")


def test_scores_of_draws_are_means_over_different_samples_and_data_sets():
    own = {name: make_cosines(5, 5, seed=at) for at, name in enumerate("ab")}
    drawn = {name: make_cosines(2, 3, 5, 5, seed=9 + at) for at, name in enumerate("ab")}
    fixed = {UNCHANGED: {name: label(values) for name, values in own.items()}}
    fixed[SEPARATED] = {name: label(values + 1) for name, values in own.items()}
    labelled = {name: draw(*values) for name, values in drawn.items()}
    scores = control_comparison.compute_draw_scores(fixed, labelled, resamples=4)
    got = scores["estimate"]
    expected = np.mean([loop(own[name]) for name in "ab"])
    np.testing.assert_allclose(got.sel(condition=UNCHANGED), expected)
    np.testing.assert_allclose(got.sel(condition=SEPARATED), expected + 1)
    for control, name in enumerate(("noise", "random blocks")):
        for at in range(3):
            expected = np.mean([loop(drawn[key][control, at]) for key in "ab"])
            assert got.sel(condition=name)[at] == pytest.approx(expected)
    # Matched pairs count in no resample.
    for values in own.values():
        np.fill_diagonal(values, 7.0)
    again = control_comparison.compute_draw_scores(fixed, labelled, resamples=4)
    xr.testing.assert_allclose(again, scores)


def test_the_margin_takes_the_largest_control_of_each_draw():
    same = np.ones((4, 4))
    noise, random = ([0.1, 0.6, 0.2], [0.5, 0.1, 0.3])
    scores = control_comparison.compute_draw_scores(
        {UNCHANGED: {"a": label(same * 0.5)}, SEPARATED: {"a": label(same * 0.4)}},
        {"a": draw(*(np.multiply.outer(values, same) for values in (noise, random)))},
    )
    margin = control_comparison.compute_margin_over_draws(scores)
    # Over 0.5, 0.6 and, where both draws are low, 0.4.
    assert (round(margin.value, 9), margin.n) == (0.0, 3)
    assert round(margin.low, 9) == -0.1
    assert round(margin.high, 9) == 0.1
    assert control_comparison.compute_draw_p(scores) == {"noise": 0.5, "random blocks": 0.5}
    assert control_comparison.describe_draw_scores(scores) == (
        "The IMA score, 0.500, is above 2 of 3 draws of noise inputs, above 2 of 3 draws of random "
        "weights and above the score with blocked attention, 0.400."
    )


def test_a_model_above_all_draws_has_the_smallest_p():
    same = np.ones((4, 4))
    draws = make_cosines(2, 50, seed=3)[..., None, None] * same
    scores = control_comparison.compute_draw_scores(
        {UNCHANGED: {"a": label(same * 0.9)}}, {"a": draw(*draws)}
    )
    p = control_comparison.compute_draw_p(scores)
    assert p == {"noise": 1 / 51, "random blocks": 1 / 51}
    margin = control_comparison.compute_margin_over_draws(scores)
    np.testing.assert_allclose(margin.value, 0.9 - np.median(draws.max(axis=0)[:, 0, 0]))
    assert (margin.n, margin.low > 0.5) == (50, True)


def test_the_interval_covers_both_the_draws_and_the_contents():
    """Draws that hardly differ leave the spread of contents; contents that agree, that of draws."""
    of_texts = make_cosines(40, seed=4) * 6  # what a text adds to its similarity with any percepts
    contents = np.broadcast_to(of_texts, (40, 40))
    still = np.zeros((2, 60, 40, 40))

    def measure(own, drawn):
        scores = control_comparison.compute_draw_scores(
            {UNCHANGED: {"a": label(own)}}, {"a": drawn}
        )
        return control_comparison.compute_margin_over_draws(scores)

    over_contents = measure(contents, draw(*still))
    expected = 2 * 1.96 * of_texts.std() / np.sqrt(40)
    assert over_contents.high - over_contents.low == pytest.approx(expected, rel=0.15)
    moved = make_cosines(60, seed=5)
    drawn = draw(*np.broadcast_to(moved[:, None, None], (2, 60, 40, 40)))
    over_draws = measure(np.zeros((40, 40)), drawn)
    assert [over_draws.low, over_draws.high] == pytest.approx(
        np.quantile(-moved, [0.025, 0.975]), abs=0.02
    )
    both = measure(contents, drawn)
    assert both.high - both.low > over_draws.high - over_draws.low


def test_resamples_are_of_contents_and_have_two_of_them():
    ids = {"id": ("sample", ["cat", "dog", "owl"])}
    given = {
        name: draw(*make_cosines(2, 30, 3, 3, seed=at)).assign_coords(ids)
        for at, name in enumerate("ab")
    }
    fixed = {UNCHANGED: {name: label(make_cosines(3, 3)).assign_coords(ids) for name in "ab"}}
    scores = control_comparison.compute_draw_scores(fixed, given, resamples=50)
    assert np.isfinite(scores["resampled"]).all()
    # One content drawn alone has no pair: two of three have one value each way, three have a mean.
    values = np.unique(scores["resampled"].sel(condition=UNCHANGED).round(9))
    assert len(values) < 30
    few = {name: array.isel(sample=[0, 1], other=[0, 1]) for name, array in given.items()}
    with pytest.raises(
        ParameterError, match="at least 3 samples of each data set in a draw; got 2"
    ):
        control_comparison.compute_draw_scores(fixed, few)
