"""Inference: how sure a number is. Resampling weights, percentile intervals, simultaneous bands."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import stats

from ima.errors import ParameterError
from ima.stats.resampling import draw_resample_counts


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval.

    Parameters
    ----------
    value : float
        The estimate.
    low, high : float
        The ends of the interval.
    n : int
        How many independent samples the estimate rests on.

    Raises
    ------
    ParameterError
        If a number is not finite, the ends are out of order, or ``n`` is not positive.

    Examples
    --------
    >>> print(Interval(value=0.25, low=0.2, high=0.3, n=200))
    0.250 [0.200, 0.300], n = 200
    """

    value: float
    low: float
    high: float
    n: int

    def __post_init__(self) -> None:
        if not all(math.isfinite(number) for number in (self.value, self.low, self.high)):
            message = (
                f"An interval needs finite numbers; got {self.value} [{self.low}, {self.high}]."
            )
            raise ParameterError(message)
        if self.low > self.high:
            message = f"An interval runs from low to high; got [{self.low}, {self.high}]."
            raise ParameterError(message)
        if self.n < 1:
            message = f"An interval rests on at least one sample; got n = {self.n}."
            raise ParameterError(message)

    @classmethod
    def around(cls, value: float, *, low: float, high: float, n: int) -> Interval:
        """Return the interval with these ends, wide enough to hold the estimate itself."""
        value = float(value)
        return cls(value=value, low=min(float(low), value), high=max(float(high), value), n=n)

    @classmethod
    def of_draws(
        cls, value: float, draws: npt.ArrayLike, *, n: int, level: float = 0.95
    ) -> Interval:
        """Return the percentile interval of an estimate from its value in each resample."""
        tail = (1 - level) / 2
        low, high = np.quantile(np.asarray(draws), [tail, 1 - tail])
        return cls.around(value, low=low, high=high, n=n)

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}], n = {self.n}"


def draw_bootstrap_weights(n: int, *, resamples: int, seed: int | tuple[int, ...]) -> xr.DataArray:
    """Draw how often each sample occurs in each resample, as weights that sum to one.

    A weighted mean over ``sample`` is then the mean of the resample, and all resamples of a
    statistic that is built from means are one matrix product.

    Parameters
    ----------
    n : int
        Number of samples; each resample has as many.
    resamples : int
        Number of resamples.
    seed : int or tuple of int
        Same seed, same weights.

    Returns
    -------
    xarray.DataArray
        Weights ``(draw, sample)``, multiples of ``1 / n``.

    Examples
    --------
    >>> weights = bootstrap_weights(4, resamples=3, seed=0)
    >>> weights.sum("sample").values
    array([1., 1., 1.])
    """
    counts = draw_resample_counts(n, resamples=resamples, seed=seed)[1:]
    return xr.DataArray(counts / n, dims=("draw", "sample"))


def compute_percentile_interval(
    draws: xr.DataArray, *, level: float = 0.95
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the pointwise percentile interval of bootstrap draws.

    Parameters
    ----------
    draws : xarray.DataArray
        ``(draw, ...)``.
    level : float
        Coverage of each interval on its own.

    Returns
    -------
    low, high : xarray.DataArray
        ``(...)``, the same dims without ``draw``.
    """
    tail = (1 - level) / 2
    ends = draws.quantile([tail, 1 - tail], dim="draw")
    low, high = (ends.isel(quantile=i).drop_vars("quantile") for i in (0, 1))
    return low, high


def compute_simultaneous_band(
    draws: xr.DataArray, *, level: float = 0.95
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return a simultaneous percentile band: it holds the whole curve, not each point, at `level`.

    The pointwise percentiles are widened until a share `level` of the resampled curves lies within
    them at every point at once (Mandel & Betensky 2008). With one point it is
    :func:`compute_percentile_interval` up to one order statistic.

    Parameters
    ----------
    draws : xarray.DataArray
        ``(draw, ...)``; all other dims together are the curve.
    level : float
        Coverage of the whole curve.

    Returns
    -------
    low, high : xarray.DataArray
        ``(...)``, the same dims without ``draw``.
    """
    draws = draws.transpose("draw", ...)
    flat = draws.values.reshape(draws.sizes["draw"], -1)
    ranks = stats.rankdata(flat, method="max", axis=0)
    reverse = stats.rankdata(-flat, method="max", axis=0)
    # How deep inside the pointwise order statistics a curve's most extreme point lies.
    depth = np.minimum(ranks, reverse).min(axis=1)
    inside = np.sort(depth)[math.floor((1 - level) * len(depth))]
    cut = max(int(inside) - 1, 0)
    ordered = np.sort(flat, axis=0)
    template = draws.isel(draw=0, drop=True)
    low = template.copy(data=ordered[cut].reshape(template.shape))
    high = template.copy(data=ordered[-1 - cut].reshape(template.shape))
    return low, high


def compute_minimum_interval(
    estimate: xr.DataArray, *, low: xr.DataArray, high: xr.DataArray, n: int
) -> Interval:
    """Return the interval of the minimum of a curve from its simultaneous band.

    Where the whole curve lies in the band, its minimum lies between the minima of the band's
    two edges. The minimum of resampled curves would not do: the minimum of noisy points
    is biased downwards, which would make "contradicted" too easy.

    Parameters
    ----------
    estimate, low, high : xarray.DataArray
        ``(...)``, the curve and the edges of its :func:`compute_simultaneous_band`.
    n : int
        How many independent samples the curve rests on.

    Returns
    -------
    Interval
        The minimum over all dims.
    """
    return Interval.around(float(estimate.min()), low=float(low.min()), high=float(high.min()), n=n)


def compute_wilson_interval(
    share: xr.DataArray, *, n: int, level: float = 0.95
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return Wilson's interval of a share, which stays honest where the share is 0 or 1.

    Resampling gives an interval of no width for a perfect score; this one says how many
    errors so few samples could have hidden.

    Parameters
    ----------
    share : xarray.DataArray
        ``(...)``, shares in [0, 1] over `n` independent samples.
    n : int
        Number of samples.
    level : float
        Coverage of each interval on its own.

    Returns
    -------
    low, high : xarray.DataArray
        ``(...)``.

    Examples
    --------
    >>> low, high = wilson(xr.DataArray([1.0]), n=100)
    >>> float(low[0].round(3)), float(high[0].round(3))
    (0.963, 1.0)
    """
    z = float(stats.norm.ppf(0.5 + level / 2))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (centre - half).clip(0, 1), (centre + half).clip(0, 1)
