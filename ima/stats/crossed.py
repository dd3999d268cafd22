"""Means over two crossed samples: contents that are scored under random choices, and the choices.

Both are drawn from many: other contents would give another mean, and so would other choices. An
interval that resamples the contents alone is too narrow wherever choices differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from ima.errors import ParameterError
from ima.stats import FloatArray
from ima.stats.intervals import Interval


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
        Contents of each data set's samples, in order. Data sets of the same contents count as one
        sample of contents.
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
    contents = list(dict.fromkeys(tuple(ids[name]) for name in values))
    known = {name: np.isfinite(own) for name, own in values.items()}
    for name, own in known.items():
        counted = own.any(axis=1).sum(), own.any(axis=0).sum()
        if min(counted) < 2:
            raise ParameterError(
                "A mean over contents and random choices needs two of each in every data set; "
                f"{name} has values of {counted[0]} contents under {counted[1]} choices."
            )
    choices = next(iter(values.values())).shape[1]
    deviations = [np.zeros((len(own), choices)) for own in contents]
    for name, own in values.items():
        weight = len(values) * known[name].sum()
        deviations[contents.index(tuple(ids[name]))] += (
            np.nan_to_num(own - np.nanmean(own)) / weight
        )
    of_contents = sum(
        len(own) / (len(own) - 1) * float((own.sum(axis=1) ** 2).sum()) for own in deviations
    )
    # Each data set has its own mean, which takes a degree of freedom from its choices.
    runs = sum(int(own.any(axis=0).sum()) for own in known.values())
    by_choice = np.sum([own.sum(axis=0) for own in deviations], axis=0)
    of_choices = runs / (runs - len(values)) * float((by_choice**2).sum())
    of_values = sum(float((own**2).sum()) for own in deviations)
    variance = max(of_contents + of_choices - of_values, of_contents, of_choices)
    n = sum(len(own) for own in contents)
    freedom = min(choices - 1, runs - len(values), n - len(contents))
    reach = float(stats.t.ppf(0.5 + level / 2, freedom) * np.sqrt(variance))
    value = float(np.mean([np.nanmean(own) for own in values.values()]))
    return Interval(value=value, low=value - reach, high=value + reach, n=n)
