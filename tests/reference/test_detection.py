"""Detection by alignment: against scipy, scikit-learn and cases worked out by hand."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from sklearn.metrics import roc_auc_score

from ima.errors import ParameterError
from ima.measures import detection


def test_auc_is_scikit_learns_and_mann_whitneys():
    rng = np.random.default_rng(0)
    values, flags = rng.integers(0, 6, 60).astype(float), rng.random(60) < 0.4
    expected = roc_auc_score(flags, values)
    assert detection.compute_auc(values, flags) == pytest.approx(expected)
    test = stats.mannwhitneyu(values[flags], values[~flags])
    assert test.statistic / (flags.sum() * (~flags).sum()) == pytest.approx(expected)
    found = detection.evaluate_detection(values, flags, resamples=50)
    assert found.auc.value == pytest.approx(expected)
    assert found.p == pytest.approx(test.pvalue)
    assert found.flagged == flags.sum()
    assert found.difference.value == pytest.approx(values[flags].mean() - values[~flags].mean())


def test_a_shift_is_found_with_its_sign_and_none_is_not():
    rng = np.random.default_rng(1)
    flags = np.arange(200) < 80
    lower = detection.evaluate_detection(
        rng.standard_normal(200) - 2.0 * flags, flags, resamples=200
    )
    assert lower.difference.high < 0
    assert lower.auc.high < 0.5
    assert lower.difference.n == 200
    again = detection.evaluate_detection(rng.standard_normal(200), flags, resamples=200, seed=3)
    assert again.auc.low < 0.5 < again.auc.high


def test_intervals_of_nothing_hold_one_half_as_often_as_they_say():
    rng = np.random.default_rng(2)
    flags = np.arange(60) < 25
    held = [
        (
            found := detection.evaluate_detection(rng.standard_normal(60), flags, resamples=150).auc
        ).low
        <= 0.5
        <= found.high
        for _ in range(150)
    ]
    assert 0.87 <= np.mean(held) <= 1.0


def test_matched_similarity_is_the_mean_cosine_over_inner_layers():
    rng = np.random.default_rng(3)
    values = rng.standard_normal((5, 2, 4, 6)) * rng.uniform(1, 9, (5, 2, 4, 1))
    means = xr.DataArray(
        values, dims=("sample", "kind", "layer", "hidden"),
        coords={"kind": ["perceptual", "textual"], "layer": range(4)},
    )  # fmt: skip
    by_hand = [
        np.mean([
            a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            for a, b in zip(values[i, 0, :3], values[i, 1, :3], strict=True)
        ])
        for i in range(5)
    ]  # fmt: skip
    np.testing.assert_allclose(detection.compute_sample_alignment(means), by_hand)


def _arrays(samples, words, there, *, signal):
    rng = np.random.default_rng(4)
    states = rng.standard_normal((words, 2, 16))
    percepts = rng.standard_normal((samples, 2, 16))
    percepts[:, 1] += signal * there @ states[:, 1]
    dims = ("layer", "hidden")
    return (
        xr.DataArray(percepts, dims=("sample", *dims), coords={"layer": [0, 1]}),
        xr.DataArray(states, dims=("word", *dims), coords={"layer": [0, 1]}),
    )


def test_words_of_what_is_there_are_told_apart_where_percepts_hold_them():
    there = np.random.default_rng(5).random((80, 4)) < 0.4
    found = detection.compute_object_auc(*_arrays(80, 4, there, signal=2.0), there, resamples=100)
    assert found["low"].sel(layer=1) > 0.8
    assert found["low"].sel(layer=0) < 0.5 < found["high"].sel(layer=0)
    assert (found.attrs["samples"], found.attrs["words"]) == (80, 4)


def test_a_word_that_is_similar_to_everything_does_not_help():
    there = np.random.default_rng(6).random((60, 3)) < 0.5
    percepts, words = _arrays(60, 3, there, signal=1.0)
    before = detection.compute_object_auc(percepts, words, there, resamples=5)[
        "estimate"
    ].to_numpy()
    shared = percepts + 5.0 * words.isel(word=0)
    one = words.copy()
    # Scaling a word's state changes no cosine.
    one[0] *= 7.0
    np.testing.assert_allclose(
        detection.compute_object_auc(percepts, one, there, resamples=5)["estimate"], before
    )
    found = detection.compute_object_auc(
        shared.transpose(*percepts.dims), words, there, resamples=5
    )
    assert (found["estimate"] < 1).all()


def test_what_cannot_be_told_apart_is_refused():
    flags = np.array([True, False, False, False])
    with pytest.raises(ParameterError, match="at least 2 samples; got 1 flagged and 3 others"):
        detection.evaluate_detection(np.arange(4.0), flags)
    with pytest.raises(ParameterError, match="One flag a number"):
        detection.evaluate_detection(np.arange(3.0), flags)
    all_there = np.ones((6, 2), bool)
    with pytest.raises(ParameterError, match="nothing to tell apart"):
        detection.compute_object_auc(*_arrays(6, 2, all_there, signal=0.0), all_there)
    with pytest.raises(ParameterError, match="One flag a sample and word"):
        detection.compute_object_auc(*_arrays(6, 2, all_there, signal=0.0), all_there[:, :1])
