"""Means over contents and random choices: coverage in simulations, and known special cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ima.errors import ParameterError
from ima.pruning.random_choices import deal_choices
from ima.stats.crossed import compute_crossed_interval
from ima.stats.intervals import Interval
from ima.stats.resampling import draw_bootstrap_weights

TASKS = {"caption": "pictures", "qa": "pictures", "speech": "sounds", "music": "sounds"}


def simulate(rng, dealt, *, content, choice, own_choice, noise):
    """Draw scores of mean 0: contents that two tasks share, choices that all share."""
    count, choices = next(iter(dealt.values())).shape
    contents = {world: rng.normal(size=(count, 1)) for world in set(TASKS.values())}
    shared = rng.normal(size=choices)
    return {
        name: np.where(
            dealt[name],
            content * contents[world]
            + choice * shared
            + own_choice * rng.normal(size=choices)
            + noise * rng.normal(size=(count, choices)),
            np.nan,
        )
        for name, world in TASKS.items()
    }


def bootstrap_contents(values, *, ids):
    """Return the interval with contents resampled and choices averaged before."""
    means = {name: np.nanmean(own, axis=1) for name, own in values.items()}
    weights = {
        contents: draw_bootstrap_weights(len(contents), resamples=200, seed=at).to_numpy()
        for at, contents in enumerate(dict.fromkeys(ids.values()))
    }
    draws = np.mean([weights[ids[name]] @ own for name, own in means.items()], axis=0)
    value = float(np.mean([own.mean() for own in means.values()]))
    return Interval.of_draws(value, draws, n=len(ids))


@pytest.mark.parametrize(
    ("effects", "masks_matter"),
    [
        ({"content": 1.0, "choice": 0.0, "own_choice": 0.0, "noise": 0.1}, False),
        ({"content": 0.0, "choice": 0.0, "own_choice": 0.0, "noise": 1.0}, False),
        ({"content": 0.5, "choice": 0.5, "own_choice": 0.0, "noise": 0.5}, True),
        ({"content": 0.3, "choice": 0.3, "own_choice": 1.0, "noise": 0.3}, True),
    ],
)
def test_the_interval_covers_the_mean_whether_contents_or_choices_vary(effects, masks_matter):
    rng = np.random.default_rng(0)
    dealt = deal_choices(dict.fromkeys(TASKS, 24), choices=20)
    ids = {name: tuple(f"{world}{at}" for at in range(24)) for name, world in TASKS.items()}
    drawn = [simulate(rng, dealt, **effects) for _ in range(400)]
    two_ways = [compute_crossed_interval(values, ids=ids) for values in drawn]
    covered = np.mean([one.low <= 0 <= one.high for one in two_ways])
    assert 0.92 <= covered <= 0.995
    if masks_matter:  # To resample contents alone is to take the masks that were drawn for all.
        one_way = [bootstrap_contents(values, ids=ids) for values in drawn[:100]]
        assert np.mean([one.low <= 0 <= one.high for one in one_way]) < 0.75


def test_where_all_choices_agree_the_interval_is_that_of_contents():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=30)
    values = {"qa": np.repeat(scores[:, None], 40, axis=1)}
    interval = compute_crossed_interval(values, ids={"qa": [str(at) for at in range(30)]})
    low, high = stats.ttest_1samp(scores, 0).confidence_interval()
    assert (interval.value, interval.n) == (pytest.approx(scores.mean()), 30)
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=0.03)


def test_where_all_contents_agree_the_interval_is_that_of_choices():
    rng = np.random.default_rng(2)
    scores = rng.normal(size=20)
    values = {"qa": np.repeat(scores[None], 60, axis=0)}
    interval = compute_crossed_interval(values, ids={"qa": [str(at) for at in range(60)]})
    low, high = stats.ttest_1samp(scores, 0).confidence_interval()
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=0.03)


def test_data_sets_of_the_same_contents_count_once():
    rng = np.random.default_rng(3)
    scores = np.repeat(rng.normal(size=(30, 1)), 40, axis=1)
    ids, more = ([f"{name}{at}" for at in range(30)] for name in "ab")
    once = compute_crossed_interval({"a": scores}, ids={"a": ids})
    shared = compute_crossed_interval({"a": scores, "b": scores}, ids={"a": ids, "b": ids})
    apart = compute_crossed_interval({"a": scores, "b": scores}, ids={"a": ids, "b": more})
    assert (once.n, shared.n, apart.n) == (30, 30, 60)
    assert shared.high - shared.low == pytest.approx(once.high - once.low, rel=0.01)
    assert apart.high - apart.low < 0.8 * (shared.high - shared.low)


def test_samples_of_one_content_are_one_unit():
    rng = np.random.default_rng(4)
    by_content = rng.random((20, 1, 1)) + 0.1 * rng.random((20, 5, 12))
    ids = [str(at) for at in range(20)]
    once = compute_crossed_interval({"qa": by_content.mean(axis=1)}, ids={"qa": ids})
    rows = by_content.reshape(100, 12)
    repeated = compute_crossed_interval({"qa": rows}, ids={"qa": np.repeat(ids, 5)})
    assert repeated.n == 20
    assert (repeated.low, repeated.high) == pytest.approx((once.low, once.high))
    # Another data set asks about the same contents in another order, and some more often.
    beside = {"qa": rows, "caption": rows[::-1][:95]}
    shared = compute_crossed_interval(
        beside, ids={"qa": np.repeat(ids, 5), "caption": np.repeat(ids, 5)[::-1][:95]}
    )
    assert shared.n == 20
    assert shared.high - shared.low == pytest.approx(once.high - once.low, rel=0.1)


def test_one_choice_or_content_is_refused():
    values = {"qa": np.full((3, 4), np.nan)}
    values["qa"][:, 2] = 1.0
    with pytest.raises(ParameterError, match="qa has values of 3 contents under 1 choices"):
        compute_crossed_interval(values, ids={"qa": list("abc")})
    with pytest.raises(ParameterError, match="qa has values of 1 contents under 4 choices"):
        compute_crossed_interval({"qa": np.ones((3, 4))}, ids={"qa": list("aaa")})
