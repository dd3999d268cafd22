"""Implicit alignment (F3): how similar perceptual and textual tokens are, and the IMA score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import xarray as xr

from ima.errors import ParameterError, UnknownNameError
from ima.measures.similarity import (
    FloatArray,
    compute_matched_cosines,
    compute_pair_cosine_draws,
    compute_weighted_means,
    correct_shared_pair_draws,
    normalize_vectors,
)
from ima.stats.contents import draw_dataset_weights
from ima.stats.correlation import compute_permutation_p, correlate_rows
from ima.stats.intervals import Interval, draw_bootstrap_weights

#: Where the perceptual tokens are taken: beside the textual ones, or at the model's input.
ALIGNMENT_VERSIONS = ("same layer", "input")
AlignmentVersion = Literal["same layer", "input"]


def compute_alignment_curve(
    means: Mapping[str, xr.DataArray],
    *,
    version: AlignmentVersion = "same layer",
    resamples: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Compute PvsT at each layer, within each data set, over all pairs of samples.

    paper.md §3, F3. The released code has two versions: the perceptual tokens of the same layer, or
    those that enter the model (layer 0) against the textual ones of each layer.

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        Mean-pooled tokens of each data set, ``(sample, kind, layer, hidden)``, all of one language
        model; a coord ``id`` on ``sample`` tells which data sets show the same contents.
    version : {"same layer", "input"}
        Which perceptual tokens.
    resamples : int
        Number of bootstrap resamples of contents.
    seed : int
        Same seed, same draws.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(dataset, layer)`` and ``draws`` ``(draw, dataset, layer)``, cosines.

    Raises
    ------
    UnknownNameError
        If there is no such version.
    ParameterError
        If no data sets are given, layers differ, or a data set lacks a kind of token.
    """
    if version not in ALIGNMENT_VERSIONS:
        raise UnknownNameError.among(kind="version", asked=version, available=ALIGNMENT_VERSIONS)
    layers = _layers(means)
    weights, _, n = draw_dataset_weights(means, resamples=resamples, seed=seed)
    out = np.empty((1 + resamples, len(means), layers.size))
    for number, (name, array) in enumerate(means.items()):
        drawn, rows = weights[name], np.arange(array.sizes["sample"])
        for at in range(layers.size):
            textual = array.isel(layer=at).sel(kind="textual")
            if at == 0 or version == "same layer":
                perceptual = array.isel(layer=at).sel(kind="perceptual")
                (averaged,) = compute_weighted_means(perceptual, [drawn])
            out[:, number, at] = correct_shared_pair_draws(
                compute_pair_cosine_draws(averaged, compute_weighted_means(textual, [drawn])[0]),
                weights_a=drawn,
                weights_b=drawn,
                own=compute_matched_cosines(perceptual, textual, rows_a=rows, rows_b=rows),
                rows_a=rows,
                rows_b=rows,
            )
    return xr.Dataset(
        {
            "estimate": (("dataset", "layer"), out[0]),
            "draws": (("draw", "dataset", "layer"), out[1:]),
        },
        coords={"dataset": list(means), "layer": layers},
        attrs={"samples": n, "version": version, "resamples": resamples, "seed": seed},
    )


def compute_ima_score(found: xr.Dataset, *, level: float = 0.95) -> Interval:
    """Return the IMA score: the mean of PvsT over layers 0 … L-1 and data sets.

    Parameters
    ----------
    found : xarray.Dataset
        From :func:`compute_alignment_curve`, or some of its data sets.
    level : float
        Coverage of the percentile interval.

    Returns
    -------
    Interval
        The score, a cosine.
    """
    value, draws = compute_ima_score_draws(found)
    return Interval.of_draws(value, draws, n=int(found.attrs["samples"]), level=level)


def correlate_with_depth(found: xr.Dataset, *, level: float = 0.95) -> Interval:
    """Measure F3.1: Spearman's rank correlation of PvsT, averaged over data sets, with the layer.

    Parameters
    ----------
    found : xarray.Dataset
        From :func:`compute_alignment_curve`.
    level : float
        Coverage of the percentile interval.

    Returns
    -------
    Interval
        In [-1, 1], over samples, and at least as wide as what random orders of so many layers give:
        it leaves 0 out only where both do. See :func:`compute_depth_p`.
    """
    both = found[["estimate", "draws"]].mean("dataset")
    curves = np.vstack([both["estimate"], both["draws"]])
    value, *drawn = _in_order(curves)
    over_samples = Interval.of_draws(value, drawn, n=int(found.attrs["samples"]), level=level)
    return _as_wide_as_random_orders(over_samples, points=[curves.shape[1]], level=level)


def _in_order(values: FloatArray) -> FloatArray:
    """Correlate each row ``(row, point)`` with the order of its points."""
    order = np.arange(values.shape[1], dtype=np.float64)
    return correlate_rows(np.broadcast_to(order, values.shape), values)


def _as_wide_as_random_orders(
    found: Interval, *, points: Sequence[int], level: float, orders: int = 9999
) -> Interval:
    """Widen the interval of a mean rank correlation by what random orders of its points give."""
    rng = np.random.default_rng(0)
    drawn = np.zeros(orders)
    for count in points:
        ranks = np.argsort(rng.random((orders, count)), axis=1).astype(np.float64)
        drawn += _in_order(ranks) / len(points)
    far = float(np.quantile(np.abs(drawn), level, method="higher"))
    low, high = max(-1.0, found.value - far), min(1.0, found.value + far)
    return Interval.around(
        found.value, low=min(found.low, low), high=max(found.high, high), n=found.n
    )


def compute_depth_rise(found: xr.Dataset, *, level: float = 0.95) -> Interval:
    """Measure by how much PvsT, averaged over data sets, is higher at the last layer than at 0.

    Parameters
    ----------
    found : xarray.Dataset
        From :func:`compute_alignment_curve`.
    level : float
        Coverage of the percentile interval.
    """
    both = found[["estimate", "draws"]].mean("dataset")
    rise = both.isel(layer=-1, drop=True) - both.isel(layer=0, drop=True)
    draws, n = rise["draws"].to_numpy(), int(found.attrs["samples"])
    return Interval.of_draws(float(rise["estimate"]), draws, n=n, level=level)


def compute_depth_p(found: xr.Dataset, *, seed: int = 0) -> float:
    """Return how often random orders of the layers correlate as much with depth, two-sided.

    Neighbouring layers are alike, which no random order keeps: p is smaller than it should be.

    Parameters
    ----------
    found : xarray.Dataset
        From :func:`compute_alignment_curve`.
    seed : int
        Of the orders.
    """
    values = found["estimate"].mean("dataset").to_numpy()
    return compute_permutation_p(np.arange(len(values), dtype=np.float64), values, seed=seed)


def compute_ima_score_draws(found: xr.Dataset) -> tuple[float, FloatArray]:
    """Return the IMA score and its value in every resample, ``(draw,)``.

    Scores of models that read the same samples, drawn with the same seed, can be compared draw by
    draw.

    Parameters
    ----------
    found : xarray.Dataset
        From :func:`compute_alignment_curve`.
    """
    inner = found[["estimate", "draws"]].isel(layer=slice(None, -1)).mean(("dataset", "layer"))
    return float(inner["estimate"]), inner["draws"].to_numpy()


def compute_margin_over_controls(
    found: xr.Dataset, others: Mapping[str, xr.Dataset]
) -> tuple[Interval, str]:
    """Measure F3.4: the IMA score less the largest of the same model's under other conditions.

    Parameters
    ----------
    found : xarray.Dataset
        From :func:`compute_alignment_curve`.
    others : mapping of str to xarray.Dataset
        By condition, of the same samples, with the same seed and resamples.

    Returns
    -------
    interval : Interval
        The difference, contents resampled in both at once.
    largest : str
        The condition that it is compared with.
    """
    value, draws = compute_ima_score_draws(found)
    drawn = {name: compute_ima_score_draws(part) for name, part in others.items()}
    largest = max(drawn, key=lambda name: drawn[name][0])
    other, other_draws = drawn[largest]
    n = int(found.attrs["samples"])
    return Interval.of_draws(value - other, draws - other_draws, n=n, level=0.95), largest


def compute_matched_gain(
    means: xr.DataArray, *, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Measure how much more similar a sample's percepts are to its own text than to all texts.

    Parameters
    ----------
    means : xarray.DataArray
        ``(sample, kind, layer, hidden)`` of one data set.
    resamples : int
        Bootstrap resamples of samples.
    seed : int
        Same seed, same interval.
    level : float
        Coverage of the percentile interval.

    Returns
    -------
    Interval
        Mean over layers 0 … L-1 and samples of the cosine of matched pairs less that of all pairs.
    """
    gaps = []
    for at in range(means.sizes["layer"] - 1):
        p, t = (_directions(means, kind=kind, at=at) for kind in ("perceptual", "textual"))
        gaps.append(np.einsum("sh,sh->s", p, t) - p @ t.mean(axis=0))
    share = np.mean(gaps, axis=0)
    drawn = draw_bootstrap_weights(len(share), resamples=resamples, seed=seed).to_numpy() @ share
    return Interval.of_draws(float(share.mean()), drawn, n=len(share), level=level)


def correlate_with_step(
    runs: Mapping[str, Mapping[int, xr.Dataset]], *, level: float = 0.95
) -> Interval:
    """Measure F3.2: Spearman's rank correlation of the IMA score with the training step.

    Parameters
    ----------
    runs : mapping of str to mapping of int to xarray.Dataset
        By run and training step, from :func:`compute_alignment_curve`, all with the same seed and resamples; within a
        run of the same samples.
    level : float
        Coverage of the percentile interval over contents.

    Returns
    -------
    Interval
        Mean over runs, in [-1, 1], over contents, which its n counts, and at least as wide as what
        random orders of so many steps give: it leaves 0 out only where both do.

    Raises
    ------
    ParameterError
        If a run has fewer than three steps.
    """
    values, draws, n = [], [], 0
    for name, steps in runs.items():
        if len(steps) < 3:
            message = f"{name} has {len(steps)} steps; an order needs at least 3."
            raise ParameterError(message)
        scores = [compute_ima_score_draws(steps[step]) for step in sorted(steps)]
        value, *drawn = _in_order(
            np.stack([np.concatenate([[value], draws]) for value, draws in scores], axis=1)
        )
        values.append(value)
        draws.append(drawn)
        n += int(next(iter(steps.values())).attrs["samples"])
    mean = float(np.mean(values))
    over_contents = Interval.of_draws(mean, np.mean(draws, axis=0), n=n, level=level)
    points = [len(steps) for steps in runs.values()]
    return _as_wide_as_random_orders(over_contents, points=points, level=level)


def stack_alignment_curves(parts: Mapping[str, xr.Dataset], *, dim: str) -> xr.Dataset:
    """Put results of :func:`compute_alignment_curve` side by side, each averaged over data sets.

    Parameters
    ----------
    parts : mapping of str to xarray.Dataset
        By label of the new dim.
    dim : str
        Its name.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(dim, layer)`` and ``draws`` ``(draw, dim, layer)``.
    """
    index = xr.DataArray(list(parts), dims=dim, name=dim)
    averaged = [part[["estimate", "draws"]].mean("dataset") for part in parts.values()]
    return xr.concat(averaged, dim=index)


def compute_cross_layer_cosine(means: xr.DataArray) -> xr.DataArray:
    """Compare perceptual tokens of every layer with textual ones of every layer.

    Parameters
    ----------
    means : xarray.DataArray
        ``(sample, kind, layer, hidden)`` of one data set.

    Returns
    -------
    xarray.DataArray
        ``(perceptual, textual)``, mean cosine over all pairs of samples; both dims hold labels of
        layers.
    """
    sides = []
    for kind in ("perceptual", "textual"):
        averaged = [
            _directions(means, kind=kind, at=at).mean(axis=0) for at in range(means.sizes["layer"])
        ]
        sides.append(np.stack(averaged))
    layers = means["layer"].to_numpy()
    return xr.DataArray(
        sides[0] @ sides[1].T,
        dims=("perceptual", "textual"),
        coords={"perceptual": layers, "textual": layers},
    )


def _directions(array: xr.DataArray, *, kind: str, at: int) -> FloatArray:
    directions: FloatArray = normalize_vectors(array.isel(layer=at).sel(kind=kind)).to_numpy()
    return directions


def _layers(means: Mapping[str, xr.DataArray]) -> xr.DataArray:
    if not means:
        message = "No data sets given; an alignment needs at least one."
        raise ParameterError(message)
    first, *rest = (array["layer"] for array in means.values())
    if not all(layers.equals(first) for layers in rest):
        message = (
            "The data sets are not from one language model: their layers differ. Give caches of "
            "one of them."
        )
        raise ParameterError(message)
    return first
