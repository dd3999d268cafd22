"""Intervals: bootstrap and Wilson intervals, simultaneous bands, the minimum of a curve."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import stats

from ima.errors import ParameterError

#: Coverage of the intervals, where a function takes no other.
COVERAGE = 0.95
#: In standard errors; beyond it, :meth:`Interval.of_draws` does not trust percentiles.
_LARGEST_BIAS = 1.0


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
        Number of independent samples that the estimate rests on.

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
            raise ParameterError(
                f"An interval needs finite numbers; got {self.value} [{self.low}, {self.high}]."
            )
        if self.low > self.high:
            raise ParameterError(
                f"An interval runs from low to high; got [{self.low}, {self.high}]."
            )
        if self.n < 1:
            raise ParameterError(f"An interval rests on at least one sample; got n = {self.n}.")

    @classmethod
    def around(cls, value: float, *, low: float, high: float, n: int) -> Interval:
        """Make an interval with these ends, widened where needed to contain the estimate.

        Examples
        --------
        >>> print(Interval.around(0.5, low=0.6, high=0.7, n=10))
        0.500 [0.500, 0.700], n = 10
        """
        value = float(value)
        return cls(value=value, low=min(float(low), value), high=max(float(high), value), n=n)

    @classmethod
    def of_draws(
        cls, value: float, draws: npt.ArrayLike, *, n: int, level: float = COVERAGE
    ) -> Interval:
        """Make the interval of an estimate from its value in each resample.

        The interval is the bias-corrected percentile interval (Efron & Tibshirani 1993, §14.3,
        without acceleration). Where the draws are off by more than one standard error, percentiles
        cannot be corrected, and only the spread of the draws is used: the estimate plus and minus
        its normal quantile.

        Examples
        --------
        >>> print(Interval.of_draws(0.5, [0.4, 0.5, 0.6], n=10, level=0.5))
        0.500 [0.450, 0.550], n = 10
        >>> print(Interval.of_draws(0.7, [0.4, 0.5, 0.6], n=10))  # all draws are below
        0.700 [0.504, 0.896], n = 10
        """
        values = np.asarray(draws, dtype=np.float64).ravel()
        if not values.size or np.isnan([value, *values]).any():
            raise ParameterError(
                f"An interval needs finite numbers; got {value} and {values.size} draws, "
                f"{np.isnan(values).sum()} of them undefined."
            )
        tails = stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])
        # Draws that equal the estimate count half.
        below = (np.sum(values < value) + np.sum(values <= value)) / (2 * values.size)
        bias = float(stats.norm.ppf(below))
        if abs(bias) > _LARGEST_BIAS:
            low, high = value + tails * (values.std(ddof=1) if values.size > 1 else 0.0)
        else:
            low, high = np.quantile(values, stats.norm.cdf(2 * bias + tails))
        return cls.around(value, low=low, high=high, n=n)

    def clip(self, low: float, high: float) -> Interval:
        """Cut off what lies outside the range of the statistic, such as a correlation of 1.1.

        Ends that are the estimate plus and minus a multiple of its error know no range.

        Examples
        --------
        >>> print(Interval(0.9, 0.7, 1.1, n=8).clip(-1, 1))
        0.900 [0.700, 1.000], n = 8
        """
        value, *ends = (min(max(end, low), high) for end in (self.value, self.low, self.high))
        return Interval(value, low=ends[0], high=ends[1], n=self.n)

    def format_without_n(self) -> str:
        """Return the estimate and its ends in words, for text that says n once.

        Examples
        --------
        >>> Interval(0.5, 0.25, 0.75, n=8).format_without_n()
        '0.500 [0.250, 0.750]'
        """
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def __str__(self) -> str:
        return f"{self.format_without_n()}, n = {self.n}"


def compute_percentile_interval(draws: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Compute the pointwise percentile interval of bootstrap draws.

    Parameters
    ----------
    draws : xarray.DataArray
        ``(draw, ...)``.

    Returns
    -------
    low, high : xarray.DataArray
        ``(...)``, the same dims without ``draw``.

    Examples
    --------
    >>> low, high = compute_percentile_interval(xr.DataArray(np.arange(101.0), dims="draw"))
    >>> float(low.round(2)), float(high.round(2))
    (2.5, 97.5)
    """
    tail = (1 - COVERAGE) / 2
    ends = draws.quantile([tail, 1 - tail], dim="draw")
    low, high = (ends.isel(quantile=i).drop_vars("quantile") for i in (0, 1))
    return low, high


def compute_simultaneous_band(
    draws: xr.DataArray, *, estimate: xr.DataArray | None = None
) -> tuple[xr.DataArray, xr.DataArray]:
    """Compute the simultaneous band of a curve.

    The band contains the whole curve with probability 0.95; a pointwise interval does so only at
    each point. Its half width is the standard deviation of the draws at each point, times the
    quantile of the largest deviation that a resampled curve has anywhere, in standard deviations
    (the max-t band; Montiel Olea & Plagborg-Møller 2019). Percentiles of so many points would need
    far more draws: with 200 draws of 52 points their band holds three curves in four.

    Parameters
    ----------
    draws : xarray.DataArray
        ``(draw, ...)``; all other dims together are the curve.
    estimate : xarray.DataArray or None
        ``(...)``, the centre of the band. None: the mean of the draws.

    Returns
    -------
    low, high : xarray.DataArray
        ``(...)``, the same dims without ``draw``.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(1000, 8))
    >>> curves = xr.DataArray(noise, dims=("draw", "layer"))
    >>> low, high = compute_simultaneous_band(curves)
    >>> float(((curves >= low) & (curves <= high)).all("layer").mean().round(2))
    0.95
    """
    draws = draws.transpose("draw", ...)
    mean = draws.mean("draw")
    count = draws.sizes["draw"]
    spread = draws.std("draw", ddof=1) if count > 1 else xr.zeros_like(mean)
    # A point that never varies is never outside.
    deviation = (abs(draws - mean) / spread.where(spread > 0, np.inf)).values.reshape(count, -1)
    # One more than the draws, because the data are one more draw.
    rank = min(COVERAGE * (count + 1) / count, 1.0)
    reach = float(np.quantile(deviation.max(axis=1), rank, method="higher"))
    centre = mean if estimate is None else estimate
    return centre - reach * spread, centre + reach * spread


def compute_minimum_interval(
    estimate: xr.DataArray, *, low: xr.DataArray, high: xr.DataArray, n: int
) -> Interval:
    """Compute the interval of a curve's minimum from the intervals of its points.

    The two ends need different edges. Where the whole curve lies below its upper edge, its minimum
    lies below that edge's minimum: the upper edge must be simultaneous. The lower end fails only if
    the lower edge is above the curve where the curve is lowest, which is one point: the lower edge
    may be pointwise, however many points there are (the intersection–union test; Berger 1982). The
    minima of resampled curves would not do: the minimum of noisy points is biased downwards, so
    that "contradicted" would come too easily.

    Parameters
    ----------
    estimate : xarray.DataArray
        ``(...)``, the curve.
    low : xarray.DataArray
        ``(...)``, the lower ends of pointwise intervals.
    high : xarray.DataArray
        ``(...)``, the upper edge of the :func:`compute_simultaneous_band`.
    n : int
        Number of independent samples that the curve rests on.

    Returns
    -------
    Interval
        The minimum over all dims.

    Examples
    --------
    >>> curve = xr.DataArray([0.5, 0.2, 0.4], dims="layer")
    >>> print(compute_minimum_interval(curve, low=curve - 0.1, high=curve + 0.1, n=20))
    0.200 [0.100, 0.300], n = 20
    """
    return Interval.around(float(estimate.min()), low=float(low.min()), high=float(high.min()), n=n)


def compute_lowest_point(curves: xr.Dataset, *, n: int) -> Interval:
    """Compute the minimum of a curve, with its interval.

    The pointwise interval is the estimate plus and minus the standard deviation of the draws, times
    the quantile of Student's t.

    Parameters
    ----------
    curves : xarray.Dataset
        ``estimate`` ``(...)`` and ``draws`` ``(draw, ...)``.
    n : int
        Number of independent samples that the curve rests on.

    Returns
    -------
    Interval
        The minimum over all dims: :func:`compute_minimum_interval`.

    Examples
    --------
    >>> estimate = xr.DataArray([0.5, 0.25], dims="layer")
    >>> curves = xr.Dataset({"estimate": estimate, "draws": estimate.expand_dims("draw")})
    >>> print(compute_lowest_point(curves, n=8))
    0.250 [0.250, 0.250], n = 8
    """
    estimate, draws = curves["estimate"], curves["draws"]
    _, high = compute_simultaneous_band(draws, estimate=estimate)
    spread = draws.std("draw", ddof=1) if draws.sizes["draw"] > 1 else 0.0
    low = estimate - float(stats.t.ppf(0.975, max(n - 1, 1))) * spread
    return compute_minimum_interval(estimate, low=low, high=high, n=n)


def compute_wilson_interval(
    ratio: xr.DataArray, *, n: int | xr.DataArray, level: float = COVERAGE
) -> tuple[xr.DataArray, xr.DataArray]:
    """Compute Wilson's interval of a ratio.

    Resampling gives a perfect score an interval of no width. Wilson's interval says how many errors
    so few samples could have missed.

    Parameters
    ----------
    ratio : xarray.DataArray
        ``(...)``, ratios in [0, 1] over `n` independent samples.
    n : int or xarray.DataArray
        Number of samples; an array ``(...)`` gives each ratio its own effective number.
    level : float
        Coverage of the interval at each point.

    Returns
    -------
    low, high : xarray.DataArray
        ``(...)``.

    Examples
    --------
    >>> low, high = compute_wilson_interval(xr.DataArray([1.0]), n=100)
    >>> float(low[0].round(3)), float(high[0].round(3))
    (0.963, 1.0)
    """
    z = float(stats.norm.ppf(0.5 + level / 2))
    centre = (ratio + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(ratio * (1 - ratio) / n + z**2 / (4 * n**2))
    return (centre - half).clip(0, 1), (centre + half).clip(0, 1)
