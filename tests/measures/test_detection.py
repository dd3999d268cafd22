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
    result = detection.evaluate_detection(values, flags, resamples=50)
    assert result.auc.value == pytest.approx(expected)
    assert result.p == pytest.approx(test.pvalue)
    assert result.flagged == flags.sum()
    assert result.difference.value == pytest.approx(values[flags].mean() - values[~flags].mean())


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


def test_intervals_cover_one_half_where_there_is_no_effect():
    rng = np.random.default_rng(2)
    flags = np.arange(60) < 25
    covered = [
        (
            result := detection.evaluate_detection(
                rng.standard_normal(60), flags, resamples=100
            ).auc
        ).low
        <= 0.5
        <= result.high
        for _ in range(100)
    ]
    assert 0.87 <= np.mean(covered) <= 1.0


def test_sample_alignment_is_the_mean_cosine_over_inner_layers():
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


def _arrays(samples, words, present, *, signal):
    rng = np.random.default_rng(4)
    states = rng.standard_normal((words, 2, 16))
    tokens = rng.standard_normal((samples, 2, 16))
    tokens[:, 1] += signal * present @ states[:, 1]
    dims = ("layer", "hidden")
    return (
        xr.DataArray(tokens, dims=("sample", *dims), coords={"layer": [0, 1]}),
        xr.DataArray(states, dims=("word", *dims), coords={"layer": [0, 1]}),
    )


def test_words_of_present_objects_are_separated_where_tokens_contain_them():
    present = np.random.default_rng(5).random((80, 4)) < 0.4
    result = detection.compute_object_auc(
        *_arrays(80, 4, present, signal=2.0), present, resamples=100
    )
    assert result["low"].sel(layer=1) > 0.8
    assert result["low"].sel(layer=0) < 0.5 < result["high"].sel(layer=0)
    assert (result.attrs["samples"], result.attrs["words"]) == (80, 4)


def test_the_length_of_a_words_state_does_not_matter():
    present = np.random.default_rng(6).random((60, 3)) < 0.5
    tokens, words = _arrays(60, 3, present, signal=1.0)
    scaled = words.copy()
    scaled[0] *= 7.0
    before, after = (
        detection.compute_object_auc(tokens, states, present, resamples=5)["estimate"]
        for states in (words, scaled)
    )
    np.testing.assert_allclose(after, before)


def test_what_cannot_be_separated_is_refused():
    flags = np.array([True, False, False, False])
    with pytest.raises(ParameterError, match="at least 2 samples; got 1 flagged and 3 others"):
        detection.evaluate_detection(np.arange(4.0), flags)
    with pytest.raises(ParameterError, match="Each number needs one flag"):
        detection.evaluate_detection(np.arange(3.0), flags)
    everywhere = np.ones((6, 2), bool)
    with pytest.raises(ParameterError, match="nothing to separate"):
        detection.compute_object_auc(*_arrays(6, 2, everywhere, signal=0.0), everywhere)
    with pytest.raises(ParameterError, match="Each sample and word needs one flag"):
        detection.compute_object_auc(*_arrays(6, 2, everywhere, signal=0.0), everywhere[:, :1])
