"""The jackknife: the interval of a statistic from its values without one group of samples each.

A bootstrap resample repeats some samples and lacks others. A statistic that improves with more
samples, such as the agreement of two noisy choices, is therefore too low in every resample. The
jackknife repeats nothing, and only the differences between its values count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from ima.errors import ParameterError
from ima.stats.intervals import Interval


def compute_jackknife_variance(without: npt.ArrayLike) -> float:
    """Compute the variance of a statistic from its values without each of its parts.

    Parameters
    ----------
    without : array
        ``(part,)``, the statistic without one part.

    Examples
    --------
    >>> values = np.array([1.0, 2.0, 3.0, 6.0])
    >>> without = [np.delete(values, at).mean() for at in range(4)]
    >>> round(compute_jackknife_variance(without), 3)
    1.167
    """
    own = np.asarray(without, dtype=np.float64)
    return float((own.size - 1) / own.size * ((own - own.mean()) ** 2).sum())


def compute_jackknife_error(without: npt.ArrayLike) -> float:
    """Compute the standard error of a statistic from its values without each of its parts.

    Parameters
    ----------
    without : array
        ``(part,)``, the statistic without one part.

    Examples
    --------
    >>> values = np.array([1.0, 2.0, 3.0, 6.0])
    >>> round(compute_jackknife_error([np.delete(values, at).mean() for at in range(4)]), 3)
    1.08
    """
    return float(np.sqrt(compute_jackknife_variance(without)))


def compute_jackknife_interval(
    value: float,
    without: Sequence[npt.ArrayLike],
    *,
    n: int,
    noise: float = 0.0,
    level: float = 0.95,
) -> Interval:
    """Compute the interval of a statistic from its values without each group of samples.

    The variance is that of the delete-a-group jackknife, added over strata (Efron & Tibshirani
    1993, chapter 11). The interval is the value plus and minus the quantile of Student's t with
    Satterthwaite's degrees of freedom.

    Parameters
    ----------
    value : float
        The statistic of all samples.
    without : sequence of array
        By stratum ``(group,)``: the statistic without one group of the stratum. Groups of one
        stratum have about as many samples each.
    n : int
        Number of independent samples.
    noise : float
        Standard error of the value from another, independent source, such as random permutations.
    level : float
        Coverage of the interval.

    Raises
    ------
    ParameterError
        If a stratum has fewer than two groups.

    Examples
    --------
    >>> values = np.array([1.0, 2.0, 3.0, 6.0])
    >>> without = [np.delete(values, at).mean() for at in range(4)]
    >>> print(compute_jackknife_interval(3.0, [without], n=4))  # that of a t-test
    3.000 [-0.437, 6.437], n = 4
    """
    variances, degrees = [], []
    for values in without:
        own = np.asarray(values, dtype=np.float64)
        if own.size < 2:
            raise ParameterError(
                f"A jackknife needs at least two groups of samples; got {own.size}. "
                "Make the cache with more samples, or with smaller units."
            )
        variances.append(compute_jackknife_variance(own))
        degrees.append(own.size - 1)
    error = np.sqrt(sum(variances) + noise**2)
    spread = sum(v**2 / d for v, d in zip(variances, degrees, strict=True))
    freedom = sum(variances) ** 2 / spread if spread > 0 else sum(degrees)
    reach = float(stats.t.ppf(0.5 + level / 2, freedom)) * float(error)
    return Interval(value=float(value), low=value - reach, high=value + reach, n=n)
