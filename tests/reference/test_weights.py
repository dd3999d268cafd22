"""Weights of resamples: those of the plain bootstrap, made from a byte for each sample."""

import numpy as np
import pytest

from ima.errors import ParameterError
from ima.stats import resampling
from ima.stats.resampling import draw_bootstrap_weights


def test_counts_are_those_of_the_bootstrap_with_the_same_seed():
    counts = resampling.draw_resample_counts(37, resamples=50, seed=(3, 1))
    assert counts.dtype == np.uint8
    assert (counts[0] == 1).all()
    drawn = np.random.default_rng((3, 1)).multinomial(37, np.full(37, 1 / 37), size=50)
    np.testing.assert_array_equal(counts[1:], drawn)
    expected = draw_bootstrap_weights(37, resamples=50, seed=(3, 1)).to_numpy()
    np.testing.assert_allclose(counts[1:] / 37, expected)


def test_columns_and_products_are_those_of_the_whole_matrix(monkeypatch):
    monkeypatch.setattr(resampling, "BLOCK", 7)
    counts = resampling.draw_resample_counts(30, resamples=9, seed=0)
    held = resampling.BootstrapWeights(counts)
    whole = counts / counts.sum(1, keepdims=True)
    assert held.shape == (10, 30)
    assert len(held) == 10
    rows = np.array([4, 1, 29])
    np.testing.assert_allclose(held[:, rows], whole[:, rows])
    values = np.random.default_rng(0).standard_normal((30, 3, 2))
    np.testing.assert_allclose(held @ values[:, 0, 0], whole @ values[:, 0, 0])
    flat = values.reshape(30, 6)
    np.testing.assert_allclose(held @ flat, whole @ flat)


def test_a_resample_without_any_sample_takes_each_once():
    held = resampling.BootstrapWeights(np.array([[1, 1], [0, 0], [2, 0]], np.uint8))
    np.testing.assert_allclose(held[:, :], [[0.5, 0.5], [0.5, 0.5], [1, 0]])
    np.testing.assert_allclose(held[2], [1, 0])
    np.testing.assert_allclose(held[1:], [[0.5, 0.5], [1, 0]])
    with pytest.raises(ParameterError, match="got n = 0"):
        resampling.draw_resample_counts(0, resamples=1, seed=0)
