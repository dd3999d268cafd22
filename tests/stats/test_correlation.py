"""Rank correlations across models against scipy, on constructed cases, and under the null."""

from __future__ import annotations

from itertools import permutations, product

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


def test_no_interval_reaches_beyond_a_perfect_correlation(rng):
    """A perfect order has no draw above it, so its interval comes from the spread of the draws."""
    line = np.arange(6.0)
    x, y = (np.vstack([line, line + rng.normal(scale=3, size=(50, 6))]) for _ in "xy")
    for side, end in ((1, "high"), (-1, "low")):
        interval = correlation.compute_rank_correlation(x, side * y, resamples=9).over_samples
        assert getattr(interval, end) == interval.value == side
        assert interval.low < interval.high


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


def draw_strata(rng, *, ties=False):
    """Six encoders of two modalities; those of the first do two tasks, and one more does one."""
    strata = {}
    for stratum, models in {"image qa": "abc", "image caption": "abc", "audio qa": "defg"}.items():
        pairs = rng.normal(size=(len(models), 2))
        strata[stratum] = dict(zip(models, map(tuple, pairs.round(0 if ties else 3)), strict=True))
    return strata


def correlate_each_order(strata):
    """The statistic in every order, by scipy: whole models change places with their like."""
    values = []
    for first in permutations("abc"):
        for second in permutations("defg"):
            other = {
                **dict(zip("abc", first, strict=True)),
                **dict(zip("defg", second, strict=True)),
            }
            rhos = [
                stats.spearmanr(
                    [pair[0] for pair in own.values()], [own[other[model]][1] for model in own]
                ).statistic
                for own in strata.values()
            ]
            values.append(np.mean(rhos))
    return np.array(values)


@pytest.mark.parametrize("seed", range(4))
def test_strata_are_tested_as_by_brute_force(seed):
    strata = draw_strata(np.random.default_rng(seed), ties=False)
    result = correlation.correlate_within_strata(strata)
    values = correlate_each_order(strata)
    observed = values[0]
    assert (len(values), result.interval.n) == (6 * 24, 7)
    assert result.interval.value == pytest.approx(observed)
    tails = [np.mean(side * (values - observed) >= -1e-9) for side in (1, -1)]
    assert result.p == pytest.approx(min(1, 2 * min(tails)))
    for name, own in strata.items():
        assert result.by_stratum[name] == pytest.approx(
            stats.spearmanr(*zip(*own.values(), strict=True)).statistic
        )


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("count", [3, 5, 7])
def test_one_stratum_is_scipys_permutation_test(count, ties, rng):
    x, y = rng.normal(size=(2, count))
    if ties:
        y[:2] = y[0]
    given = {"all": {str(at): pair for at, pair in enumerate(zip(x, y, strict=True))}}
    result = correlation.correlate_within_strata(given)
    # Spearman's correlation is Pearson's of ranks, which scipy computes for all orders at once.
    expected = stats.permutation_test(
        (y,),
        lambda order, axis: (
            stats.pearsonr(stats.rankdata(x), stats.rankdata(order, axis=axis), axis=axis).statistic
        ),
        permutation_type="pairings",
        n_resamples=np.inf,
        vectorized=True,
    )
    assert expected.statistic == pytest.approx(stats.spearmanr(x, y).statistic)
    assert result.interval.value == pytest.approx(expected.statistic)
    assert result.p == pytest.approx(expected.pvalue)
    excludes_none = result.interval.low > 0 or result.interval.high < 0
    assert excludes_none == (result.p < 0.05)


def test_random_orders_of_strata_agree_with_all_or_widen_the_interval(monkeypatch, rng):
    for slope in (0.0, 0.5, 5.0):
        x = rng.normal(size=8)
        y = slope * x + rng.normal(size=8)
        given = {"all": {str(at): pair for at, pair in enumerate(zip(x, y, strict=True))}}
        exact = correlation.correlate_within_strata(given)
        with monkeypatch.context() as patch:
            patch.setattr(correlation, "MAX_EXACT_ORDERS", 1)
            drawn = correlation.correlate_within_strata(given, permutations=4000, seed=1)
            again = correlation.correlate_within_strata(given, permutations=4000, seed=1)
        assert drawn == again
        assert drawn.p == pytest.approx(exact.p, abs=0.03)
        assert drawn.p >= 2 / 4001
        if slope < 5:
            assert drawn.interval.low == pytest.approx(exact.interval.low, abs=0.06)
            assert drawn.interval.high == pytest.approx(exact.interval.high, abs=0.06)
        else:  # random orders do not reach as far as the observed one
            assert exact.interval.value == pytest.approx(1.0)
            assert drawn.interval.low < exact.interval.low - 0.1
            assert drawn.interval.high == 1.0


@pytest.mark.parametrize("sizes", [(5,), (4, 4), (3, 3, 3)])
def test_the_interval_of_strata_covers_however_strong_the_correlation(sizes):
    """Orders are drawn with a known mean of the statistic; each observed value has its interval."""
    scaled = []
    for size in sizes:
        ranks = np.arange(size) - (size - 1) / 2
        scaled.append(np.outer(ranks, ranks) / (ranks**2).sum() / len(sizes))
    sums = [0.0]
    for block in scaled:
        own = [
            sum(block[at, to] for at, to in enumerate(p)) for p in permutations(range(len(block)))
        ]
        sums = np.add.outer(sums, own).ravel()
    values, counts = np.unique(np.round(sums, 9), return_counts=True)
    intervals = {}
    for order in product(*(permutations(range(size)) for size in sizes)):
        strata = {
            str(at): {f"{at}{i}": (i, to) for i, to in enumerate(own)}
            for at, own in enumerate(order)
        }
        key = round(sum(scaled[at][range(len(o)), o].sum() for at, o in enumerate(order)), 9)
        if key not in intervals:
            intervals[key] = correlation.correlate_within_strata(strata).interval
    low, high = (np.array([getattr(intervals[v], end) for v in values]) for end in ("low", "high"))
    coverage = []
    for tilt in np.linspace(-40, 40, 81):
        probability = counts * np.exp(tilt * values - abs(tilt))
        probability /= probability.sum()
        mean = probability @ values
        coverage.append(probability[(low <= mean + 1e-9) & (mean <= high + 1e-9)].sum())
    assert min(coverage) >= 0.95
    # Three models in perfect order would be certain if they were resampled.
    assert high[0] - low[0] > 0.3


def test_a_model_in_two_strata_counts_once(rng):
    """Scores that two tasks share would double the evidence if the tasks were permuted apart."""
    alarms = {"as models": [], "as numbers": []}
    for turn in range(200):
        x, y = rng.normal(size=(2, 5))
        pairs = list(zip(x, y, strict=True))
        same = {
            task: {str(at): pair for at, pair in enumerate(pairs)} for task in ("qa", "caption")
        }
        alarms["as models"].append(correlation.correlate_within_strata(same).p < 0.05)
        # What is to be refuted has many orders, and is seen soon.
        if turn < 60:
            apart = {
                task: {f"{task}{at}": pair for at, pair in enumerate(pairs)}
                for task in ("qa", "caption")
            }
            alarms["as numbers"].append(correlation.correlate_within_strata(apart).p < 0.05)
    assert np.mean(alarms["as models"]) <= 0.05
    assert np.mean(alarms["as numbers"]) > 0.1


def test_tasks_that_contradict_each_other_say_little():
    """No exchange of models moves the mean of opposite orders; that is no sign of certainty."""
    up = {name: (at, at) for at, name in enumerate("abcdef")}
    opposite = {name: (-at, at) for at, name in enumerate("abcdef")}
    nothing = correlation.correlate_within_strata({"caption": up, "qa": opposite})
    assert nothing.interval.value == pytest.approx(0)
    assert (nothing.interval.low, nothing.interval.high, nothing.interval.n) == (-1, 1, 6)
    almost = {**opposite, "e": opposite["f"], "f": opposite["e"]}
    almost = {name: (x, up[name][1]) for name, (x, _) in almost.items()}
    some = correlation.correlate_within_strata({"caption": up, "qa": almost})
    # The mean stays between -0.03 and 0.03 in all orders.
    assert abs(some.interval.value) < 0.1
    assert some.interval.low < -0.5 < 0.5 < some.interval.high


def test_strata_that_say_nothing_are_left_out(rng):
    strata = draw_strata(rng)
    pair = {"x": (0.0, 1.0), "y": (1.0, 0.0)}
    flat = {name: (at, 0.5) for at, name in enumerate("uvw")}
    more = correlation.correlate_within_strata({**strata, "pair": pair, "flat": flat})
    assert more == correlation.correlate_within_strata(strata)
    with pytest.raises(ParameterError, match=r"takes 3 models .* Given: pair \(2\), flat \(3\)"):
        correlation.correlate_within_strata({"pair": pair, "flat": flat})
    with pytest.raises(ParameterError, match="A number of pair is missing or not finite"):
        correlation.correlate_within_strata({"pair": {**pair, "z": (np.nan, 1.0)}})


def test_few_models_are_not_certain_because_their_resamples_agree():
    line = np.arange(5.0)
    perfect = correlation.compute_rank_correlation(line, line, resamples=50)
    assert perfect.widened == perfect.over_models
    swapped = correlation.compute_rank_correlation(line, np.array([0, 1, 2, 4, 3.0]), resamples=50)
    assert swapped.p > 0.05
    assert swapped.over_models.low > 0 == swapped.widened.low
    assert swapped.widened.value == pytest.approx(0.9)
