"""Baselines of the IMA score over layers: retrieval, mutual k-NN, CKA and Fréchet distance.

:mod:`ima.measures.representation_similarity` has the formulas. Here each baseline gets an interval
and a null at every layer of a data set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ima.errors import ParameterError
from ima.measures.representation_similarity import (
    compute_cka,
    compute_frechet_distance,
    compute_mutual_knn,
    compute_retrieval_hits,
)
from ima.measures.similarity import check_same_layers
from ima.stats import FloatArray, RowIndices
from ima.stats.intervals import Interval
from ima.stats.jackknife import compute_jackknife_interval
from ima.stats.resampling import draw_dataset_weights, label_draws, list_sample_contents

ALIGNMENT_BASELINES = ("retrieval@1", "mutual k-NN", "linear CKA", "Fréchet distance")
#: Number of groups of contents that the jackknife leaves out in turn.
JACKKNIFE_GROUPS = 10
_Measure = Callable[[FloatArray, FloatArray], Any]


def compute_baseline_curves(
    means: xr.DataArray,
    *,
    n_neighbors: int = 10,
    permutations: int = 20,
    resamples: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Compute all baselines at each layer of a data set.

    Retrieval and mutual k-NN are means over samples and get bootstrap intervals. CKA and the
    Fréchet distance get jackknife intervals over groups of contents, because a bootstrap resample
    contains samples twice.

    Parameters
    ----------
    means : xarray.DataArray
        Mean-pooled tokens ``(sample, kind, layer, hidden)``; one layer is read at a time.
    n_neighbors : int
        The k of mutual k-NN, limited to a quarter of the samples.
    permutations : int
        Number of random pairings of samples. Their mean is the null of the first three baselines.
        The null of the Fréchet distance is the distance between the texts of two halves of the
        contents.
    resamples : int
        Number of bootstrap resamples of contents.
    seed : int
        Same seed, same result.

    Returns
    -------
    xarray.Dataset
        ``estimate``, ``low``, ``high`` (95 %) and ``null`` ``(baseline, layer)``; the attribute
        ``samples`` counts contents.

    Raises
    ------
    ParameterError
        If there are fewer than 10 contents.

    Examples
    --------
    >>> states = np.random.default_rng(0).normal(size=(20, 1, 1, 8)).repeat(2, axis=1)
    >>> coords = {"kind": ["perceptual", "textual"], "layer": [0]}
    >>> means = xr.DataArray(states, coords, ("sample", "kind", "layer", "hidden"))
    >>> curves = compute_baseline_curves(means, permutations=2, resamples=10)
    >>> curves["estimate"].sel(baseline="retrieval@1").values  # both kinds are equal
    array([1.])
    """
    weights, contents, n = draw_dataset_weights({"": means}, resamples=resamples, seed=seed)
    _check_contents(n)
    k = min(n_neighbors, means.sizes["sample"] // 4)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(means.sizes["sample"]) for _ in range(permutations)]
    groups = _split_contents(contents[""], rng)
    halves = [np.concatenate(groups[part::2]) for part in (0, 1)]
    measures = _list_measures(k)
    values = np.empty((4, len(ALIGNMENT_BASELINES), means.sizes["layer"]))
    for at in range(means.sizes["layer"]):
        p, t = _read_layer(means, at)
        for number, measure in enumerate(measures[:2]):
            hits = measure(p, t)
            ends = np.quantile((weights[""] @ hits)[1:], [0.025, 0.975])
            values[:3, number, at] = hits.mean(), *ends
        for number, measure in enumerate(measures[2:], start=2):
            own = _make_jackknife_interval(_leave_out(measure, p, t, groups), n=n)
            values[:3, number, at] = own.value, own.low, own.high
        for number, measure in enumerate(measures[:3]):
            values[3, number, at] = np.mean([np.mean(measure(p, t[order])) for order in orders])
        values[3, 3, at] = compute_frechet_distance(t[halves[0]], t[halves[1]])
    names = ("estimate", "low", "high", "null")
    return xr.Dataset(
        {name: (("baseline", "layer"), own) for name, own in zip(names, values, strict=True)},
        coords={"baseline": list(ALIGNMENT_BASELINES), "layer": means["layer"].to_numpy()},
        attrs={"samples": n, "n_neighbors": k},
    )


def _list_measures(k: int) -> list[_Measure]:
    """Return the measures of :data:`ALIGNMENT_BASELINES`; two give a value for each sample."""
    knn = partial(compute_mutual_knn, k=k)
    return [compute_retrieval_hits, knn, compute_cka, compute_frechet_distance]


def _split_contents(contents: RowIndices, rng: np.random.Generator) -> list[RowIndices]:
    """Return the samples of each of the groups into which the contents are divided at random."""
    order = rng.permutation(np.unique(contents))
    return [
        np.flatnonzero(np.isin(contents, group))
        for group in np.array_split(order, JACKKNIFE_GROUPS)
    ]


def compute_baseline_estimates(means: xr.DataArray, *, n_neighbors: int = 10) -> xr.DataArray:
    """Compute all baselines at each layer of a data set, without intervals and nulls.

    Parameters
    ----------
    means : xarray.DataArray
        Mean-pooled tokens ``(sample, kind, layer, hidden)``; one layer is read at a time.
    n_neighbors : int
        The k of mutual k-NN, limited to a quarter of the samples.

    Returns
    -------
    xarray.DataArray
        ``(baseline, layer)``: the ``estimate`` of :func:`compute_baseline_curves`, to the bit. The
        jackknife there computes CKA and the Fréchet distance eleven times.

    Raises
    ------
    ParameterError
        If there are fewer than 10 samples.

    Examples
    --------
    >>> states = np.random.default_rng(0).normal(size=(20, 1, 1, 8)).repeat(2, axis=1)
    >>> coords = {"kind": ["perceptual", "textual"], "layer": [0]}
    >>> means = xr.DataArray(states, coords, ("sample", "kind", "layer", "hidden"))
    >>> compute_baseline_estimates(means).sel(baseline="retrieval@1").values  # both are equal
    array([1.])
    """
    n = means.sizes["sample"]
    _check_contents(n)
    measures = _list_measures(min(n_neighbors, n // 4))
    values = np.empty((len(ALIGNMENT_BASELINES), means.sizes["layer"]))
    for at in range(means.sizes["layer"]):
        p, t = _read_layer(means, at)
        values[:, at] = [np.mean(measure(p, t)) for measure in measures]
    coords = {"baseline": list(ALIGNMENT_BASELINES), "layer": means["layer"].to_numpy()}
    return xr.DataArray(values, coords, dims=("baseline", "layer"))


def compute_retrieval_curve(
    means: Mapping[str, xr.DataArray],
    *,
    groups: Mapping[str, npt.NDArray[Any]] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Compute retrieval@1 at each layer within each data set.

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        Mean-pooled tokens of each data set, ``(sample, kind, layer, hidden)``, all from one
        language model.
    groups : mapping of str to ndarray, or None
        By data set ``(sample,)``, labels; a sample's text is looked for among those of its group
        only, after the mean of the group is subtracted. None: one group.
    resamples : int
        Number of bootstrap resamples of contents; what a sample is searched among stays the same.
    seed : int
        Same seed, same draws.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(dataset, layer)``, ``draws`` ``(draw, dataset, layer)``, and ``null``
        ``(dataset,)``: the expectation under a random pairing, the mean of one over the number of
        samples that a sample is searched among.

    Raises
    ------
    ParameterError
        If no data sets are given, layers differ, or a data set has fewer than 2 samples.

    Examples
    --------
    >>> states = np.random.default_rng(0).normal(size=(20, 1, 1, 8)).repeat(2, axis=1)
    >>> coords = {"kind": ["perceptual", "textual"], "layer": [0]}
    >>> means = xr.DataArray(states, coords, ("sample", "kind", "layer", "hidden"))
    >>> curve = compute_retrieval_curve({"caption": means}, resamples=2)
    >>> curve["estimate"].values, curve["null"].values  # both kinds are equal
    (array([[1.]]), array([0.05]))
    """
    layers = check_same_layers(means, hint="Give caches of one language model.")
    weights, _, n = draw_dataset_weights(means, resamples=resamples, seed=seed)
    labels = groups or {
        name: np.zeros(array.sizes["sample"], np.int64) for name, array in means.items()
    }
    values = np.empty((1 + resamples, len(means), layers.size))
    for number, (name, array) in enumerate(means.items()):
        for at in range(layers.size):
            hits = compute_retrieval_hits(*_read_layer(array, at), groups=labels[name])
            values[:, number, at] = weights[name] @ hits
    coords = {"dataset": list(means), "layer": layers}
    curve = label_draws(values, ("dataset", "layer"), coords=coords, n=n, means=means)
    null = [_compute_group_chance(labels[name]) for name in means]
    return curve.assign(null=("dataset", null))


def _compute_group_chance(labels: npt.NDArray[Any]) -> float:
    """Return the mean over samples of one over the size of their group."""
    _, place, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return float((1 / sizes[place]).mean())


def compute_retrieval_at_layer(curve: xr.Dataset, *, position: int) -> Interval:
    """Compute retrieval@1 at one layer, mean over data sets.

    Parameters
    ----------
    curve : xarray.Dataset
        From :func:`compute_retrieval_curve`.
    position : int
        Position of the layer; -1 is the last.

    Examples
    --------
    >>> values = xr.DataArray([[0.25, 0.75]], dims=("dataset", "layer"))
    >>> curve = xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    >>> print(compute_retrieval_at_layer(curve.assign_attrs(samples=8), position=-1))
    0.750 [0.750, 0.750], n = 8
    """
    mean = curve[["estimate", "draws"]].mean("dataset").isel(layer=position)
    return Interval.of_draws(float(mean["estimate"]), mean["draws"], n=curve.attrs["samples"])


def _leave_out(
    measure: _Measure, a: FloatArray, b: FloatArray, groups: list[RowIndices]
) -> FloatArray:
    """Compute a measure on all samples, then without each group, ``(1 + group,)``."""
    kept = [np.arange(len(a)), *(np.setdiff1d(np.arange(len(a)), group) for group in groups)]
    return np.array([np.mean(measure(a[rows], b[rows])) for rows in kept])


def _make_jackknife_interval(values: FloatArray, *, n: int) -> Interval:
    """Return the interval of a value from :func:`_leave_out`."""
    return compute_jackknife_interval(float(values[0]), [values[1:]], n=n)


def compute_mean_baselines(means: xr.DataArray, *, seed: int = 0) -> dict[str, Interval]:
    """Compute retrieval and CKA as means over layers, with jackknife intervals over contents.

    Parameters
    ----------
    means : xarray.DataArray
        Mean-pooled tokens ``(sample, kind, layer, hidden)``; one layer is read at a time.
    seed : int
        Seed of the groups of contents.

    Returns
    -------
    dict
        By name, the mean over layers 0 … L-1, as for the IMA score; n counts contents.

    Raises
    ------
    ParameterError
        If there are fewer than 10 contents.

    Examples
    --------
    >>> states = np.random.default_rng(0).normal(size=(20, 1, 1, 8)).repeat(2, axis=1)
    >>> coords = {"kind": ["perceptual", "textual"]}
    >>> means = xr.DataArray(states, coords, ("sample", "kind", "layer", "hidden"))
    >>> compute_mean_baselines(xr.concat([means, means], "layer"))["retrieval@1"].value
    1.0
    """
    contents = list_sample_contents({"": means})["content"].to_numpy()
    n = len(np.unique(contents))
    _check_contents(n)
    groups = _split_contents(contents, np.random.default_rng(seed))
    measures: dict[str, _Measure] = {
        "retrieval@1": compute_retrieval_hits,
        "linear CKA": compute_cka,
    }
    values: dict[str, list[FloatArray]] = {name: [] for name in measures}
    for at in range(means.sizes["layer"] - 1):
        p, t = _read_layer(means, at)
        for name, measure in measures.items():
            values[name].append(_leave_out(measure, p, t, groups))
    return {
        name: _make_jackknife_interval(np.mean(by_layer, axis=0), n=n)
        for name, by_layer in values.items()
    }


def _check_contents(n: int) -> None:
    if n < JACKKNIFE_GROUPS:
        raise ParameterError(
            "The intervals of the baselines leave out a tenth of the contents at a time: "
            f"at least {JACKKNIFE_GROUPS} needed; got {n}."
        )


def _read_layer(means: xr.DataArray, at: int) -> tuple[FloatArray, FloatArray]:
    """Return perceptual and textual means of a layer, ``(sample, hidden)`` each."""
    layer = means.isel(layer=at)
    p, t = (
        layer.sel(kind=kind).to_numpy().astype(np.float64) for kind in ("perceptual", "textual")
    )
    return p, t


def describe_best_layer(curves: xr.Dataset, *, baseline: str) -> str:
    """Describe in words where a baseline is highest, and its null.

    Parameters
    ----------
    curves : xarray.Dataset
        From :func:`compute_baseline_curves`.
    baseline : str
        One of :data:`ALIGNMENT_BASELINES`.

    Examples
    --------
    >>> values = {"estimate": [[0.2, 0.6]], "low": [[0.1, 0.5]], "high": [[0.3, 0.7]]}
    >>> curves = xr.Dataset(
    ...     {name: (("baseline", "layer"), own) for name, own in values.items()},
    ...     coords={"baseline": ["retrieval@1"], "layer": [0, 1]},
    ... )
    >>> describe_best_layer(curves.assign(null=curves["low"] * 0), baseline="retrieval@1")
    '0.60 [0.50, 0.70] at layer 1 (null 0.000)'
    """
    own = curves.sel(baseline=baseline)
    layer = int(own["estimate"].idxmax())
    best = own.sel(layer=layer)
    ends = f"[{float(best['low']):.2f}, {float(best['high']):.2f}]"
    null = f"null {float(own['null'].mean()):.3f}"
    return f"{float(best['estimate']):.2f} {ends} at layer {layer} ({null})"
