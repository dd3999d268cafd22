"""Caches under four treatments: curves of alignment by layer, and the outputs inside blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ima.cache.cache_set import CacheSet, open_cache_set
from ima.hook_points import OUTPUT_HOOK_POINTS
from ima.measures.alignment import compute_alignment_curves
from ima.measures.baselines import compute_retrieval_curve
from ima.measures.cosine_parts import compute_part_intervals, decompose_alignment
from ima.measures.hook_point_comparison import (
    READ_STREAM,
    WRITTEN_STREAM,
    compute_block_gaps,
    compute_hook_point_alignment,
)
from ima.measures.treatments import (
    TREATMENTS,
    Treatment,
    treat_means,
    treat_means_in_all_ways,
)
from ima.stats.intervals import compute_percentile_interval

#: Measures of :func:`compute_treated_curves`.
ALL_PAIRS, MATCHED_MINUS_ALL, RETRIEVAL = "PvsT", "matched minus all", "retrieval@1"
TREATED_MEASURES = (ALL_PAIRS, MATCHED_MINUS_ALL, RETRIEVAL)
#: Means of the residual stream, and their means and sums of squares without sinks.
_STREAM_PATHS = ("means/resid_post/mean", "sinks/mean_without", "sinks/sum_squares_without")


def compute_group_retrieval(
    means: xr.DataArray,
    *,
    groups: npt.NDArray[Any] | None = None,
    resamples: int = 200,
    seed: int = 0,
) -> xr.Dataset:
    """Compute retrieval@1 at each layer of one data set.

    Parameters
    ----------
    means : xarray.DataArray
        Mean-pooled tokens ``(sample, kind, layer, hidden)``.
    groups : ndarray or None
        ``(sample,)``, labels; a sample's text is looked for among those of its group only.
    resamples : int
        Number of bootstrap resamples of the samples' hits.
    seed : int
        Same seed, same draws.

    Returns
    -------
    xarray.Dataset
        ``estimate`` and ``null`` ``(layer)``, ``draws`` ``(draw, layer)``, fractions
        (:func:`ima.measures.baselines.compute_retrieval_curve`).

    Examples
    --------
    >>> states = np.random.default_rng(0).normal(size=(20, 1, 1, 8)).repeat(2, axis=1)
    >>> coords = {"kind": ["perceptual", "textual"], "layer": [0]}
    >>> means = xr.DataArray(states, coords, ("sample", "kind", "layer", "hidden"))
    >>> curve = compute_group_retrieval(means, resamples=2)
    >>> curve["estimate"].values.round(6).tolist(), curve["null"].values.round(6).tolist()
    ([1.0], [0.05])
    """
    labels = None if groups is None else {"one": groups}
    curve = compute_retrieval_curve({"one": means}, groups=labels, resamples=resamples, seed=seed)
    curve = curve.isel(dataset=0, drop=True)
    return curve.assign(null=xr.full_like(curve["estimate"], float(curve["null"])))


def compute_treated_curves(
    by_treatment: Mapping[Treatment, xr.DataArray], *, resamples: int = 200, seed: int = 0
) -> dict[str, xr.Dataset]:
    """Compute the three measures of alignment under each treatment of one data set.

    Parameters
    ----------
    by_treatment : mapping of str to xarray.DataArray
        Treated means ``(sample, kind, layer, hidden)`` of the same samples.
    resamples : int
        Number of bootstrap resamples of contents, the same for all treatments.
    seed : int
        Same seed, same draws.

    Returns
    -------
    dict of str to xarray.Dataset
        For each of :data:`TREATED_MEASURES`, ``estimate`` ``(treatment, layer)`` and ``draws``
        ``(draw, treatment, layer)``.

    Examples
    --------
    >>> sets = read_treated_sets(cache_set)  # doctest: +SKIP
    >>> curves = compute_treated_curves(sets["drawings-image-caption"])  # doctest: +SKIP
    """
    parts: dict[str, list[xr.Dataset]] = {name: [] for name in TREATED_MEASURES}
    for means in by_treatment.values():
        one = {"one": means.load()}
        alignment = compute_alignment_curves(one, resamples=resamples, seed=seed)
        parts[ALL_PAIRS].append(alignment["all"].isel(dataset=0, drop=True))
        parts[MATCHED_MINUS_ALL].append(alignment["matched minus all"].isel(dataset=0, drop=True))
        parts[RETRIEVAL].append(compute_group_retrieval(one["one"], resamples=resamples, seed=seed))
    names = np.array(list(by_treatment), dtype=object)
    return {
        measure: xr.concat(curves, "treatment").assign_coords(treatment=names)
        for measure, curves in parts.items()
    }


def read_treated_sets(cache_set: CacheSet) -> dict[str, dict[Treatment, xr.DataArray]]:
    """Return the means of each data set under each treatment.

    Raises
    ------
    CacheError
        If a cache holds no ``/sinks``.

    Examples
    --------
    >>> list(read_treated_sets(cache_set)["drawings-image-caption"])  # doctest: +SKIP
    ['raw', 'without sinks', 'without rogue dimensions', 'standardised']
    """
    raw, without, squares = (cache_set.read_arrays(path) for path in _STREAM_PATHS)
    return {
        data: treat_means_in_all_ways(means, without_sinks=without[data], sum_squares=squares[data])
        for data, means in raw.items()
    }


def has_sinks(cache_set: CacheSet) -> bool:
    """Return whether each cache holds ``/sinks``, which all treatments need.

    Examples
    --------
    >>> has_sinks(cache_set)  # doctest: +SKIP
    True
    """
    return all("sinks" in tree.children for tree in cache_set.trees.values())


def read_treated_means(cache_set: CacheSet, treatment: Treatment) -> dict[str, xr.DataArray]:
    """Return the means of each data set under one treatment.

    Parameters
    ----------
    cache_set : CacheSet
        The caches; whatever their hook points, the residual stream is treated.
    treatment : str
        One of :data:`ima.measures.treatments.TREATMENTS`.

    Returns
    -------
    dict of str to xarray.DataArray
        By data set, ``(sample, kind, layer, hidden)``.

    Raises
    ------
    CacheError
        If a cache holds no ``/sinks``.
    UnknownNameError
        If the treatment does not exist.

    Examples
    --------
    >>> read_treated_means(cache_set, "standardised")  # doctest: +SKIP
    """
    return _treat_arrays(cache_set, _STREAM_PATHS, treatment)


def _treat_arrays(
    cache_set: CacheSet, paths: tuple[str, str, str], treatment: Treatment
) -> dict[str, xr.DataArray]:
    """Treat the means at the first path by means and sums of squares without sinks."""
    raw, without, squares = (cache_set.read_arrays(path) for path in paths)
    return {
        data: treat_means(
            means.load(),
            treatment=treatment,
            without_sinks=without[data].load(),
            sum_squares=squares[data].load(),
        )
        for data, means in raw.items()
    }


def compute_treated_block_gaps(
    cache_set: CacheSet, *, resamples: int = 1000, seed: int = 0
) -> xr.Dataset:
    """Compute by how much PvsT inside the block exceeds that of the stream that it reads.

    Parameters
    ----------
    cache_set : CacheSet
        The caches; the outputs inside the block that all of them hold are compared.
    resamples : int
        Number of bootstrap resamples of contents, the same for all treatments.
    seed : int
        Same seed, same draws.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(treatment, hook_point)`` and ``draws`` ``(draw, treatment, hook_point)``
        (:func:`ima.measures.hook_point_comparison.compute_block_gaps`).

    Raises
    ------
    CacheError
        If a cache holds no ``/sinks`` or no ``/without_sinks``.
    ParameterError
        If the caches have no output inside the block in common.

    Examples
    --------
    >>> gaps = compute_treated_block_gaps(cache_set)  # doctest: +SKIP
    >>> gaps["estimate"].sel(treatment="standardised", hook_point="mlp_out")  # doctest: +SKIP
    """
    held = set.intersection(*(set(tree["means"].children) for tree in cache_set.trees.values()))
    gaps = []
    for treatment in TREATMENTS:
        means = {}
        for hook_point in filter(held.__contains__, OUTPUT_HOOK_POINTS):
            inside = f"without_sinks/{hook_point}"
            paths = (f"means/{hook_point}/mean", f"{inside}/mean", f"{inside}/sum_squares")
            means[hook_point] = _treat_arrays(cache_set, paths, treatment)
        means[WRITTEN_STREAM] = read_treated_means(cache_set, treatment)
        curves = compute_hook_point_alignment(means, resamples=resamples, seed=seed)
        gaps.append(compute_block_gaps(curves, hook_points=OUTPUT_HOOK_POINTS, stream=READ_STREAM))
    names = np.array(TREATMENTS, dtype=object)
    return xr.concat(gaps, "treatment").assign_coords(treatment=names)


def bound_curve(curve: xr.Dataset) -> xr.Dataset:
    """Return a curve with the ends of its 95 % percentile interval in place of draws.

    Parameters
    ----------
    curve : xarray.Dataset
        ``estimate`` and either ``draws`` or ``low`` and ``high``.

    Examples
    --------
    >>> values = xr.DataArray([0.5], dims="layer")
    >>> curve = xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    >>> list(bound_curve(curve))
    ['estimate', 'low', 'high']
    """
    if "draws" in curve:
        low, high = compute_percentile_interval(curve["draws"])
        curve = curve.assign(low=low, high=high)
    return curve[["estimate", "low", "high"]].reset_coords(drop=True)


def decompose_training_change(
    cache_set: CacheSet, before: str, *, resamples: int = 200, seed: int = 0
) -> dict[str, xr.Dataset]:
    """Decompose what training changed in the IMA score, on the samples that both caches hold.

    Parameters
    ----------
    cache_set : CacheSet
        The caches of trained models.
    before : str
        Cache of one of these models before training, on the same data set.
    resamples : int
        Number of bootstrap resamples of contents.
    seed : int
        Same seed, same draws.

    Returns
    -------
    dict of str to xarray.Dataset
        By data set, :func:`~ima.measures.cosine_parts.compute_part_intervals` of the change; empty
        if the cache set does not hold the data set.

    Examples
    --------
    >>> decompose_training_change(cache_set, "model@0--data.zarr")  # doctest: +SKIP
    """
    start = open_cache_set([before])
    (data,) = start.means
    if data not in cache_set.means:
        return {}
    n = min(one.means[data].sizes["sample"] for one in (start, cache_set))
    first, last = (
        decompose_alignment(
            {data: one.means[data][:n]},
            without_sinks={data: one.read_arrays("sinks/mean_without")[data][:n]},
            sum_squares={data: one.read_arrays("sinks/sum_squares_without")[data]},
            resamples=resamples,
            seed=seed,
        )
        for one in (start, cache_set)
    )
    changes = compute_part_intervals(last, before=first)
    return {data: changes.sel(number=["change in training"])}
