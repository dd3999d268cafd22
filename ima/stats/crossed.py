"""Means over two crossed samples: contents that are scored under random choices, and the choices.

Both are drawn from many: other contents would give another mean, and so would other choices. An
interval that resamples the contents alone is too narrow wherever choices differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from scipy import stats

from ima.errors import ParameterError
from ima.stats import FloatArray
from ima.stats.intervals import Interval
from ima.stats.resampling import list_sample_contents


def compute_crossed_interval(
    values: Mapping[str, FloatArray], *, ids: Mapping[str, Sequence[str]], level: float = 0.95
) -> Interval:
    """Compute the mean over data sets of values of contents under random choices.

    Of each data set, it is the mean of the values that are known: not every content needs a value
    under every choice. The variance is clustered in two ways (Cameron, Gelbach & Miller 2011): that
    of contents, plus that of choices, less that of single values, which both contain. It is at
    least the larger of the first two, because their difference is noisy where choices are few.

    Parameters
    ----------
    values : mapping of str to ndarray
        By data set ``(sample, choice)``; NaN where a sample has no value under a choice. A choice
        is the same in all data sets, but not all data sets need values under it.
    ids : mapping of str to sequence of str
        The content of each data set's samples, in order. Samples of one content are one unit,
        within a data set and across data sets.
    level : float
        Coverage of the interval.

    Returns
    -------
    Interval
        The mean plus and minus the quantile of Student's t. Its degrees of freedom are those of
        contents or choices, whichever are fewer. n counts contents.

    Raises
    ------
    ParameterError
        If a data set has values of fewer than two contents, or under fewer than two choices.

    Examples
    --------
    >>> scores = np.array([[1.0, np.nan], [np.nan, 0.0], [0.0, 0.0], [1.0, 0.0]])
    >>> interval = compute_crossed_interval({"qa": scores}, ids={"qa": ["a", "b", "c", "d"]})
    >>> round(interval.value, 3), interval.n
    (0.333, 4)
    """
    owners = {
        name: xr.DataArray(own, {"id": ("sample", list(ids[name]))}, ("sample", "choice"))
        for name, own in values.items()
    }
    samples = list_sample_contents(owners)
    contents = {name: rows["content"].to_numpy() for name, rows in samples.groupby("dataset")}
    known = {name: np.isfinite(own) for name, own in values.items()}
    for name, own in known.items():
        counted = len(np.unique(contents[name][own.any(axis=1)])), own.any(axis=0).sum()
        if min(counted) < 2:
            raise ParameterError(
                "A mean over contents and random choices needs two of each in every data set; "
                f"{name} has values of {counted[0]} contents under {counted[1]} choices."
            )
    choices = next(iter(values.values())).shape[1]
    n = samples["content"].nunique()
    deviations = np.zeros((n, choices))
    for name, own in values.items():
        weight = len(values) * known[name].sum()
        np.add.at(deviations, contents[name], np.nan_to_num(own - np.nanmean(own)) / weight)
    # Contents of data sets that share none come from samples of their own.
    strata = [np.unique(own["content"]) for _, own in samples.groupby("stratum")]
    of_contents = sum(
        len(own) / (len(own) - 1) * float((deviations[own].sum(axis=1) ** 2).sum())
        for own in strata
    )
    # Each data set has its own mean, which takes a degree of freedom from its choices.
    runs = sum(int(own.any(axis=0).sum()) for own in known.values())
    of_choices = runs / (runs - len(values)) * float((deviations.sum(axis=0) ** 2).sum())
    of_values = float((deviations**2).sum())
    variance = max(of_contents + of_choices - of_values, of_contents, of_choices)
    freedom = min(choices - 1, runs - len(values), n - len(strata))
    reach = float(stats.t.ppf(0.5 + level / 2, freedom) * np.sqrt(variance))
    value = float(np.mean([np.nanmean(own) for own in values.values()]))
    return Interval(value=value, low=value - reach, high=value + reach, n=n)
