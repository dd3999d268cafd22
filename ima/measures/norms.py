"""Norms and change along the depth (F1.3, F1.4): how large states are, and how slowly they turn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import xarray as xr

from ima.errors import ParameterError, UnknownNameError
from ima.hook_points import TOKEN_KINDS
from ima.measures.similarity import FloatArray, RowIndices
from ima.stats.contents import draw_dataset_weights
from ima.stats.intervals import Interval, compute_minimum_interval, compute_simultaneous_band
from ima.stats.resampling import BootstrapWeights

ChangeMeasure = Literal["cosine", "norm-matched cosine", "mean-centred cosine", "relative change"]
#: How a token's states at two layers are compared: the cosine; the cosine if the state before had
#: the median norm of textual tokens at its layer and changed by what it does; the cosine after the
#: mean of the kind at each layer is taken away; the length of the change over that of the state.
CHANGE_MEASURES: tuple[ChangeMeasure, ...] = (
    "cosine", "norm-matched cosine", "mean-centred cosine", "relative change"
)  # fmt: skip


def average_over_samples(
    values: Mapping[str, xr.DataArray], *, resamples: int = 1000, seed: int = 0
) -> xr.Dataset:
    """Average a statistic of samples over each data set, with resampled contents.

    Parameters
    ----------
    values : mapping of str to xarray.DataArray
        By data set ``(sample, kind, layer)``, for example ``/norms/resid_post/median``: the median
        over a sample's tokens of the L2 norm. A coord ``id`` on ``sample`` tells which data sets
        show the same contents.
    resamples : int
        Number of bootstrap resamples.
    seed : int
        Same seed, same draws.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(dataset, kind, layer)`` and ``draws`` ``(draw, dataset, kind, layer)``; NaN
        where a data set has no tokens of a kind.
    """
    if not values:
        message = "No data sets given; an average needs at least one."
        raise ParameterError(message)
    weights, _, n = draw_dataset_weights(values, resamples=resamples, seed=seed)
    first = next(iter(values.values()))
    out = np.stack([_weighted(array, weights[name]) for name, array in values.items()], axis=1)
    return xr.Dataset(
        {
            "estimate": (("dataset", "kind", "layer"), out[0]),
            "draws": (("draw", "dataset", "kind", "layer"), out[1:]),
        },
        coords={
            "dataset": list(values),
            "kind": first["kind"].to_numpy(),
            "layer": first["layer"].to_numpy(),
        },
        attrs={"samples": n, "resamples": resamples, "seed": seed},
    )


def _weighted(array: xr.DataArray, weights: BootstrapWeights) -> FloatArray:
    """Return the mean of ``(sample, kind, layer)`` in every resample, ``(draw, kind, layer)``."""
    values = array.transpose("sample", "kind", "layer").to_numpy().astype(np.float64)
    flat = weights @ values.reshape(len(values), -1)
    return flat.reshape(len(weights), *values.shape[1:])


def select_early_layers(found: xr.Dataset, *, share: float = 0.25) -> xr.Dataset:
    """Keep the first layers: a share of the depth, at least one layer."""
    return found.isel(layer=slice(max(1, math.ceil(share * found.sizes["layer"]))))


def average_layer_drift(
    cosines: Mapping[str, xr.DataArray], *, step: int, resamples: int = 1000, seed: int = 0
) -> xr.Dataset:
    """Average the cosine of tokens with themselves some layers on.

    Parameters
    ----------
    cosines : mapping of str to xarray.DataArray
        ``/drift/cosine`` of each data set, ``(sample, kind, step, layer)``.
    step : int
        Layers between the two states.
    resamples, seed : int
        As in :func:`average_over_samples`.

    Returns
    -------
    xarray.Dataset
        As :func:`average_over_samples`, at the layers that have one so many layers on.

    Raises
    ------
    ParameterError
        If the caches do not hold the step, or the model has not so many layers.
    """
    for name, array in cosines.items():
        held = array["step"].to_numpy().tolist()
        if step not in held or array.sizes["layer"] <= step:
            message = (
                f"{name} holds no drift over {step} layers: steps {held}, "
                f"{array.sizes['layer']} layers."
            )
            raise ParameterError(message)
    chosen = {
        name: array.sel(step=step).isel(layer=slice(None, -step)) for name, array in cosines.items()
    }
    return average_over_samples(chosen, resamples=resamples, seed=seed)


def average_token_changes(
    trees: Mapping[str, xr.DataTree],
    *,
    hook_point: str = "resid_post",
    ways: Sequence[ChangeMeasure] = CHANGE_MEASURES,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, xr.Dataset]:
    """Compare tokens with themselves one layer on.

    Parameters
    ----------
    trees : mapping of str to xarray.DataTree
        Caches; those that keep no tokens are left out.
    hook_point : str
        Whose states.
    ways : sequence of str
        Some of :data:`CHANGE_MEASURES`.
    resamples, seed : int
        As in :func:`average_over_samples`.

    Returns
    -------
    dict of str to xarray.Dataset
        By way of comparing, as :func:`average_over_samples`; empty where no cache keeps tokens.
    """
    found: dict[str, dict[str, xr.DataArray]] = {}
    for name, tree in trees.items():
        if "tokens" not in tree.children:
            continue
        tokens = tree[f"tokens/{hook_point}"].to_dataset()
        ids = tree["samples"]["id"].to_numpy().astype(object)
        for change in ways:
            values = compute_token_changes(tokens, step=1, change=change)
            own = ids[: values.sizes["sample"]]
            found.setdefault(change, {})[name] = values.assign_coords(id=("sample", own))
    return {
        change: average_over_samples(held, resamples=resamples, seed=seed)
        for change, held in found.items()
    }


def compute_norm_ratio(found: xr.Dataset, *, level: float = 0.95) -> Interval:
    """Measure F1.3: log₂ of perceptual over textual norm at the layer where it is least.

    Parameters
    ----------
    found : xarray.Dataset
        From :func:`average_over_samples` of norms, at the layers that the claim is about.
    level : float
        Coverage, simultaneous over layers.

    Returns
    -------
    Interval
        Minimum over layers of the mean over data sets of log₂(‖P‖ / ‖T‖); 0 where both are equal, 1
        where perceptual norms are twice as large.
    """
    logs: xr.Dataset = xr.apply_ufunc(np.log2, found[["estimate", "draws"]])
    both = logs.sel(kind="perceptual", drop=True) - logs.sel(kind="textual", drop=True)
    gap = both.mean("dataset")
    low, high = compute_simultaneous_band(gap["draws"], level=level)
    return compute_minimum_interval(
        gap["estimate"], low=low, high=high, n=int(found.attrs["samples"])
    )


def compute_drift_gap(found: xr.Dataset, *, level: float = 0.95) -> Interval:
    """Measure F1.4: how much less perceptual tokens turn than textual ones in the early layers.

    Parameters
    ----------
    found : xarray.Dataset
        From :func:`average_over_samples` of a cosine between layers ``layer`` and ``layer + n``, at the layers
        that are averaged.
    level : float
        Coverage of the percentile interval.

    Returns
    -------
    Interval
        Mean over layers and data sets of cosine of P less cosine of T.
    """
    part = found[["estimate", "draws"]]
    gap = (part.sel(kind="perceptual", drop=True) - part.sel(kind="textual", drop=True)).mean(
        ("dataset", "layer")
    )
    n = int(found.attrs["samples"])
    return Interval.of_draws(float(gap["estimate"]), gap["draws"], n=n, level=level)


def compute_token_changes(
    kept: xr.Dataset, *, step: int, change: ChangeMeasure = "cosine", paper_compat: bool = False
) -> xr.DataArray:
    """Compare each token's states at two layers, and average over a sample's tokens of a kind.

    A token of a large norm turns slowly for that reason alone, and a mean that all tokens share
    makes every cosine large; the norm-matched and the mean-centred cosine say how much of the plain
    one is that. A block reads its input through a norm layer, so what it adds does not depend on
    the length of the state: the norm-matched cosine is what a shorter or longer state would have
    had. The relative change is no control: the norm that it divides by is what is in question.

    Parameters
    ----------
    kept : xarray.Dataset
        ``/tokens/<hook_point>`` of a cache: ``state`` ``(token, layer, hidden)`` with the coords
        ``sample`` and ``modality``. Two layers at a time are read.
    step : int
        How many layers lie between the two.
    change : {"cosine", "norm-matched cosine", "mean-centred cosine", "relative change"}
        What is computed.
    paper_compat : bool
        Compare each token with the tokens of *other* samples of its kind at the later layer, as the
        released code does by its indices (paper.md §5); of the cosine only.

    Returns
    -------
    xarray.DataArray
        ``(sample, kind, layer)``, the earlier layer's label.

    Raises
    ------
    ParameterError
        If there are not so many layers, or the released form of another comparison is asked for.
    UnknownNameError
        If there is no such comparison.
    """
    if paper_compat and change != "cosine":
        message = f"The released code compares by cosine; {change!r} has no released form."
        raise ParameterError(message)
    if change not in CHANGE_MEASURES:
        raise UnknownNameError.among(kind="change", asked=change, available=CHANGE_MEASURES)
    labels = kept["layer"].to_numpy()
    if not 1 <= step < len(labels):
        message = f"step must be between 1 and {len(labels) - 1}; got {step}."
        raise ParameterError(message)
    owner = kept["sample"].to_numpy()
    kind = np.where(kept["modality"].to_numpy() > 0, 0, 1)
    samples = int(owner.max()) + 1
    group = owner * 2 + kind
    counts = np.bincount(group, minlength=2 * samples).astype(np.float64)
    out = np.empty((samples, 2, len(labels) - step))
    for at in range(len(labels) - step):
        before, after = (
            kept["state"].isel(layer=layer).to_numpy().astype(np.float64)
            for layer in (at, at + step)
        )
        if paper_compat:
            compared = _with_others(before, after, kind=kind, owner=owner)
        else:
            compared = _compare(before, after, kind=kind, change=change)
        total = np.bincount(group, weights=compared, minlength=2 * samples)
        with np.errstate(invalid="ignore"):
            out[:, :, at] = (total / np.where(counts > 0, counts, np.nan)).reshape(samples, 2)
    return xr.DataArray(
        out,
        dims=("sample", "kind", "layer"),
        coords={"kind": list(TOKEN_KINDS), "layer": labels[: len(labels) - step]},
    )


def _compare(
    before: FloatArray, after: FloatArray, *, kind: RowIndices, change: ChangeMeasure
) -> FloatArray:
    if change == "relative change":
        return _length(after - before) / _length(before)
    if change == "norm-matched cosine":
        lengths = _length(before)
        common = np.median(lengths[kind == 1] if (kind == 1).any() else lengths)
        moved = before * (common / lengths)[:, None]
        before, after = moved, moved + (after - before)
    elif change == "mean-centred cosine":
        before, after = (
            side - np.stack([side[kind == k].mean(axis=0) for k in (0, 1)])[kind]
            for side in (before, after)
        )
    product = np.einsum("th,th->t", before, after)
    found: FloatArray = product / (_length(before) * _length(after))
    return found


def _with_others(
    before: FloatArray, after: FloatArray, *, kind: RowIndices, owner: RowIndices
) -> FloatArray:
    """Return each token's mean cosine with the later tokens of its kind in other samples."""
    before, after = (side / _length(side)[:, None] for side in (before, after))
    found = np.empty(len(before))
    for k in (0, 1):
        rows = np.flatnonzero(kind == k)
        whole = after[rows].sum(axis=0)
        for sample in np.unique(owner[rows]):
            own = rows[owner[rows] == sample]
            others = len(rows) - len(own)
            total = whole - after[own].sum(axis=0)
            found[own] = before[own] @ total / others if others else np.nan
    return found


def _length(vectors: FloatArray) -> FloatArray:
    found: FloatArray = np.linalg.norm(vectors, axis=1)
    return found
