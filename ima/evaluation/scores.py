"""A score: the mean of per-sample values with a bootstrap interval and n."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from ima.errors import ParameterError
from ima.measures.inference import Interval, bootstrap_weights, percentile


def mean_score(
    values: Sequence[float] | npt.NDArray[np.float64],
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> Interval:
    """Return the mean over samples with its percentile bootstrap interval.

    Parameters
    ----------
    values : sequence of float
        ``(sample,)``.
    seed : int
        Seed of the resampling.
    resamples : int
        Number of resamples.

    Raises
    ------
    ParameterError
        If there are no values.

    Examples
    --------
    >>> mean_score([1.0, 1.0, 1.0])
    Interval(value=1.0, low=1.0, high=1.0, n=3)
    """
    array = np.asarray(values, float)
    if array.size == 0:
        message = "A score needs at least one sample; got none."
        raise ParameterError(message)
    weights = bootstrap_weights(array.size, resamples=resamples, seed=seed)
    low, high = percentile(weights.dot(xr.DataArray(array, dims="sample"), dim="sample"))
    value = float(array.mean())
    # Rounding may put an end of a degenerate interval past the value by one unit in the last place.
    return Interval(value, min(float(low), value), max(float(high), value), array.size)


def as_record(interval: Interval) -> dict[str, float | int]:
    """Return an interval as the JSON record that cards and claims hold.

    Examples
    --------
    >>> as_record(Interval(0.5, 0.25, 0.75, 4))
    {'value': 0.5, 'low': 0.25, 'high': 0.75, 'n': 4}
    """
    return {
        "value": round(interval.value, 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
        "n": interval.n,
    }
