"""The least change of alignment over treatments: what F3.1 and F3.2 claim must hold for all.

A change counts only if it survives each treatment (:mod:`ima.measures.treatments`). The statistic
is therefore the smallest change over treatments, with the interval that their simultaneous band
gives.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from ima.measures.alignment import compute_ima_score_draws
from ima.stats.intervals import Interval, compute_lowest_point


def compute_least_depth_rise(curves: Mapping[str, xr.Dataset]) -> Interval:
    """Compute the smallest rise from layer 1 to the last layer over treatments.

    Parameters
    ----------
    curves : mapping of str to xarray.Dataset
        By treatment, from :func:`ima.measures.alignment.compute_alignment_curve` of the same
        samples with the same seed: ``estimate`` ``(dataset, layer)`` and ``draws``.

    Returns
    -------
    Interval
        A difference of cosines, mean over data sets.

    Examples
    --------
    >>> def make_curve(last):
    ...     values = xr.DataArray([[0.0, 0.25, last]], {"layer": range(3)}, ("dataset", "layer"))
    ...     curve = xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    ...     return curve.assign_attrs(samples=8)
    >>> compute_least_depth_rise({"a": make_curve(0.75), "b": make_curve(0.5)}).value
    0.25
    """
    rises = [
        (curve.isel(layer=-1, drop=True) - curve.sel(layer=1, drop=True)).mean("dataset")
        for curve in curves.values()
    ]
    n = int(next(iter(curves.values())).attrs["samples"])
    return compute_lowest_point(xr.concat(rises, "treatment"), n=n)


def compute_least_score_change(changes: Mapping[str, tuple[xr.Dataset, xr.Dataset]]) -> Interval:
    """Compute the smallest change of a score in training over treatments.

    Parameters
    ----------
    changes : mapping of str to tuple of xarray.Dataset
        By treatment, the curves before and after training, as in
        :func:`compute_least_depth_rise`. The score is the mean over layers 0 … L-1 and data sets.

    Returns
    -------
    Interval
        A difference of cosines. Contents are resampled together before and after.

    Examples
    --------
    >>> def make_curve(first):
    ...     values = xr.DataArray([[first, 0.0]], dims=("dataset", "layer"))
    ...     curve = xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    ...     return curve.assign_attrs(samples=8)
    >>> rising, falling = (make_curve(0.25), make_curve(0.75)), (make_curve(0.5), make_curve(0.25))
    >>> compute_least_score_change({"a": rising, "b": falling}).value
    -0.25
    """
    estimates, draws = [], []
    for before, after in changes.values():
        first, last = compute_ima_score_draws(before), compute_ima_score_draws(after)
        estimates.append(last[0] - first[0])
        draws.append(last[1] - first[1])
    stacked = xr.Dataset(
        {
            "estimate": ("treatment", np.array(estimates)),
            "draws": (("treatment", "draw"), np.array(draws)),
        }
    )
    n = int(next(iter(changes.values()))[1].attrs["samples"])
    return compute_lowest_point(stacked, n=n)
