"""Rank correlations across models against scipy, on constructed cases, and under the null."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ima.errors import ParameterError, UnknownNameError
from ima.stats import correlation


@pytest.fixture
def rng() -> np.random.Generator:
    """Numbers of a test's own: what other tests drew, and in which process, changes nothing."""
    return np.random.default_rng(7)


@pytest.mark.parametrize("coefficient", correlation.RANK_COEFFICIENTS)
@pytest.mark.parametrize("count", [5, 6, 24])
def test_coefficients_and_exact_p_are_scipys(coefficient, count, rng):
    x = rng.standard_normal(count)
    y = x + rng.standard_normal(count)
    result = correlation.compute_rank_correlation(x, y, coefficient=coefficient, resamples=50)
    test = stats.spearmanr if coefficient == "spearman" else stats.kendalltau
    assert result.over_samples.value == pytest.approx(test(x, y).statistic)
    assert result.over_samples.n == result.over_models.n == count
    if count > 6:
        return

    def statistic(order):
        return test(x, order).statistic

    exact = stats.permutation_test(
        (y,), statistic, permutation_type="pairings", n_resamples=np.inf, alternative="two-sided"
    )
    # scipy doubles the smaller tail; both tails of a rank correlation mirror each other.
    assert result.p == pytest.approx(exact.pvalue, abs=1e-12)


def test_known_answers():
    line = np.arange(6.0)
    up, down = (
        correlation.compute_rank_correlation(line, side * line, resamples=50) for side in (1, -1)
    )
    assert (up.over_samples.value, down.over_samples.value) == (1.0, -1.0)
    assert up.p == down.p == pytest.approx(2 / 720)
    tied = correlation.compute_rank_correlation(
        line, np.array([0.0, 0, 0, 1, 1, 1]), coefficient="kendall", resamples=9
    )
    assert tied.over_samples.value == pytest.approx(9 / np.sqrt(15 * 9))
    assert tied.p == pytest.approx(2 / 20)


@pytest.mark.parametrize("coefficient", correlation.RANK_COEFFICIENTS)
def test_the_rate_of_false_alarms_is_the_one_that_is_promised(coefficient, rng):
    """Without an association p falls to a level as often as the level says."""
    pairs = rng.standard_normal((1000, 2, 6))
    p = np.array(
        [correlation.compute_permutation_p(x, y, coefficient=coefficient) for x, y in pairs]
    )
    # The p-values of six points are steps: a level that is one of them is met exactly.
    for level in (max(p[p <= 0.05]), max(p[p <= 0.3])):
        rate = np.mean(p <= level + 1e-9)
        assert abs(rate - level) < 4 * np.sqrt(level * (1 - level) / len(p))
        assert level <= 0.3


def test_random_orders_agree_with_all(monkeypatch, rng):
    x, y = rng.standard_normal((2, 7))
    exact = correlation.compute_permutation_p(x, y)
    monkeypatch.setattr(correlation, "MAX_EXACT_ORDERS", 1)
    assert correlation.compute_permutation_p(x, y, seed=1) == pytest.approx(exact, abs=0.02)
    assert correlation.compute_permutation_p(x, y, seed=1) == correlation.compute_permutation_p(
        x, y, seed=1
    )


def test_intervals_tell_samples_and_models_apart(rng):
    """Numbers that are known exactly have no uncertainty from samples, but still from models."""
    x = np.arange(12.0)
    y = x + rng.standard_normal(12) * 3
    exact = correlation.compute_rank_correlation(
        np.tile(x, (101, 1)), np.tile(y, (101, 1)), resamples=300
    )
    assert exact.over_samples.low == exact.over_samples.high == exact.over_samples.value
    assert exact.over_models.low < exact.over_models.value
    noise = rng.standard_normal((100, 12)) * 5
    loose = correlation.compute_rank_correlation(
        np.vstack([x, x + noise]), np.tile(y, (101, 1)), resamples=300
    )
    assert loose.over_samples.low < exact.over_samples.low


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.arange(4.0), np.arange(4.0), "at least 5; got 4"),
        (np.arange(5.0), np.arange(4.0), "same models and draws"),
        (np.array([0, 1, 2, 3, np.nan]), np.arange(5.0), "missing or not finite"),
        (np.ones(5), np.arange(5.0), "the same for all models"),
    ],
)
def test_what_has_no_correlation_is_refused(x, y, message):
    with pytest.raises(ParameterError, match=message):
        correlation.compute_rank_correlation(x, y)


def test_an_unknown_coefficient_is_refused():
    with pytest.raises(UnknownNameError, match="Available: kendall, spearman"):
        correlation.compute_rank_correlation(np.arange(4.0), np.arange(4.0), coefficient="pearson")


@pytest.mark.parametrize("coefficient", correlation.RANK_COEFFICIENTS)
@pytest.mark.parametrize("ties", [False, True])
def test_many_correlations_at_once_are_scipys_one_by_one(coefficient, ties, rng):
    x, y = rng.normal(size=(2, 40, 9))
    if ties:
        x, y = x.round(0), y.round(0)
    varied = (np.ptp(x, axis=1) > 0) & (np.ptp(y, axis=1) > 0)
    result = correlation.correlate_rows(x[varied], y[varied], coefficient=coefficient)
    test = {"spearman": stats.spearmanr, "kendall": stats.kendalltau}[coefficient]
    expected = [test(a, b).statistic for a, b in zip(x[varied], y[varied], strict=True)]
    np.testing.assert_allclose(result, expected, atol=1e-12)


@pytest.mark.parametrize("coefficient", correlation.RANK_COEFFICIENTS)
def test_equal_rows_correlate_to_equal_bits(coefficient, rng):
    """The value of some models and those of their resamples are one number, not two roundings."""
    for count in range(4, 30):
        x, y = rng.normal(size=(2, 1, count))
        alone = correlation.correlate_rows(x, y, coefficient=coefficient)
        many = correlation.correlate_rows(x.repeat(7, 0), y.repeat(7, 0), coefficient=coefficient)
        assert set(many) == set(alone)
        assert abs(alone[0]) <= 1
