"""Four treatments of mean-pooled states: what remains of a cosine without a few huge numbers.

In a real language model, a few positions (attention sinks) and a few dimensions (rogue dimensions;
Timkey & van Schijndel 2021) are far larger than all others, and rule every cosine. Each measure of
similarity can be repeated on treated means, which have the dims of the raw ones::

    raw                        mean over all tokens of a kind
    without sinks              mean over the tokens that are no sinks
    without rogue dimensions   the same, with the dimensions that carry half of the squared norm
                               set to 0
    standardised               without sinks; each dimension has mean 0 and variance 1 over the
                               samples of both kinds
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import xarray as xr

from ima.errors import UnknownNameError

Treatment = Literal["raw", "without sinks", "without rogue dimensions", "standardised"]
TREATMENTS: tuple[Treatment, ...] = get_args(Treatment)
#: Treatments that take something away from the raw means.
TREATED: tuple[Treatment, ...] = TREATMENTS[1:]
#: Rogue dimensions carry this fraction of the squared norm.
ROGUE_SHARE = 0.5


def find_rogue_dimensions(sum_squares: xr.DataArray) -> xr.DataArray:
    """Find the fewest dimensions that carry half of the squared norm at each layer.

    Parameters
    ----------
    sum_squares : xarray.DataArray
        ``/sinks/sum_squares_without`` of a cache, ``(unit, kind, layer, hidden)``: sums over
        tokens. Both kinds count alike, however many tokens they have.

    Returns
    -------
    xarray.DataArray
        ``(layer, hidden)``, True for rogue dimensions.

    Examples
    --------
    >>> dims = ("unit", "kind", "layer", "hidden")
    >>> squares = xr.DataArray([[[[9.0, 4.0, 4.0, 1.0]]] * 2], dims=dims)
    >>> find_rogue_dimensions(squares).to_numpy().tolist()
    [[True, False, False, False]]
    """
    total = sum_squares.astype("float64").sum("unit")
    share = (total / total.sum("hidden")).mean("kind").transpose("layer", "hidden")
    order = np.argsort(-share.to_numpy(), axis=-1, kind="stable")
    ranked = np.take_along_axis(share.to_numpy(), order, axis=-1)
    # A dimension is needed if those before it carry less than the fraction.
    needed = ranked.cumsum(axis=-1) - ranked < ROGUE_SHARE
    rogue = np.zeros_like(needed)
    np.put_along_axis(rogue, order, needed, axis=-1)
    return share.copy(data=rogue)


def tabulate_sink_positions(position: xr.DataArray, *, share: float = 0.5) -> pd.Series[str]:
    """Tabulate the positions at which most samples have a sink, and at which layers.

    Parameters
    ----------
    position : xarray.DataArray
        ``/sinks/position`` of a cache, ``(sample, layer, sink)``; -1 where there is none.
    share : float
        Fraction of the samples that must have a sink there.

    Returns
    -------
    pandas.Series
        By position, the first and the last such layer and their number.

    Examples
    --------
    >>> position = xr.DataArray(
    ...     [[[-1], [0], [0]]], {"layer": range(3)}, dims=("sample", "layer", "sink")
    ... )
    >>> tabulate_sink_positions(position).to_dict()
    {0: 'layers 1 to 2 (2)'}
    """
    place = position.transpose("sample", "layer", "sink").to_numpy()
    layers = position["layer"].to_numpy()
    found = {}
    for number in np.unique(place[place >= 0]).tolist():
        at = layers[(place == number).any(axis=-1).mean(axis=0) > share]
        if at.size:
            found[number] = f"layers {at[0]} to {at[-1]} ({at.size})"
    return pd.Series(found, dtype=object)


def treat_means(
    means: xr.DataArray,
    *,
    treatment: Treatment,
    without_sinks: xr.DataArray,
    sum_squares: xr.DataArray,
) -> xr.DataArray:
    """Treat the mean-pooled states of a data set.

    Parameters
    ----------
    means : xarray.DataArray
        Raw means ``(sample, kind, layer, hidden)``.
    treatment : str
        One of :data:`TREATMENTS`.
    without_sinks : xarray.DataArray
        Means over the tokens that are no sinks, ``(sample, kind, layer, hidden)``.
    sum_squares : xarray.DataArray
        Sums of squares over these tokens, ``(unit, kind, layer, hidden)``.

    Returns
    -------
    xarray.DataArray
        ``(sample, kind, layer, hidden)`` with the coords of `means`.

    Raises
    ------
    UnknownNameError
        If the treatment does not exist.

    Examples
    --------
    >>> dims = ("sample", "kind", "layer", "hidden")
    >>> raw = xr.DataArray([[[[8.0, 1.0]], [[8.0, 3.0]]]], dims=dims)
    >>> squares = xr.DataArray([[[[64.0, 1.0]], [[64.0, 9.0]]]], dims=("unit", *dims[1:]))
    >>> treat_means(
    ...     raw, treatment="without rogue dimensions", without_sinks=raw, sum_squares=squares
    ... ).to_numpy().tolist()
    [[[[0.0, 1.0]], [[0.0, 3.0]]]]
    """
    if treatment not in TREATMENTS:
        raise UnknownNameError.among(kind="treatment", asked=treatment, available=TREATMENTS)
    if treatment == "raw":
        return means
    kept = without_sinks.assign_coords(means.coords)
    if treatment == "without rogue dimensions":
        # A text without a medium has no perceptual mean, and gets none.
        ordinary = ~find_rogue_dimensions(sum_squares).variable
        return kept.where(ordinary, 0.0).where(np.isfinite(kept))
    if treatment == "standardised":
        both = ["sample", "kind"]
        spread = kept.std(both)
        # A dimension that never varies says nothing.
        return (
            ((kept - kept.mean(both)) / spread.where(spread > 0))
            .fillna(0.0)
            .where(np.isfinite(kept))
        )
    return kept


def treat_means_in_all_ways(
    means: xr.DataArray, *, without_sinks: xr.DataArray, sum_squares: xr.DataArray
) -> dict[Treatment, xr.DataArray]:
    """Treat the mean-pooled states of a data set in each way.

    Parameters
    ----------
    means, without_sinks, sum_squares : xarray.DataArray
        As for :func:`treat_means`; each is read once, except arrays of Dask, which stay on disk.

    Returns
    -------
    dict of str to xarray.DataArray
        For each of :data:`TREATMENTS`, ``(sample, kind, layer, hidden)``.

    Examples
    --------
    >>> dims = ("sample", "kind", "layer", "hidden")
    >>> raw = xr.DataArray([[[[8.0, 1.0]], [[8.0, 3.0]]]], dims=dims)
    >>> squares = (raw**2).rename(sample="unit")
    >>> list(treat_means_in_all_ways(raw, without_sinks=raw, sum_squares=squares))[:2]
    ['raw', 'without sinks']
    """
    # Arrays of Dask may be larger than the memory.
    raw, kept, squares = (
        array.load() if array.chunks is None else array
        for array in (means, without_sinks, sum_squares)
    )
    return {
        name: treat_means(raw, treatment=name, without_sinks=kept, sum_squares=squares)
        for name in TREATMENTS
    }


def name_least_treatment(sentence: str, values: Mapping[Any, float], *, quantity: str) -> str:
    """Say of a sentence on the least treatment that it is that one, and whether others disagree.

    Parameters
    ----------
    sentence : str
        What the treatment of the smallest value shows.
    values : mapping of str to float
        By treatment, a difference.
    quantity : str
        What the values are, such as ``"gap"``.

    Examples
    --------
    >>> values = {"without sinks": -0.25, "standardised": 0.125}
    >>> name_least_treatment("Texts differ.", values, quantity="gap")
    'Texts differ (without sinks, which gives the smallest gap of 2 treatments). Treatments \
disagree: standardised gives +0.125.'
    """
    least = min(values, key=values.__getitem__)
    which = f"{least}, which gives the smallest {quantity} of {len(values)} treatments"
    return f"{sentence.removesuffix('.')} ({which}).{describe_disagreement(values)}"


def describe_disagreement(values: Mapping[str, float]) -> str:
    """Say which treatments give a positive value although the least one is negative.

    Parameters
    ----------
    values : mapping of str to float
        By treatment, a difference.

    Returns
    -------
    str
        A sentence with a space before it; empty if all treatments have one sign.

    Examples
    --------
    >>> describe_disagreement({"without sinks": -0.25, "standardised": 0.125})
    ' Treatments disagree: standardised gives +0.125.'
    >>> describe_disagreement({"without sinks": 0.25, "standardised": 0.125})
    ''
    """
    if min(values.values()) >= 0:
        return ""
    above = [f"{name} gives {value:+.3f}" for name, value in values.items() if value > 0]
    return f" Treatments disagree: {', '.join(above)}." if above else ""
