"""Mean scores and their intervals."""

import numpy as np
import pytest

from ima.errors import ParameterError
from ima.stats.scores import (
    compute_crossed_score,
    compute_mean_score,
    compute_pooled_score,
    compute_score_gain,
)


@pytest.mark.parametrize("values", [[0, 1], [0.25, 0.75]])
def test_intervals_hold_the_mean_and_shrink_with_n(values):
    few, many = compute_mean_score(values * 10), compute_mean_score(values * 1000)
    assert few.low < 0.5 < few.high
    assert many.high - many.low < few.high - few.low
    assert compute_mean_score(values * 10, seed=1) == compute_mean_score(values * 10, seed=1)


def test_a_perfect_score_is_not_certain():
    assert compute_mean_score([1.0] * 20).low < compute_mean_score([1.0] * 200).low < 1
    assert compute_mean_score([0.0] * 20).high > 0


def test_scores_without_a_difference_are_not_certainly_equal():
    for value in (0.0, 1.0, 0.25):
        none = compute_score_gain([value] * 50, [value] * 50)
        assert (none.value, none.n) == (0.0, 50)
        # As many samples could differ, unseen, as could lie beside a perfect score.
        assert none.high == -none.low == pytest.approx(1 - compute_mean_score([1.0] * 50).low)
    every = compute_score_gain([1.0] * 50, [0.0] * 50)
    assert every.high == every.value == 1.0
    assert 1.0 - every.low == pytest.approx(2 * none.high)
    # What lies between no bounds is as it was resampled.
    losses = compute_score_gain([3.0] * 50, [3.0] * 50)
    assert (losses.low, losses.high) == (0.0, 0.0)
    some = compute_score_gain([1.0] * 10 + [0.0] * 40, [0.0] * 50)
    assert 0 < some.low < some.value == 0.2 < some.high


@pytest.mark.parametrize(
    ("first", "second"), [([1, 0, 1], [1]), ([], []), (0.5, 0.25), ([[1, 0]], [[0, 0]])]
)
def test_unpaired_scores_have_no_difference(first, second):
    with pytest.raises(ParameterError, match=r"two scores of each sample.*got arrays of shape \("):
        compute_score_gain(first, second)


def test_no_values_no_score():
    with pytest.raises(ParameterError, match="at least one sample; got none"):
        compute_mean_score([])


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_a_ratio_of_nothing_is_refused():
    with pytest.raises(ParameterError, match="finite numbers; got nan"):
        compute_pooled_score(np.zeros((3, 2)), lambda sums: sums[..., 0] / sums[..., 1])


def test_a_crossed_score_is_the_mean_of_the_measured_cells():
    values = np.array([[1.0, np.nan, 3.0], [np.nan, 2.0, 5.0]])
    score = compute_crossed_score(values, resamples=50)
    assert (score.value, score.n) == (2.75, 2)
    assert score == compute_crossed_score(values, resamples=50)
    with pytest.raises(ParameterError, match="at least one draw; got 3 values of shape"):
        compute_crossed_score(np.vstack([values[0], values[1] * np.nan, [0, np.nan, np.nan]]))


@pytest.mark.parametrize("turns", [1, 4])
def test_a_crossed_score_speaks_of_other_samples_and_other_draws(turns):
    """With effects of samples and of draws, resampling samples alone misses the mean too often."""
    rng = np.random.default_rng(0)
    hits = {"crossed": 0, "samples": 0}
    for _ in range(200):
        values = rng.normal(size=(40, 1)) + rng.normal(size=(1, 20)) + rng.normal(size=(40, 20))
        values[(np.arange(40)[:, None] - np.arange(20)) % turns != 0] = np.nan
        crossed = compute_crossed_score(values, resamples=200)
        samples = compute_mean_score(np.nanmean(values, axis=1), resamples=200)
        for name, own in (("crossed", crossed), ("samples", samples)):
            hits[name] += own.low <= 0 <= own.high
    assert hits["crossed"] / 200 > 0.9
    assert hits["samples"] / 200 < 0.85


def test_samples_of_one_content_are_one_unit():
    rng = np.random.default_rng(0)
    by_content = rng.normal(size=(40, 1)).repeat(5, axis=1)
    contents = [f"content {number}" for number in range(40) for _ in range(5)]
    for own in (by_content, by_content > 0):
        once = compute_mean_score(own[:, 0])
        score = compute_mean_score(own.ravel(), contents=contents)
        assert (score.value, score.n) == (pytest.approx(once.value), 40)
        assert score.high - score.low == pytest.approx(once.high - once.low, rel=0.15)
        others = np.zeros(200)
        gain = compute_score_gain(own.ravel(), others, contents=contents)
        pooled = compute_pooled_score(
            np.stack([own.ravel(), 1 + others], axis=1),
            lambda sums: sums[..., 0] / sums[..., 1],
            contents=contents,
        )
        crossed = compute_crossed_score(own.reshape(200, 1) + 0.0, contents=contents)
        for interval in (gain, pooled, crossed):
            assert interval.n == 40
            assert interval.high - interval.low == pytest.approx(once.high - once.low, rel=0.15)


def test_contents_that_do_not_repeat_change_nothing():
    values = np.random.default_rng(1).random(30)
    names = [f"content {number}" for number in range(30)]
    for score in (
        compute_mean_score,
        lambda own, **given: compute_score_gain(own, 1 - own, **given),
    ):
        for own in (values, (values > 0.5).astype(float)):
            assert score(own, contents=names) == score(own)


def test_the_samples_of_a_perfect_score_are_as_many_as_its_contents():
    twice = compute_mean_score([1.0] * 40, contents=[str(number // 2) for number in range(40)])
    assert twice == compute_mean_score([1.0] * 20)
    none = compute_score_gain([1.0] * 40, [1.0] * 40, contents=[str(n // 2) for n in range(40)])
    assert none == compute_score_gain([1.0] * 20, [1.0] * 20)


def test_each_sample_has_one_content():
    with pytest.raises(ParameterError, match="Each of 3 samples has one content; got 2"):
        compute_mean_score([0.0, 1.0, 0.5], contents=["a", "b"])
