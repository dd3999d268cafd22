"""Rank correlations across models (I1, I2), with intervals and a permutation test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from ima.errors import ParameterError, UnknownNameError
from ima.stats import FloatArray, RowIndices
from ima.stats.intervals import Interval

RankCoefficient = Literal["spearman", "kendall"]
RANK_COEFFICIENTS: tuple[RankCoefficient, ...] = ("spearman", "kendall")
#: Fewer models give no correlation. Four have 24 orders, so p is never below 1/12 and no test could
#: be decided; of five, the perfect orders have p = 1/60.
MIN_MODELS = 5
#: The permutation test is exact up to this many orders of the models (8 models).
MAX_EXACT_ORDERS = 40_320


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


def compute_rank_correlation(
    x: FloatArray,
    y: FloatArray,
    *,
    coefficient: RankCoefficient = "spearman",
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
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
    level : float
        Coverage of the percentile intervals.

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
    return RankCorrelation(
        coefficient,
        Interval.of_draws(value, sample_draws if len(sample_draws) else [value], n=n, level=level),
        Interval.of_draws(value, model_draws, n=n, level=level),
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
