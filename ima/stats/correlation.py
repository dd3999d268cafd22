"""Proxies (I1, I2): whether one number of a model goes with another, across models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations as orders
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from ima.errors import ParameterError, UnknownNameError
from ima.stats.intervals import Interval
from ima.stats.resampling import FloatArray

RankCoefficient = Literal["spearman", "kendall"]
RANK_COEFFICIENTS: tuple[RankCoefficient, ...] = ("spearman", "kendall")
#: With fewer points no correlation is computed: four have 24 orders, so p cannot be below 1/12.
MIN_MODELS = 4
#: All orders of the points are tried up to this many; beyond, random ones.
MAX_EXACT_ORDERS = 40_320


@dataclass(frozen=True)
class RankCorrelation:
    """A rank correlation across models, with what makes it uncertain kept apart.

    Parameters
    ----------
    coefficient : {"spearman", "kendall"}
        Which.
    over_samples : Interval
        Its value; the interval holds these models fixed and resamples the samples that both numbers
        of each model are means over; n counts models.
    over_models : Interval
        The same value; the interval resamples models.
    p : float
        Two-sided, of no association: exact over all orders of the models where these are few, else
        over random ones.
    """

    coefficient: RankCoefficient
    over_samples: Interval
    over_models: Interval
    p: float


def compute_rank_correlation(
    x: FloatArray,
    y: FloatArray,
    *,
    coefficient: RankCoefficient = "spearman",
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> RankCorrelation:
    """Correlate two numbers of several models.

    Parameters
    ----------
    x, y : ndarray
        ``(1 + draw, model)``: row 0 holds the numbers, the others their values in resamples of the
        samples, drawn together for both; or ``(model,)`` where there are no resamples.
    coefficient : {"spearman", "kendall"}
        Spearman's rho, or Kendall's tau-b.
    resamples : int
        Bootstrap resamples of models; those in which a number is the same for all say nothing
        and are drawn again.
    seed : int
        Of resamples and of random orders.
    level : float
        Coverage of the percentile intervals.

    Returns
    -------
    Association
        Of row 0.

    Raises
    ------
    ParameterError
        If there are fewer than :data:`MIN_MODELS` models, the shapes differ, a number is not finite, or
        one is the same for all models.
    UnknownNameError
        If there is no such coefficient.
    """
    if coefficient not in RANK_COEFFICIENTS:
        raise UnknownNameError.among(
            kind="coefficient", asked=coefficient, available=RANK_COEFFICIENTS
        )
    left, right = np.atleast_2d(x), np.atleast_2d(y)
    _check(left, right)
    count = left.shape[1]
    # All by one rule: scipy's value differs in its last bit, and so left its own interval.
    value = float(correlate_rows(left[:1], right[:1], coefficient=coefficient)[0])
    told = (np.ptp(left[1:], axis=1) > 0) & (np.ptp(right[1:], axis=1) > 0)
    drawn = correlate_rows(left[1:][told], right[1:][told], coefficient=coefficient)
    rows = np.array(_rows(left[0], right[0], resamples, np.random.default_rng(seed)))
    models = correlate_rows(left[0][rows], right[0][rows], coefficient=coefficient)
    return RankCorrelation(
        coefficient,
        Interval.of_draws(value, drawn if len(drawn) else [value], n=count, level=level),
        Interval.of_draws(value, models, n=count, level=level),
        compute_permutation_p(left[0], right[0], coefficient=coefficient, seed=seed),
    )


def correlate_rows(
    x: FloatArray, y: FloatArray, *, coefficient: RankCoefficient = "spearman"
) -> FloatArray:
    """Return the rank correlation of each row, ties counted as scipy counts them.

    Parameters
    ----------
    x, y : ndarray
        ``(row, model)``; no row of either is the same for all models.
    coefficient : {"spearman", "kendall"}
        Which.

    Returns
    -------
    ndarray
        ``(row,)``; equal rows give equal bits, however many there are.
    """
    if coefficient == "spearman":
        a, b = (stats.rankdata(side, axis=1) for side in (x, y))
        a, b = (side - side.mean(axis=1, keepdims=True) for side in (a, b))
    else:
        # Tau-b is the cosine of the signs of all differences.
        first, second = np.triu_indices(x.shape[1], k=1)
        a, b = (np.sign(side[:, first] - side[:, second]) for side in (x, y))
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)  # the order of a sum follows memory
    found: FloatArray = (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return found.clip(-1.0, 1.0)


def compute_permutation_p(
    x: FloatArray,
    y: FloatArray,
    *,
    coefficient: RankCoefficient = "spearman",
    permutations: int = 9999,
    seed: int = 0,
) -> float:
    """Return how often an order of the models is as far from no association, two-sided.

    Parameters
    ----------
    x, y : ndarray
        ``(model,)``.
    coefficient : {"spearman", "kendall"}
        Which.
    permutations : int
        Random orders, where all are more than :data:`MAX_EXACT_ORDERS`; the order of the data counts as one of
        them, so that p is never 0.
    seed : int
        Of random orders.
    """
    count = len(x)
    ranks = [stats.rankdata(values) for values in (x, y)]
    found = abs(_statistic(ranks[0], ranks[1][None], coefficient)[0])
    if math.factorial(count) <= MAX_EXACT_ORDERS:
        tried = np.array(list(orders(ranks[1])))
        extra = 0
    else:
        rng = np.random.default_rng(seed)
        tried = np.array([rng.permutation(ranks[1]) for _ in range(permutations)])
        extra = 1
    # Sums of equal numbers in another order differ in their last bits.
    extreme = np.abs(_statistic(ranks[0], tried, coefficient)) >= found - 1e-9
    return float((extreme.sum() + extra) / (len(tried) + extra))


def adjust_p_values_bh(p: Sequence[float]) -> FloatArray:
    """Return p-values adjusted for a family of tests (Benjamini & Hochberg 1995)."""
    found: FloatArray = stats.false_discovery_control(np.asarray(p, dtype=np.float64), method="bh")
    return found


def adjust_p_values_holm(p: Sequence[float]) -> FloatArray:
    """Return p-values adjusted so that one false finding among all is unlikely (Holm 1979).

    Parameters
    ----------
    p : sequence of float
        Of tests that need not be independent.

    Returns
    -------
    ndarray
        In the same order, at most 1.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    found = np.empty_like(values)
    found[order] = np.minimum(steps, 1.0)
    return found


def _statistic(
    fixed: npt.NDArray[np.float64], tried: npt.NDArray[np.float64], coefficient: RankCoefficient
) -> FloatArray:
    """Return what orders of ranks are compared by: it rises and falls with the coefficient."""
    if coefficient == "spearman":
        moved: FloatArray = tried @ (fixed - fixed.mean())
        return moved
    above = np.triu_indices(len(fixed), k=1)
    sides = np.sign(fixed[above[0]] - fixed[above[1]])
    concordant: FloatArray = np.sign(tried[:, above[0]] - tried[:, above[1]]) @ sides
    return concordant


def _rows(
    x: FloatArray, y: FloatArray, resamples: int, rng: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    found: list[npt.NDArray[np.int64]] = []
    while len(found) < resamples:
        rows = rng.integers(len(x), size=len(x))
        if np.ptp(x[rows]) > 0 and np.ptp(y[rows]) > 0:
            found.append(rows)
    return found


def _check(x: FloatArray, y: FloatArray) -> None:
    if x.shape != y.shape:
        message = f"Both numbers need the same models and draws; got {x.shape} and {y.shape}."
        raise ParameterError(message)
    if x.shape[1] < MIN_MODELS:
        message = (
            f"A correlation across models needs at least {MIN_MODELS}; got {x.shape[1]}. With fewer, "
            "no order of them would be surprising."
        )
        raise ParameterError(message)
    for values in (x[0], y[0]):
        if not np.isfinite(values).all():
            message = "A number of a model is missing or not finite."
            raise ParameterError(message)
        if np.ptp(values) == 0:
            message = "A number is the same for all models: it has no rank correlation."
            raise ParameterError(message)
