"""Rank correlations across models (I1, I2), with intervals and permutation tests.

Models of one kind are correlated by :func:`compute_rank_correlation`. Few independent models in
several strata are correlated by :func:`correlate_within_strata`, whose interval and p are exact.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from ima.errors import ParameterError, UnknownNameError
from ima.stats import FloatArray, RowIndices
from ima.stats.intervals import COVERAGE, Interval

RankCoefficient = Literal["spearman", "kendall"]
RANK_COEFFICIENTS: tuple[RankCoefficient, ...] = ("spearman", "kendall")
#: Fewer models give no correlation. Four have 24 orders, so p is never below 1/12 and no test could
#: be decided; of five, the perfect orders have p = 1/60.
MIN_MODELS = 5
#: Two models say nothing: either of their orders is perfect.
MIN_STRATUM_MODELS = 3
#: The permutation test is exact up to this many orders of the models (8 models).
MAX_EXACT_ORDERS = 40_320
#: Sums of ranks that differ by less are equal: they were added up in another order.
_ROUNDING = 1e-9

#: By stratum and model, the two numbers of the model there.
Strata = Mapping[str, Mapping[str, tuple[float, float]]]


@dataclass(frozen=True)
class RankCorrelation:
    """A rank correlation across models, with its two sources of uncertainty kept apart.

    Parameters
    ----------
    coefficient : {"spearman", "kendall"}
        The coefficient.
    over_samples : Interval
        Its value. The interval holds the models fixed and resamples the samples over which both
        numbers of each model are averaged; n counts models.
    over_models : Interval
        The same value. The interval resamples models.
    p : float
        Two-sided p-value of no association, from :func:`compute_permutation_p`.
    """

    coefficient: RankCoefficient
    over_samples: Interval
    over_models: Interval
    p: float

    @property
    def widened(self) -> Interval:
        """The interval over models, with 0 in it unless p is below 0.05.

        Resampling few models gives too narrow an interval: five models in perfect order stay so in
        every resample, although one order in sixty is as perfect.
        """
        interval = self.over_models
        if self.p < 0.05:
            return interval
        low, high = min(interval.low, 0.0), max(interval.high, 0.0)
        return Interval(interval.value, low=low, high=high, n=interval.n)


@dataclass(frozen=True)
class StratifiedCorrelation:
    """The mean of Spearman's correlations within strata.

    Parameters
    ----------
    interval : Interval
        The mean over strata; n counts models, each once in however many strata it is.
    p : float
        Two-sided p-value of no association: twice the smaller tail.
    by_stratum : mapping of str to float
        Spearman's rho in each stratum.
    """

    interval: Interval
    p: float
    by_stratum: Mapping[str, float]


def compute_rank_correlation(
    x: FloatArray,
    y: FloatArray,
    *,
    coefficient: RankCoefficient = "spearman",
    resamples: int = 2000,
    seed: int = 0,
) -> RankCorrelation:
    """Correlate two numbers across several models.

    Parameters
    ----------
    x, y : ndarray
        ``(model,)``, or ``(1 + draw, model)``: row 0 holds the numbers, the other rows their values
        in resamples of the samples, drawn together for both.
    coefficient : {"spearman", "kendall"}
        Spearman's rho, or Kendall's tau-b.
    resamples : int
        Number of bootstrap resamples of models. A resample in which all models have the same
        number is drawn again, because it has no correlation.
    seed : int
        Seed of the resamples and of the random orders.

    Returns
    -------
    RankCorrelation
        The correlation of row 0.

    Raises
    ------
    ParameterError
        If there are fewer than :data:`MIN_MODELS` models, the shapes differ, a number is not
        finite, or all models have the same number.
    UnknownNameError
        If the coefficient does not exist.

    Examples
    --------
    >>> score, loss = np.array([0.2, 0.4, 0.5, 0.7, 0.9]), np.array([4, 3, 2, 2.5, 1])
    >>> result = compute_rank_correlation(score, loss, resamples=100)
    >>> round(result.over_samples.value, 2), round(result.p, 2)
    (-0.9, 0.08)
    """
    if coefficient not in RANK_COEFFICIENTS:
        raise UnknownNameError.among(
            kind="coefficient", asked=coefficient, available=RANK_COEFFICIENTS
        )
    x, y = np.atleast_2d(x), np.atleast_2d(y)
    _check(x, y)
    n = x.shape[1]
    # scipy's value may differ from correlate_rows in the last bit and then leave its own interval.
    value = float(correlate_rows(x[:1], y[:1], coefficient=coefficient)[0])
    varied = (np.ptp(x[1:], axis=1) > 0) & (np.ptp(y[1:], axis=1) > 0)
    sample_draws = correlate_rows(x[1:][varied], y[1:][varied], coefficient=coefficient)
    models = np.array(_resample_models(x[0], y[0], resamples, np.random.default_rng(seed)))
    model_draws = correlate_rows(x[0][models], y[0][models], coefficient=coefficient)
    over_samples, over_models = (
        Interval.of_draws(value, draws, n=n).clip(-1.0, 1.0)
        for draws in (sample_draws if len(sample_draws) else [value], model_draws)
    )
    return RankCorrelation(
        coefficient,
        over_samples,
        over_models,
        compute_permutation_p(x[0], y[0], coefficient=coefficient, seed=seed),
    )


def _check(x: FloatArray, y: FloatArray) -> None:
    if x.shape != y.shape:
        raise ParameterError(
            f"Both numbers need the same models and draws; got {x.shape} and {y.shape}."
        )
    if x.shape[1] < MIN_MODELS:
        raise ParameterError(
            f"A correlation across models needs at least {MIN_MODELS}; got {x.shape[1]}. With "
            "fewer models, no order of them is surprising."
        )
    for values in (x[0], y[0]):
        if not np.isfinite(values).all():
            raise ParameterError("A model's number is missing or not finite.")
        if np.ptp(values) == 0:
            raise ParameterError("A number is the same for all models: it has no rank correlation.")


def _resample_models(
    x: FloatArray, y: FloatArray, resamples: int, rng: np.random.Generator
) -> list[RowIndices]:
    resampled: list[RowIndices] = []
    while len(resampled) < resamples:
        rows = rng.integers(len(x), size=len(x))
        if np.ptp(x[rows]) > 0 and np.ptp(y[rows]) > 0:
            resampled.append(rows)
    return resampled


def correlate_rows(
    x: FloatArray, y: FloatArray, *, coefficient: RankCoefficient = "spearman"
) -> FloatArray:
    """Compute the rank correlation of each row; ties count as in scipy.

    Parameters
    ----------
    x, y : ndarray
        ``(row, model)``; each row has at least two distinct values.
    coefficient : {"spearman", "kendall"}
        The coefficient.

    Returns
    -------
    ndarray
        ``(row,)``. Equal rows give equal bits, however many rows there are.

    Examples
    --------
    >>> correlate_rows(np.array([[1.0, 2.0, 3.0]]), np.array([[10.0, 30.0, 20.0]]))
    array([0.5])
    """
    if coefficient == "spearman":
        a, b = (stats.rankdata(side, axis=1) for side in (x, y))
        a, b = (side - side.mean(axis=1, keepdims=True) for side in (a, b))
    else:
        # Tau-b is the cosine of the signs of all differences.
        first, second = np.triu_indices(x.shape[1], k=1)
        a, b = (np.sign(side[:, first] - side[:, second]) for side in (x, y))
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)  # the order of a sum follows memory
    cosines: FloatArray = (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return cosines.clip(-1.0, 1.0)


def compute_permutation_p(
    x: FloatArray,
    y: FloatArray,
    *,
    coefficient: RankCoefficient = "spearman",
    permutations: int = 9999,
    seed: int = 0,
) -> float:
    """Compute the two-sided p-value of no association, by permuting the models.

    Parameters
    ----------
    x, y : ndarray
        ``(model,)``.
    coefficient : {"spearman", "kendall"}
        The coefficient.
    permutations : int
        Number of random orders when there are more than :data:`MAX_EXACT_ORDERS`. The observed
        order counts as one of them, so p is never 0.
    seed : int
        Seed of the random orders.

    Returns
    -------
    float
        Fraction of orders whose coefficient is at least as far from 0 as the observed one.

    Examples
    --------
    >>> p = compute_permutation_p(np.arange(5.0), np.arange(5.0))  # 2 of 120 orders
    >>> round(p, 4)
    0.0167
    """
    fixed, permuted = stats.rankdata(x), stats.rankdata(y)

    def distance_from_none(order: npt.NDArray[Any], axis: int) -> Any:
        """Return a sum that grows with the coefficient's size; it is exact in floating point."""
        if coefficient == "spearman":
            return np.abs(order @ (fixed - fixed.mean()))
        first, second = np.triu_indices(len(fixed), k=1)
        signs = np.sign(fixed[first] - fixed[second])
        return np.abs(np.sign(order[..., first] - order[..., second]) @ signs)

    exact = math.factorial(len(x)) <= MAX_EXACT_ORDERS
    test = stats.permutation_test(
        (permuted,),
        distance_from_none,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=np.inf if exact else permutations,
        alternative="greater",
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def select_usable_strata(strata: Strata) -> dict[str, Mapping[str, tuple[float, float]]]:
    """Select the strata that have a correlation.

    Parameters
    ----------
    strata : mapping
        By stratum and model, two numbers.

    Returns
    -------
    dict
        The strata of at least :data:`MIN_STRATUM_MODELS` models that differ in both numbers.

    Raises
    ------
    ParameterError
        If a number is not finite.

    Examples
    --------
    >>> pair = {"vit": (0.1, 0.5), "mae": (0.2, 0.6)}
    >>> flat = {"ast": (0.1, 0.5), "clap": (0.2, 0.5), "mfcc": (0.3, 0.5)}
    >>> select_usable_strata({"image": pair, "audio": flat, "both": pair | flat}).keys()
    dict_keys(['both'])
    """
    usable = {}
    for name, models in strata.items():
        numbers = np.array(list(models.values()), dtype=np.float64).reshape(-1, 2)
        if not np.isfinite(numbers).all():
            raise ParameterError(f"A number of {name} is missing or not finite.")
        if len(numbers) >= MIN_STRATUM_MODELS and (np.ptp(numbers, axis=0) > 0).all():
            usable[name] = models
    return usable


def correlate_within_strata(
    strata: Strata, *, permutations: int = 99_999, seed: int = 0
) -> StratifiedCorrelation:
    """Correlate two numbers across models within strata, with an exact test and interval.

    The statistic is the mean of Spearman's rho over strata; each stratum counts the same. Under the
    null, the second numbers of models could as well belong to other models of the same strata. A
    model in several strata is one model: it takes all its numbers along. Models that are not in the
    same strata are not exchanged.

    The interval inverts the same test. Orders of the models are taken to occur with a probability
    proportional to ``exp(t · statistic)``, which at ``t = 0`` is the null. (Orders of two normal
    variables do so, with their values in place of ranks.) An end of the interval is the
    mean of the statistic for that t at which the observed value, or one farther out, has the
    probability 0.025. It excludes 0 exactly where p is below 0.05. Models in several strata may
    have orders there that contradict each other, so that no exchange of models moves the mean far.
    The interval is therefore widened to that of as many models with one order in all their strata.
    It may then contain 0 although p is small.

    Parameters
    ----------
    strata : mapping
        By stratum and model, two finite numbers. Strata without a correlation are left out, as by
        :func:`select_usable_strata`.
    permutations : int
        Number of random orders when there are more than :data:`MAX_EXACT_ORDERS`. The observed
        order counts as one more. The interval also counts the two extreme orders, which widens it
        where random orders do not reach.
    seed : int
        Seed of the random orders.

    Returns
    -------
    StratifiedCorrelation
        The mean correlation.

    Raises
    ------
    ParameterError
        If no stratum has a correlation, or a number is not finite.

    Examples
    --------
    >>> image = {"vit": (0.1, 0.5), "clip": (0.2, 0.6), "mae": (0.3, 0.7)}
    >>> audio = {"ast": (0.1, 0.9), "clap": (0.2, 0.8), "audiomae": (0.3, 1.0)}
    >>> result = correlate_within_strata({"image": image, "audio": audio})
    >>> print(result.interval, round(result.p, 2))
    0.750 [-0.394, 0.994], n = 6 0.28
    """
    usable = select_usable_strata(strata)
    if not usable:
        raise ParameterError(
            f"No stratum has a correlation: it takes {MIN_STRATUM_MODELS} models that differ in "
            f"both numbers. Given: {', '.join(f'{k} ({len(v)})' for k, v in strata.items())}."
        )
    blocks, counts, by_stratum = _make_blocks(usable)
    value = float(np.mean(list(by_stratum.values())))
    sums, extremes = _sum_orders(blocks, permutations=permutations, seed=seed)
    if len(extremes):  # random orders, of which the observed one counts as one more
        sums = np.append(sums, value)
    upper, lower = (np.mean(side * (sums - value) >= -_ROUNDING) for side in (1, -1))
    low, high = _invert_permutation_test(np.append(sums, extremes), value)
    if max(counts) > 1:
        weights = [count / len(usable) for count in counts]
        agreeing = list(map(_make_agreeing_block, map(len, blocks), weights))
        others = np.concatenate(_sum_orders(agreeing, permutations=permutations, seed=seed))
        wide_low, wide_high = _invert_permutation_test(others, value)
        low, high = min(low, wide_low), max(high, wide_high)
    models = {model for own in usable.values() for model in own}
    return StratifiedCorrelation(
        Interval.around(value, low=low, high=high, n=len(models)),
        p=min(1.0, 2 * float(min(upper, lower))),
        by_stratum=by_stratum,
    )


def _make_blocks(strata: Strata) -> tuple[list[FloatArray], list[int], dict[str, float]]:
    """Return what each model adds to the statistic with the second numbers of each other one.

    Returns
    -------
    blocks : list of ndarray
        ``(model, model)`` for the models of each set of strata: an order adds up one entry a row.
    counts : list of int
        Number of strata in which the models of each block are.
    by_stratum : dict of str to float
        Spearman's rho in each stratum.
    """
    members: dict[tuple[str, ...], list[str]] = {}
    for model in dict.fromkeys(name for own in strata.values() for name in own):
        key = tuple(name for name, own in strata.items() if model in own)
        members.setdefault(key, []).append(model)
    ranks: dict[str, dict[str, FloatArray]] = {}
    by_stratum = {}
    for name, own in strata.items():
        ranked = stats.rankdata(list(own.values()), axis=0) - (len(own) + 1) / 2
        ranked /= np.sqrt((ranked**2).sum(axis=0))
        ranks[name] = dict(zip(own, ranked, strict=True))
        by_stratum[name] = float(np.clip((ranked[:, 0] * ranked[:, 1]).sum(), -1, 1))
    blocks = []
    for key, models in members.items():
        own_ranks = np.array([[ranks[name][model] for model in models] for name in key])
        products = np.einsum("su,sv->uv", own_ranks[..., 0], own_ranks[..., 1])
        blocks.append(products / len(strata))
    return blocks, [len(key) for key in members], by_stratum


def _make_agreeing_block(models: int, weight: float) -> FloatArray:
    """Return the block of models that have one order, without ties, in all their strata."""
    ranks = np.arange(models) - (models - 1) / 2
    squares = float((ranks**2).sum()) or 1.0
    return weight * np.outer(ranks, ranks) / squares


def _sum_orders(
    blocks: list[FloatArray], *, permutations: int, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Return the statistic in all orders of the models, or in random orders and the extreme two."""
    if math.prod(math.factorial(len(block)) for block in blocks) > MAX_EXACT_ORDERS:
        rng = np.random.default_rng(seed)
        sums = np.zeros(permutations)
        for block in blocks:
            rows = np.arange(len(block))
            orders = rng.permuted(np.tile(rows, (permutations, 1)), axis=1)
            sums += block[rows, orders].sum(axis=1)
        return sums, np.array([_sum_extreme_order(blocks, sign) for sign in (-1, 1)])
    sums = np.zeros(1)
    for block in blocks:
        rows = np.arange(len(block))
        orders = np.array(list(itertools.permutations(rows)))
        sums = np.add.outer(sums, block[rows, orders].sum(axis=1)).ravel()
    return sums, np.empty(0)


def _sum_extreme_order(blocks: list[FloatArray], sign: int) -> float:
    assigned = [optimize.linear_sum_assignment(sign * block, maximize=True) for block in blocks]
    return float(sum(block[rows].sum() for block, rows in zip(blocks, assigned, strict=True)))


def _invert_permutation_test(sums: FloatArray, value: float) -> tuple[float, float]:
    """Return the ends of the interval of the statistic from its values in all orders."""
    distinct, counts = np.unique(sums.round(9), return_counts=True)
    weights = np.log(counts)
    ends = []
    for side in (1, -1):
        tail = side * (distinct - value) >= -_ROUNDING
        if tail.all():  # no order is farther on the other side: every t has this value in its tail
            ends.append(-float(side))
            continue

        def log_excess(t: float, tail: npt.NDArray[np.bool_] = tail) -> float:
            tilted = weights + t * distinct
            probability = special.logsumexp(tilted[tail]) - special.logsumexp(tilted)
            return float(probability - np.log((1 - COVERAGE) / 2))

        near, far = -float(side), float(side)
        while log_excess(near) > 0:
            near *= 2
        while log_excess(far) < 0:
            far *= 2
        t = optimize.brentq(log_excess, near, far)
        ends.append(float(special.softmax(weights + t * distinct) @ distinct))
    return ends[0], ends[1]
