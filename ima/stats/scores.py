"""Scores: means of per-sample values and ratios of sums, with their 95 % intervals and n.

Samples of one content, such as five questions about one picture, are not independent. Where a
function is told the contents, it resamples them, and n counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ima.errors import ParameterError
from ima.stats import FloatArray, RowIndices
from ima.stats.intervals import Interval, compute_wilson_interval
from ima.stats.resampling import draw_content_weights, number_contents

#: The largest gain of a score that counts as none: one answer in twenty.
LARGEST_GAIN = 0.05


def compute_mean_score(
    values: Sequence[float] | npt.NDArray[Any],
    *,
    contents: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> Interval:
    """Compute the mean over samples with its 95 % interval.

    The interval is Wilson's where every value is 0 or 1, because resampling gives a perfect score
    an interval of no width. Where contents repeat, its number of samples is the effective one: with
    so many independent samples, the mean would have the same variance (Korn & Graubard 1998).
    Otherwise the interval is the bootstrap's (:meth:`~ima.stats.intervals.Interval.of_draws`).

    Parameters
    ----------
    values : sequence of float
        ``(sample,)``.
    contents : sequence of str, optional
        The content of each sample; as default, each sample has its own.
    seed : int
        Seed of the resampling.
    resamples : int
        Number of resamples.

    Raises
    ------
    ParameterError
        If there are no values, or not as many contents.

    Examples
    --------
    >>> round(compute_mean_score([1.0] * 100).low, 3)
    0.963
    >>> score = compute_mean_score([1.0] * 100, contents=["cat"] * 50 + ["dog"] * 50)
    >>> round(score.low, 3), score.n
    (0.342, 2)
    """
    array = np.asarray(values, float)
    if array.size == 0:
        raise ParameterError("A score needs at least one sample; got none.")
    if np.isin(array, (0.0, 1.0)).all():
        place = number_contents(array.size, contents)
        n, effective = int(place.max()) + 1, _count_effective(array, place)
        low, high = compute_wilson_interval(xr.DataArray(array.mean()), n=xr.DataArray(effective))
        # Rounding may put an end of the interval past the value by one unit in the last place.
        return Interval.around(array.mean(), low=float(low), high=float(high), n=n)
    weights, n = draw_content_weights(array.size, contents, resamples=resamples, seed=seed)
    return Interval.of_draws(array.mean(), weights @ array, n=n)


def _count_effective(values: FloatArray, place: RowIndices) -> float:
    """Return how many independent samples of 0 or 1 would have a mean of the same variance."""
    n = int(place.max()) + 1
    if n == len(values):
        return float(n)
    sums = np.bincount(place, values - values.mean())
    variance = n / max(n - 1, 1) * float((sums**2).sum()) / len(values) ** 2
    spread = float(values.mean() * (1 - values.mean()))
    # Where all contents score the same, no more is known than of one sample of each.
    return min(float(len(values)), spread / variance) if variance > 0 else float(n)


def compute_score_gain(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    contents: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Compute the mean difference of two scores on the same samples, first less second.

    Where the difference is the same for all samples, resampling gives an interval of no width. For
    scores between 0 and 1, the interval then allows for the share of samples with a difference of
    -1, or of 1, that so few samples could have missed (Wilson's interval), and it lies within -1
    and 1.

    Parameters
    ----------
    first, second : array_like
        ``(sample,)`` each.
    contents : sequence of str, optional
        The content of each sample; as default, each sample has its own.
    resamples : int
        Bootstrap resamples of contents, the same for both.
    seed : int
        Same seed, same interval.

    Raises
    ------
    ParameterError
        If the scores are not of the same samples, at least one, or there are not as many contents.

    Examples
    --------
    >>> compute_score_gain([1.0, 1.0], [1.0, 0.0]).value
    0.5
    >>> print(compute_score_gain([0.0] * 100, [0.0] * 100))
    0.000 [-0.037, 0.037], n = 100
    """
    arrays = np.asarray(first, float), np.asarray(second, float)
    shapes = [own.shape for own in arrays]
    if shapes[0] != shapes[1] or arrays[0].ndim != 1 or not arrays[0].size:
        raise ParameterError(
            "A difference needs two scores of each sample, at least one sample; "
            f"got arrays of shape {shapes[0]} and {shapes[1]}."
        )
    gains = arrays[0] - arrays[1]
    value = float(gains.mean())
    if np.ptp(gains) == 0 and all(((own >= 0) & (own <= 1)).all() for own in arrays):
        n = int(number_contents(gains.size, contents).max()) + 1
        missed = float(compute_wilson_interval(xr.DataArray(0.0), n=n)[1])
        low, high = ((1 - missed) * value + missed * far for far in (-1.0, 1.0))
        return Interval.around(value, low=low, high=high, n=n)
    weights, n = draw_content_weights(gains.size, contents, resamples=resamples, seed=seed)
    return clip_score_difference(Interval.of_draws(value, weights @ gains, n=n), *arrays)


def is_shown(difference: Interval, *, better: bool) -> bool:
    """Return whether a difference of scores shows that one thing is better, or that it is not.

    Parameters
    ----------
    difference : Interval
        First less second.
    better : bool
        Whether the first is said to be better; then the whole interval lies above zero. Otherwise
        it is said not to be, and the whole interval lies below :data:`LARGEST_GAIN`.

    Examples
    --------
    >>> wide = Interval(0.0, -0.2, 0.2, n=8)
    >>> [is_shown(wide, better=better) for better in (True, False)]
    [False, False]
    """
    return difference.low > 0 if better else difference.high < LARGEST_GAIN


def clip_score_difference(interval: Interval, *scores: npt.ArrayLike) -> Interval:
    """Clip the interval of a difference of scores to [-1, 1] if all of them lie in [0, 1].

    Parameters
    ----------
    interval : Interval
        The difference.
    *scores : array_like
        The scores on each side, of any shape; NaN where there is none.

    Examples
    --------
    >>> print(clip_score_difference(Interval(0.9, 0.7, 1.1, n=8), [1.0, 1.0], [0.0, 0.2]))
    0.900 [0.700, 1.000], n = 8
    >>> print(clip_score_difference(Interval(0.9, 0.7, 1.1, n=8), [1.0, 3.0], [0.0, 0.2]))
    0.900 [0.700, 1.100], n = 8
    """
    within = all(np.nanmin(own) >= 0 and np.nanmax(own) <= 1 for own in map(np.asarray, scores))
    return interval.clip(-1.0, 1.0) if within else interval


def compute_crossed_score(
    values: FloatArray,
    *,
    contents: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Compute the mean over samples and draws, with an interval that resamples both.

    Each sample was measured with some random draws, such as directions. Contents and draws are
    resampled independently, and a cell counts as often as both (the pigeonhole bootstrap, Owen
    2007). The interval so speaks of other contents and of other draws.

    Parameters
    ----------
    values : ndarray
        ``(sample, draw)``; NaN where a sample was not measured with a draw.
    contents : sequence of str, optional
        The content of each sample; as default, each sample has its own.
    seed : int
        Seed of the resampling.
    resamples : int
        Number of resamples. A resample without a measured cell is left out.
    level : float
        Coverage of the interval.

    Returns
    -------
    Interval
        The mean of the measured cells; n counts contents.

    Raises
    ------
    ParameterError
        If a sample was measured with no draw.

    Examples
    --------
    >>> by_sample = np.array([[0.0, np.nan], [0.0, 1.0], [1.0, 1.0], [np.nan, 1.0]])
    >>> print(compute_crossed_score(by_sample, resamples=500))
    0.667 [0.000, 1.000], n = 4
    """
    measured = np.isfinite(values)
    if values.ndim != 2 or not values.size or not measured.any(axis=1).all():
        raise ParameterError(
            f"Each sample needs a value with at least one draw; got {measured.sum()} values of "
            f"shape {values.shape}."
        )
    (rows, n), (columns, _) = (
        draw_content_weights(size, own, resamples=resamples, seed=(seed, axis))
        for axis, (size, own) in enumerate(zip(values.shape, (contents, None), strict=True))
    )
    sums = ((rows @ np.where(measured, values, 0.0)) * columns).sum(axis=1)
    weights = ((rows @ measured) * columns).sum(axis=1)
    draws = sums[weights > 0] / weights[weights > 0]
    return Interval.of_draws(values[measured].mean(), draws, n=n, level=level)


def compute_pooled_score(
    counts: FloatArray,
    statistic: Callable[[FloatArray], FloatArray],
    *,
    contents: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> Interval:
    """Compute a score of the whole set, such as a ratio of sums, with its 95 % interval.

    The interval is the bootstrap's over contents
    (:meth:`~ima.stats.intervals.Interval.of_draws`); each resample has its own sums.

    Parameters
    ----------
    counts : ndarray
        ``(sample, part)``, the terms of the sums.
    statistic : callable
        Maps sums ``(..., part)`` to scores ``(...)``.
    contents : sequence of str, optional
        The content of each sample; as default, each sample has its own.
    seed : int
        Seed of the resampling.
    resamples : int
        Number of resamples.

    Raises
    ------
    ParameterError
        If there are no samples.

    Examples
    --------
    >>> hits = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> round(compute_pooled_score(hits, lambda sums: sums[..., 0] / sums[..., 1]).value, 3)
    0.667
    """
    if len(counts) == 0:
        raise ParameterError("A score needs at least one sample; got none.")
    weights, n = draw_content_weights(len(counts), contents, resamples=resamples, seed=seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = statistic(weights @ counts)
    # A resample in which nothing was counted has no ratio.
    value, draws = float(statistic(counts.sum(axis=0))), draws[np.isfinite(draws)]
    return Interval.of_draws(value, draws, n=n)


def make_interval_record(interval: Interval) -> dict[str, float | int]:
    """Make the JSON record of an interval that cards and claims contain.

    Examples
    --------
    >>> make_interval_record(Interval(0.5, 0.25, 0.75, 4))
    {'value': 0.5, 'low': 0.25, 'high': 0.75, 'n': 4}
    """
    return {
        "value": round(interval.value, 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
        "n": interval.n,
    }
