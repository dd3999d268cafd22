"""The least change of alignment over treatments: what F3.1 and F3.2 claim must hold for all.

A change counts only if it survives each treatment (:mod:`ima.measures.treatments`). The statistic
is therefore the smallest change over treatments, with the interval of a minimum
(:func:`ima.stats.intervals.compute_lowest_point`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import xarray as xr

from ima.measures.alignment import (
    average_inner_layers,
    compute_ima_score_draws,
    subtract_layer_one,
)
from ima.measures.treatments import name_least_treatment
from ima.stats.intervals import Interval, compute_lowest_point
from ima.stats.resampling import count_contents


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
    rises = [subtract_layer_one(curve) for curve in curves.values()]
    n = int(next(iter(curves.values())).attrs["samples"])
    return compute_lowest_point(xr.concat(rises, "treatment"), n=n)


def describe_least_depth_rise(curves: Mapping[str, xr.Dataset]) -> str:
    """Describe the smallest rise over treatments in one sentence.

    Parameters
    ----------
    curves : mapping of str to xarray.Dataset
        As for :func:`compute_least_depth_rise`.

    Examples
    --------
    >>> def make_curve(last):
    ...     values = xr.DataArray([[0.0, 0.25, last]], {"layer": range(3)}, ("dataset", "layer"))
    ...     return xr.Dataset({"estimate": values})
    >>> print(describe_least_depth_rise({"raw": make_curve(0.75), "standardised": make_curve(0.5)}))
    Without attention between percepts and text, matched pairs exceed all pairs by 0.250 at layer \
1, by 0.500 at layer 2, and most by 0.500 at layer 2 (standardised, which gives the smallest rise \
of 2 treatments).
    """
    means = {name: curve["estimate"].mean("dataset") for name, curve in curves.items()}
    rises = {name: float(mean[-1] - mean.sel(layer=1)) for name, mean in means.items()}
    mean = means[min(rises, key=rises.__getitem__)]
    found = (
        "Without attention between percepts and text, matched pairs exceed all pairs by "
        f"{float(mean.sel(layer=1)):.3f} at layer 1, by {float(mean[-1]):.3f} at layer "
        f"{int(mean['layer'][-1])}, and most by {float(mean.max()):.3f} at layer "
        f"{int(mean.idxmax())}."
    )
    return name_least_treatment(found, rises, quantity="rise")


def describe_least_score_change(changes: Mapping[str, tuple[xr.Dataset, xr.Dataset]]) -> str:
    """Describe the smallest change in training over treatments in one sentence.

    Parameters
    ----------
    changes : mapping of str to tuple of xarray.Dataset
        As for :func:`compute_least_score_change`.

    Examples
    --------
    >>> def make_curve(first):
    ...     values = xr.DataArray([[first, 0.0]], dims=("dataset", "layer"))
    ...     return xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    >>> describe_least_score_change({"standardised": (make_curve(0.25), make_curve(0.75))})
    'Without attention between percepts and text, matched pairs exceed all pairs by 0.250 before \
training and by 0.750 after it, mean over layers (standardised, which gives the smallest change of \
1 treatments).'
    """
    ends = {
        name: [compute_ima_score_draws(curve)[0] for curve in pair]
        for name, pair in changes.items()
    }
    changes_by_name = {name: after - before for name, (before, after) in ends.items()}
    before, after = ends[min(changes_by_name, key=changes_by_name.__getitem__)]
    found = (
        "Without attention between percepts and text, matched pairs exceed all pairs by "
        f"{before:.3f} before training and by {after:.3f} after it, mean over layers."
    )
    return name_least_treatment(found, changes_by_name, quantity="change")


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
    steps = [
        average_inner_layers(after) - average_inner_layers(before)
        for before, after in changes.values()
    ]
    n = int(next(iter(changes.values()))[1].attrs["samples"])
    return compute_lowest_point(xr.concat(steps, "treatment"), n=n)


def average_runs(
    runs: Sequence[Mapping[str, Sequence[xr.Dataset]]],
) -> dict[str, tuple[xr.Dataset, xr.Dataset]]:
    """Average the curves of several training runs of one language model, before and after.

    Parameters
    ----------
    runs : sequence of mapping
        Of each run, by treatment, its curves before and after training
        (:func:`ima.measures.alignment.compute_alignment_curve`) with the same seed and number of
        resamples.

    Returns
    -------
    dict of str to tuple of xarray.Dataset
        By treatment, the means over runs: one data set named ``runs``. The attribute ``samples``
        counts contents, each once even if several runs read it.

    Examples
    --------
    >>> values = xr.DataArray([[0.25, 0.0]], dims=("dataset", "layer"))
    >>> curve = xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    >>> curve = curve.assign_attrs(contents=frozenset("abcdefgh"))
    >>> average_runs([{"raw": (curve, curve)}] * 2)["raw"][1].attrs["samples"]
    8
    """
    averaged = {}
    for treatment in runs[0]:
        sides = []
        for side in (0, 1):
            curves = [run[treatment][side] for run in runs]
            mean = xr.concat([curve.mean("dataset") for curve in curves], "dataset").mean("dataset")
            mean = mean.expand_dims(dataset=["runs"])
            sides.append(mean.assign_attrs(samples=count_contents(curves)))
        averaged[treatment] = (sides[0], sides[1])
    return averaged
