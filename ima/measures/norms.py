"""Norms and change over layers (F1.3, F1.4): how large states are and how slowly they turn.

Figure 3 of the paper, for perceptual states P_l and textual states T_l at layers l::

    F1.3 as stated  min over l of mean over data sets of log₂(median ‖P_l‖ / median ‖T_l‖)
    F1.3 as tested  the same over l ≥ 1, of a model whose P_0 is scaled to the median norm of T_0
    F1.4 as stated  mean over early l of cos(P_l, P_l+1) − cos(T_l, T_l+1)
    F1.4 as tested  the same over all l, of states with matched norms (norm-matched cosine)

Of multitask models, F1.3 takes the early layers only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import xarray as xr

from ima.errors import ParameterError, UnknownNameError
from ima.hook_points import SINK_NORM_RATIO, TOKEN_KINDS
from ima.measures.similarity import check_same_layers
from ima.stats import BoolArray, FloatArray, RowIndices
from ima.stats.intervals import Interval, compute_lowest_point
from ima.stats.resampling import BootstrapWeights, draw_dataset_weights, label_draws

ChangeMeasure = Literal[
    "cosine",
    "norm-matched cosine",
    "mean-centred cosine",
    "cosine without sinks",
    "relative change",
]
#: Ways to compare a token's states x and y at two layers: their cosine; the cosine of ``m·x/|x|``
#: and ``m·x/|x| + (y - x)``, with m the median norm of textual tokens at the layer of x; the cosine
#: after the mean over the tokens of the kind is subtracted at each layer; the cosine of tokens that
#: are a sink at neither layer; ``|y - x| / |x|``.
CHANGE_MEASURES: tuple[ChangeMeasure, ...] = get_args(ChangeMeasure)


def average_over_samples(
    values: Mapping[str, xr.DataArray], *, resamples: int = 1000, seed: int = 0
) -> xr.Dataset:
    """Average a statistic of samples over each data set, with resampled contents.

    Parameters
    ----------
    values : mapping of str to xarray.DataArray
        By data set ``(sample, kind, layer)``, for example ``/norms/resid_post/median``, the median
        L2 norm of a sample's tokens. The coord ``id`` on ``sample`` identifies contents that data
        sets share.
    resamples : int
        Number of bootstrap resamples.
    seed : int
        Same seed, same draws.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(dataset, kind, layer)`` and ``draws`` ``(draw, dataset, kind, layer)``; NaN
        where a data set has no tokens of a kind.

    Raises
    ------
    ParameterError
        If no data sets are given.

    Examples
    --------
    >>> coords = {"kind": ["perceptual", "textual"], "layer": [0]}
    >>> norms = xr.DataArray([[[3.0], [1.0]], [[5.0], [1.0]]], coords, ("sample", "kind", "layer"))
    >>> average_over_samples({"caption": norms}, resamples=10)["estimate"].values.tolist()
    [[[4.0], [1.0]]]
    """
    layers = check_same_layers(values, hint="Give caches of one language model.")
    weights, _, n = draw_dataset_weights(values, resamples=resamples, seed=seed)
    kinds = next(iter(values.values()))["kind"].to_numpy()
    means = [_compute_weighted_means(array, weights[name]) for name, array in values.items()]
    coords = {"dataset": list(values), "kind": kinds, "layer": layers.to_numpy()}
    return label_draws(np.stack(means, axis=1), ("dataset", "kind", "layer"), coords=coords, n=n)


def _compute_weighted_means(array: xr.DataArray, weights: BootstrapWeights) -> FloatArray:
    """Average ``(sample, kind, layer)`` in every resample to ``(draw, kind, layer)``."""
    values = array.transpose("sample", "kind", "layer").to_numpy().astype(np.float64)
    flat = weights @ values.reshape(len(values), -1)
    return flat.reshape(len(weights), *values.shape[1:])


def select_early_layers(averaged: xr.Dataset, *, ratio: float = 0.25) -> xr.Dataset:
    """Select the first layers: a ratio of all layers, rounded up, at least one.

    Examples
    --------
    >>> select_early_layers(xr.Dataset(coords={"layer": range(13)}))["layer"].values
    array([0, 1, 2, 3])
    """
    return averaged.isel(layer=slice(max(1, math.ceil(ratio * averaged.sizes["layer"]))))


def select_claimed_layers(
    averaged: xr.Dataset, *, multitask: bool, first: int = 0, ratio: float = 0.25
) -> xr.Dataset:
    """Select the layers that F1.3 is about: all, or the early ones of a multitask model.

    Parameters
    ----------
    averaged : xarray.Dataset
        From :func:`average_over_samples`, at all layers.
    multitask : bool
        Whether the model reads several tasks.
    first : int
        The first layer to select, which is selected in any case.
    ratio : float
        Ratio of early layers, as in :func:`select_early_layers`.

    Examples
    --------
    >>> averaged = xr.Dataset(coords={"layer": range(13)})
    >>> select_claimed_layers(averaged, multitask=True, first=1)["layer"].values
    array([1, 2, 3])
    """
    claimed = select_early_layers(averaged, ratio=ratio) if multitask else averaged
    return averaged.sel(layer=slice(first, max(first, int(claimed["layer"][-1]))))


def average_layer_drift(
    cosines: Mapping[str, xr.DataArray], *, step: int, resamples: int = 1000, seed: int = 0
) -> xr.Dataset:
    """Average the cosine between each token's states at layers l and l + `step`.

    Parameters
    ----------
    cosines : mapping of str to xarray.DataArray
        ``/drift/cosine`` of each data set, ``(sample, kind, step, layer)``.
    step : int
        Number of layers between the two states.
    resamples, seed : int
        As in :func:`average_over_samples`.

    Returns
    -------
    xarray.Dataset
        As from :func:`average_over_samples`, at the layers l for which layer l + `step` exists.

    Raises
    ------
    ParameterError
        If the caches do not contain the step, or the model has too few layers.

    Examples
    --------
    >>> coords = {"kind": ["perceptual", "textual"], "step": [1], "layer": [0, 1]}
    >>> dims = ("sample", "kind", "step", "layer")
    >>> drift = xr.DataArray(np.full((4, 2, 1, 2), 0.5), coords, dims)
    >>> average_layer_drift({"caption": drift}, step=1, resamples=10)["layer"].values
    array([0])
    """
    for name, array in cosines.items():
        steps = array["step"].to_numpy().tolist()
        if step not in steps or array.sizes["layer"] <= step:
            raise ParameterError(
                f"{name} has no drift over {step} layers: it has steps {steps} and "
                f"{array.sizes['layer']} layers."
            )
    selected = {
        name: array.sel(step=step).isel(layer=slice(None, -step)) for name, array in cosines.items()
    }
    return average_over_samples(selected, resamples=resamples, seed=seed)


def average_token_changes(
    trees: Mapping[str, xr.DataTree],
    *,
    contents: Mapping[str, Sequence[str]],
    hook_point: str = "resid_post",
    measures: Sequence[ChangeMeasure] = CHANGE_MEASURES,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, xr.Dataset]:
    """Average how much each token changes from one layer to the next.

    Parameters
    ----------
    trees : mapping of str to xarray.DataTree
        Caches; those without single tokens are left out.
    contents : mapping of str to sequence of str
        The content of each sample of a cache, of
        :meth:`ima.cache.cache_set.CacheSet.list_contents`.
    hook_point : str
        Hook point of the states.
    measures : sequence of str
        Some of :data:`CHANGE_MEASURES`.
    resamples, seed : int
        As in :func:`average_over_samples`.

    Returns
    -------
    dict of str to xarray.Dataset
        By measure, as from :func:`average_over_samples`; empty where no cache has single tokens.

    Examples
    --------
    >>> cache = ima.open_cache("caption.zarr")  # doctest: +SKIP
    >>> contents = {"caption": list_contents(cache, name="caption")}  # doctest: +SKIP
    >>> average_token_changes({"caption": cache}, contents=contents)  # doctest: +SKIP
    """
    changes: dict[str, dict[str, xr.DataArray]] = {}
    for name, tree in trees.items():
        if "tokens" not in tree.children:
            continue
        tokens = tree[f"tokens/{hook_point}"].to_dataset()
        ids = np.array(contents[name], dtype=object)
        for measure in measures:
            values = compute_token_changes(tokens, step=1, measure=measure)
            own = ids[: values.sizes["sample"]]
            changes.setdefault(measure, {})[name] = values.assign_coords(id=("sample", own))
    return {
        measure: average_over_samples(by_dataset, resamples=resamples, seed=seed)
        for measure, by_dataset in changes.items()
    }


def compute_token_changes(
    tokens: xr.Dataset,
    *,
    step: int,
    measure: ChangeMeasure = "cosine",
    paper_compat: bool = False,
) -> xr.DataArray:
    """Compare each token's states at two layers, and average over a sample's tokens of a kind.

    A token of large norm turns slowly for that reason alone, and a mean that all tokens share makes
    every cosine large. The norm-matched and the mean-centred cosine remove these two effects. A
    block reads its input through a norm layer, so its output does not depend on the input's norm:
    the norm-matched cosine is the one that a state of another norm would have had. Sinks can decide
    the mean of a few tokens; they are left out at both layers. The relative change is no control,
    because it divides by the norm in question.

    Parameters
    ----------
    tokens : xarray.Dataset
        ``/tokens/<hook point>`` of a cache: ``state`` ``(token, layer, hidden)`` with the coords
        ``sample`` and ``modality``. Two layers are read at a time.
    step : int
        Number of layers between the two states.
    measure : str
        One of :data:`CHANGE_MEASURES`.
    paper_compat : bool
        Compare each token with the tokens of *other* samples of its kind at the later layer, as the
        indices of the released code do; for the cosine only.

    Returns
    -------
    xarray.DataArray
        ``(sample, kind, layer)``, with the label of the earlier layer.

    Raises
    ------
    ParameterError
        If there are too few layers, or `paper_compat` is combined with another measure.
    UnknownNameError
        If the measure does not exist.

    Examples
    --------
    >>> tokens = xr.Dataset(
    ...     {"state": (("token", "layer", "hidden"), [[[1.0, 0.0], [0.6, 0.8]], [[2.0, 0.0]] * 2])},
    ...     coords={"layer": [0, 1], "sample": ("token", [0, 0]), "modality": ("token", [1, 0])},
    ... )
    >>> compute_token_changes(tokens, step=1).values.tolist()
    [[[0.6], [1.0]]]
    """
    if paper_compat and measure != "cosine":
        raise ParameterError(
            f"The released code compares by cosine; {measure!r} has no released form."
        )
    if measure not in CHANGE_MEASURES:
        raise UnknownNameError.among(kind="measure", asked=measure, available=CHANGE_MEASURES)
    labels = tokens["layer"].to_numpy()
    if not 1 <= step < len(labels):
        raise ParameterError(f"step must be between 1 and {len(labels) - 1}; got {step}.")
    sample = tokens["sample"].to_numpy()
    kind = np.where(tokens["modality"].to_numpy() > 0, 0, 1)
    samples = int(sample.max()) + 1
    group = sample * 2 + kind
    values = np.empty((samples, 2, len(labels) - step))
    for at in range(len(labels) - step):
        before, after = (
            tokens["state"].isel(layer=layer).to_numpy().astype(np.float64)
            for layer in (at, at + step)
        )
        if paper_compat:
            changes = _compare_with_other_samples(before, after, kind=kind, sample=sample)
        else:
            changes = _compare_states(before, after, kind=kind, measure=measure)
        counted = np.ones(len(group), dtype=bool)
        if measure == "cosine without sinks":
            counted = ~(_find_sinks(before, group=group) | _find_sinks(after, group=group))
        counts, total = (
            np.bincount(group, weights=weights, minlength=2 * samples)
            for weights in (counted, changes * counted)
        )
        with np.errstate(invalid="ignore"):
            mean = total / np.where(counts > 0, counts, np.nan)
        values[:, :, at] = mean.reshape(samples, 2)
    return xr.DataArray(
        values,
        dims=("sample", "kind", "layer"),
        coords={"kind": list(TOKEN_KINDS), "layer": labels[: len(labels) - step]},
    )


def _compare_states(
    before: FloatArray, after: FloatArray, *, kind: RowIndices, measure: ChangeMeasure
) -> FloatArray:
    if measure == "relative change":
        return _compute_norms(after - before) / _compute_norms(before)
    if measure == "norm-matched cosine":
        norms = _compute_norms(before)
        median = np.median(norms[kind == 1] if (kind == 1).any() else norms)
        scaled = before * (median / norms)[:, None]
        before, after = scaled, scaled + (after - before)
    elif measure == "mean-centred cosine":
        before, after = before.copy(), after.copy()
        for side, k in itertools.product((before, after), np.unique(kind)):
            side[kind == k] -= side[kind == k].mean(axis=0)
    product = np.einsum("th,th->t", before, after)
    cosines: FloatArray = product / (_compute_norms(before) * _compute_norms(after))
    return cosines


def _find_sinks(states: FloatArray, *, group: RowIndices) -> BoolArray:
    """Find tokens whose norm is many times the lower median of their kind in their sample."""
    norms = _compute_norms(states)
    ranked = norms[np.lexsort((norms, group))]
    counts = np.bincount(group)
    middle = counts.cumsum() - counts + (np.maximum(counts, 1) - 1) // 2
    sinks: BoolArray = norms > SINK_NORM_RATIO * ranked[middle[group]]
    return sinks


def _compare_with_other_samples(
    before: FloatArray, after: FloatArray, *, kind: RowIndices, sample: RowIndices
) -> FloatArray:
    """Compute each token's mean cosine with the later tokens of its kind in other samples."""
    before, after = (side / _compute_norms(side)[:, None] for side in (before, after))
    cosines = np.empty(len(before))
    for k in (0, 1):
        rows = np.flatnonzero(kind == k)
        whole = after[rows].sum(axis=0)
        for number in np.unique(sample[rows]):
            own = rows[sample[rows] == number]
            others = len(rows) - len(own)
            total = whole - after[own].sum(axis=0)
            cosines[own] = before[own] @ total / others if others else np.nan
    return cosines


def _compute_norms(vectors: FloatArray) -> FloatArray:
    norms: FloatArray = np.linalg.norm(vectors, axis=1)
    return norms


def compute_norm_ratio(averaged: xr.Dataset) -> Interval:
    """Measure F1.3: log₂ of perceptual over textual norm at the layer where it is smallest.

    Parameters
    ----------
    averaged : xarray.Dataset
        From :func:`average_over_samples` of norms, at the layers that the claim is about.

    Returns
    -------
    Interval
        Minimum over layers of the mean over data sets of log₂(‖P‖ / ‖T‖): 0 where both norms are
        equal, 1 where perceptual norms are twice as large.

    Examples
    --------
    >>> coords = {"kind": ["perceptual", "textual"], "layer": [0]}
    >>> norms = xr.DataArray([[[4.0], [1.0]]], coords, ("dataset", "kind", "layer"))
    >>> averaged = xr.Dataset({"estimate": norms, "draws": norms.expand_dims("draw")})
    >>> print(compute_norm_ratio(averaged.assign_attrs(samples=8)))
    2.000 [2.000, 2.000], n = 8
    """
    return compute_lowest_point(_compute_log_ratios(averaged), n=averaged.attrs["samples"])


def describe_norm_ratios(averaged: xr.Dataset, *, given: str = "") -> str:
    """Say at how many layers perceptual norms are larger, and the smallest ratio.

    Parameters
    ----------
    averaged : xarray.Dataset
        As for :func:`compute_norm_ratio`.
    given : str
        Condition of the run, at the start of the sentence.

    Examples
    --------
    >>> coords = {"kind": ["perceptual", "textual"], "layer": [0, 1]}
    >>> norms = xr.DataArray([[[4.0, 1.0], [1.0, 2.0]]], coords, ("dataset", "kind", "layer"))
    >>> averaged = xr.Dataset({"estimate": norms, "draws": norms.expand_dims("draw")})
    >>> print(describe_norm_ratios(averaged))
    Perceptual norms are larger than textual norms at 1 of 2 layers; the ratio is smallest at \
layer 1: 0.50.
    """
    ratios = 2.0 ** _compute_log_ratios(averaged)["estimate"]
    start = f"{given}, perceptual" if given else "Perceptual"
    return (
        f"{start} norms are larger than textual norms at {int((ratios > 1).sum())} of "
        f"{ratios.size} layers; the ratio is smallest at layer {int(ratios.idxmin())}: "
        f"{float(ratios.min()):.2f}."
    )


def _compute_log_ratios(averaged: xr.Dataset) -> xr.Dataset:
    """Average log₂(‖P‖ / ‖T‖) over data sets."""
    logs: xr.Dataset = xr.apply_ufunc(np.log2, averaged[["estimate", "draws"]])
    return _subtract_textual(logs).mean("dataset")


def compute_drift_gap(averaged: xr.Dataset) -> Interval:
    """Measure F1.4: how much less perceptual tokens turn than textual ones.

    Parameters
    ----------
    averaged : xarray.Dataset
        From :func:`average_layer_drift` or :func:`average_token_changes`, at the layers to average.

    Returns
    -------
    Interval
        Mean over layers and data sets of the cosine of P minus the cosine of T.

    Examples
    --------
    >>> coords = {"kind": ["perceptual", "textual"], "layer": [0]}
    >>> cosines = xr.DataArray([[[0.75], [0.5]]], coords, ("dataset", "kind", "layer"))
    >>> averaged = xr.Dataset({"estimate": cosines, "draws": cosines.expand_dims("draw")})
    >>> print(compute_drift_gap(averaged.assign_attrs(samples=8)))
    0.250 [0.250, 0.250], n = 8
    """
    gap = _subtract_textual(averaged[["estimate", "draws"]]).mean(("dataset", "layer"))
    return Interval.of_draws(float(gap["estimate"]), gap["draws"], n=averaged.attrs["samples"])


def describe_drift_gap(averaged: xr.Dataset, *, given: str = "") -> str:
    """Say whether perceptual tokens turn less or more than textual ones, and at how many layers.

    Parameters
    ----------
    averaged : xarray.Dataset
        As for :func:`compute_drift_gap`.
    given : str
        Condition of the comparison, at the start of the sentence.

    Examples
    --------
    >>> coords = {"kind": ["perceptual", "textual"], "layer": [0, 1]}
    >>> cosines = xr.DataArray([[[0.75, 0.75], [0.5, 0.8]]], coords, ("dataset", "kind", "layer"))
    >>> averaged = xr.Dataset({"estimate": cosines, "draws": cosines.expand_dims("draw")})
    >>> print(describe_drift_gap(averaged))
    The mean cosine from one layer to the next is 0.750 for perceptual and 0.650 for textual \
tokens (layers 0 to 1); perceptual tokens turn less at 1 of 2 layers.
    """
    curves = averaged["estimate"].mean("dataset")
    perceptual, textual = (curves.sel(kind=kind) for kind in TOKEN_KINDS)
    layers = curves["layer"].to_numpy()
    less = int((perceptual > textual).sum())
    start = f"{given}, the" if given else "The"
    return (
        f"{start} mean cosine from one layer to the next is {float(perceptual.mean()):.3f} for "
        f"perceptual and {float(textual.mean()):.3f} for textual tokens (layers {layers[0]} to "
        f"{layers[-1]}); perceptual tokens turn less at {less} of {layers.size} layers."
    )


def _subtract_textual(values: xr.Dataset) -> xr.Dataset:
    return values.sel(kind="perceptual", drop=True) - values.sel(kind="textual", drop=True)
