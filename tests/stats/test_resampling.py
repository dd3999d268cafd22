"""Resamples: those of the plain bootstrap, made from one byte per sample."""

from __future__ import annotations

import numpy as np
import pytest

from ima.errors import ParameterError
from ima.stats import resampling


def test_counts_are_those_of_the_bootstrap_with_the_same_seed():
    counts = resampling.draw_resample_counts(37, resamples=50, seed=(3, 1))
    assert counts.dtype == np.uint8
    assert (counts[0] == 1).all()
    drawn = np.random.default_rng((3, 1)).multinomial(37, np.full(37, 1 / 37), size=50)
    np.testing.assert_array_equal(counts[1:], drawn)
    expected = resampling.draw_bootstrap_weights(37, resamples=50, seed=(3, 1)).to_numpy()
    np.testing.assert_allclose(counts[1:] / 37, expected)


def test_columns_and_products_are_those_of_the_whole_matrix(monkeypatch):
    monkeypatch.setattr(resampling, "WEIGHT_BLOCK_SIZE", 7)
    counts = resampling.draw_resample_counts(30, resamples=9, seed=0)
    weights = resampling.BootstrapWeights(counts)
    whole = counts / counts.sum(1, keepdims=True)
    assert weights.shape == (10, 30)
    assert len(weights) == 10
    rows = np.array([4, 1, 29])
    np.testing.assert_allclose(weights[:, rows], whole[:, rows])
    values = np.random.default_rng(0).standard_normal((30, 3, 2))
    np.testing.assert_allclose(weights @ values[:, 0, 0], whole @ values[:, 0, 0])
    flat = values.reshape(30, 6)
    np.testing.assert_allclose(weights @ flat, whole @ flat)


def test_a_resample_without_any_sample_takes_each_once():
    weights = resampling.BootstrapWeights(np.array([[1, 1], [0, 0], [2, 0]], np.uint8))
    np.testing.assert_allclose(weights[:, :], [[0.5, 0.5], [0.5, 0.5], [1, 0]])
    np.testing.assert_allclose(weights[2], [1, 0])
    np.testing.assert_allclose(weights[1:], [[0.5, 0.5], [1, 0]])
    with pytest.raises(ParameterError, match="got n = 0"):
        resampling.draw_resample_counts(0, resamples=1, seed=0)


def test_weights_are_resamples():
    weights = resampling.draw_bootstrap_weights(20, resamples=500, seed=1)
    assert weights.dims == ("draw", "sample")
    np.testing.assert_allclose(weights.sum("sample"), 1)
    np.testing.assert_allclose(weights * 20, np.round(weights * 20), atol=1e-9)
    assert abs(weights.std() - np.sqrt((1 - 1 / 20) / 20 / 20)) < 0.003


def test_weights_repeat_with_the_seed():
    first, again, other = (
        resampling.draw_bootstrap_weights(9, resamples=4, seed=seed) for seed in (1, 1, 2)
    )
    assert first.identical(again)
    assert not first.identical(other)


@pytest.mark.parametrize(("n", "resamples"), [(0, 10), (10, 0)])
def test_a_bootstrap_of_nothing_is_refused(n, resamples):
    with pytest.raises(ParameterError, match="needs samples and resamples"):
        resampling.draw_bootstrap_weights(n, resamples=resamples, seed=0)
