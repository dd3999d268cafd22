"""Narrow cones (F1.1): the four similarities of perceptual and textual tokens, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import xarray as xr

from ima.errors import ParameterError
from ima.measures.similarity import (
    SAMPLE_BLOCK_SIZE,
    FloatArray,
    RowIndices,
    compute_matched_cosines,
    compute_pair_cosine_draws,
    compute_weighted_means,
    correct_shared_pair_draws,
    draw_weights_with_data,
    split_into_halves,
)
from ima.stats.contents import draw_dataset_weights
from ima.stats.intervals import Interval, compute_minimum_interval, compute_simultaneous_band
from ima.stats.resampling import BootstrapWeights, draw_resample_counts

CONE_CURVES = ("PvsT", "PvsP", "TvsT", "P intra", "T intra")
_SHORT = {"perceptual": "P", "textual": "T"}


def compute_similarity_terms(
    means: Mapping[str, xr.DataArray],
    *,
    resamples: int = 1000,
    seed: int = 0,
    paper_compat: bool = False,
) -> xr.Dataset:
    """Compute PvsT, PvsP, TvsT and intra for every data set and pair of data sets.

    The four similarities of paper.md §3, F1. Samples are resampled within each data set, and a
    sample brings its perceptual and its textual mean along together, in all data sets that
    show it.

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        Mean-pooled tokens of each data set, ``(sample, kind, layer, hidden)``; a coord ``id`` on
        ``sample`` tells which data sets show the same contents.
    resamples : int
        Number of bootstrap resamples.
    seed : int
        Same seed, same draws.
    paper_compat : bool
        Matched pairs instead of all pairs, as in the released code (paper.md §5): the i-th
        perceptual with the i-th textual mean.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(term, layer)`` and ``draws`` ``(draw, term, layer)``; coords on ``term``:
        ``curve`` (one of :data:`CONE_CURVES`), ``left`` and ``right`` (data sets).

    Raises
    ------
    ParameterError
        If a data set has fewer than four samples, or layers or hidden sizes differ.
    """
    layers = _common_layers(means)
    kinds = {name: _kinds(array) for name, array in means.items()}
    terms = list(_terms(kinds))
    weights, owners, n = draw_dataset_weights(means, resamples=resamples, seed=seed)
    if paper_compat:
        # The i-th of every data set form one unit: they are drawn together.
        n = min(array.sizes["sample"] for array in means.values())
        weights = dict.fromkeys(means, draw_weights_with_data(n, resamples=resamples, seed=seed))
    out = np.empty((1 + resamples, len(terms), len(layers)))
    for at in range(len(layers)):
        layer = {
            (name, kind): array.isel(layer=at).sel(kind=kind)
            for name, array in means.items()
            for kind in kinds[name]
        }
        if paper_compat:
            score = _matched(layer, weights)
        else:
            score = _all_pairs(layer, weights, owners=owners)
        for number, (curve, left, right) in enumerate(terms):
            if curve.endswith("intra"):
                kind = "perceptual" if curve.startswith("P") else "textual"
                out[:, number, at] = _intra(layer[left, kind], resamples=resamples, seed=seed)
            else:
                out[:, number, at] = score(curve, left, right)
    term = {
        name: ("term", [entry[i] for entry in terms])
        for i, name in enumerate(("curve", "left", "right"))
    }
    return xr.Dataset(
        {"estimate": (("term", "layer"), out[0]), "draws": (("draw", "term", "layer"), out[1:])},
        coords={**term, "layer": layers},
        attrs={
            "samples": n,
            "resamples": resamples,
            "seed": seed,
            "pairs": "matched" if paper_compat else "all",
        },
    )


def average_terms_by_curve(terms: xr.Dataset, *, names: Sequence[str] = CONE_CURVES) -> xr.Dataset:
    """Average the terms of each curve: over data sets, or over pairs of data sets.

    Parameters
    ----------
    terms : xarray.Dataset
        From :func:`compute_similarity_terms`, or a part of its terms.
    names : sequence of str
        The curves that there may be, in order.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(curve, layer)``, ``draws`` ``(draw, curve, layer)``, and ``terms``
        ``(curve,)``, how many were averaged.
    """
    found = [name for name in names if name in terms["curve"].values]
    index = xr.DataArray(found, dims="curve", name="curve")
    chosen = [terms.isel(term=terms["curve"].values == name) for name in found]
    averaged = xr.concat([part[["estimate", "draws"]].mean("term") for part in chosen], dim=index)
    averaged["terms"] = ("curve", [part.sizes["term"] for part in chosen])
    return averaged.assign_attrs(terms.attrs)


def compute_cone_gaps(averaged: xr.Dataset) -> xr.Dataset:
    """Subtract PvsT from PvsP and from TvsT.

    Parameters
    ----------
    averaged : xarray.Dataset
        From :func:`average_terms_by_curve`.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(side, layer)`` and ``draws`` ``(draw, side, layer)``; side names what PvsT
        was subtracted from.

    Raises
    ------
    ParameterError
        If a curve is missing, as PvsP is where only one data set was given.
    """
    missing = [name for name in CONE_CURVES[:3] if name not in averaged["curve"].values]
    if missing:
        message = (
            f"F1.1 compares PvsT with PvsP and TvsT; missing: {', '.join(missing)}. PvsP and TvsT "
            "are between data sets: give the caches of at least two data sets with media."
        )
        raise ParameterError(message)
    between = averaged[["estimate", "draws"]].sel(curve="PvsT", drop=True)
    within = averaged[["estimate", "draws"]].sel(curve=["PvsP", "TvsT"]).rename(curve="side")
    return (within - between).assign_attrs(averaged.attrs)


def compute_cone_margin(averaged: xr.Dataset, *, level: float = 0.95) -> Interval:
    """Measure F1.1: by how much PvsT stays below both others at the layer where it is closest.

    Parameters
    ----------
    averaged : xarray.Dataset
        From :func:`average_terms_by_curve`.
    level : float
        Coverage, simultaneous over layers and both comparisons.

    Returns
    -------
    Interval
        Of the minimum over layers of min(PvsP − PvsT, TvsT − PvsT).
    """
    gap = compute_cone_gaps(averaged)
    low, high = compute_simultaneous_band(gap["draws"], level=level)
    return compute_minimum_interval(
        gap["estimate"], low=low, high=high, n=int(averaged.attrs["samples"])
    )


def _common_layers(means: Mapping[str, xr.DataArray]) -> xr.DataArray:
    if not means:
        message = "No data sets given; similarities need at least one."
        raise ParameterError(message)
    first, *rest = means.values()
    for name, array in means.items():
        if array.sizes["sample"] < 4:
            message = f"{name} has {array.sizes['sample']} samples; at least 4 are needed."
            raise ParameterError(message)
    for array in rest:
        same = array["layer"].equals(first["layer"])
        if not same or array.sizes["hidden"] != first.sizes["hidden"]:
            found = {name: dict(array.sizes) for name, array in means.items()}
            message = (
                f"The data sets are not from one language model: {found}. "
                "Give caches whose layers and hidden size agree."
            )
            raise ParameterError(message)
    return first["layer"]


def _kinds(array: xr.DataArray) -> list[str]:
    """Return the kinds that a data set has at all: a text-only one has no perceptual tokens."""
    found: dict[str, bool] = dict.fromkeys(map(str, array["kind"].to_numpy()), False)
    # One number of each vector says whether it is there.
    first = array.isel(layer=0, hidden=0)
    for start in range(0, array.sizes["sample"], SAMPLE_BLOCK_SIZE):
        part = first.isel(sample=slice(start, start + SAMPLE_BLOCK_SIZE)).transpose(
            "kind", "sample"
        )
        for kind, values in zip(found, part.to_numpy(), strict=True):
            found[kind] |= bool(np.isfinite(values).any())
        if all(found.values()):
            break
    return [kind for kind, there in found.items() if there]


def _terms(kinds: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str, str]]:
    for name, own in kinds.items():
        if len(own) == 2:
            yield "PvsT", name, name
    for kind, letter in _SHORT.items():
        having = [name for name, own in kinds.items() if kind in own]
        for left, right in combinations(having, 2):
            yield f"{letter}vs{letter}", left, right
        for name in having:
            yield f"{letter} intra", name, name


_Score = Callable[[str, str, str], FloatArray]


def _all_pairs(
    layer: Mapping[tuple[str, str], xr.DataArray],
    weights: Mapping[str, BootstrapWeights],
    *,
    owners: Mapping[str, RowIndices],
) -> _Score:
    averaged = {
        key: compute_weighted_means(vectors, [weights[key[0]]])[0] for key, vectors in layer.items()
    }

    def score(curve: str, left: str, right: str) -> FloatArray:
        a, b = (left, _kind(curve[0])), (right, _kind(curve[-1]))
        _, rows_a, rows_b = np.intersect1d(owners[left], owners[right], return_indices=True)
        return correct_shared_pair_draws(
            compute_pair_cosine_draws(averaged[a], averaged[b]),
            weights_a=weights[left],
            weights_b=weights[right],
            own=compute_matched_cosines(layer[a], layer[b], rows_a=rows_a, rows_b=rows_b),
            rows_a=rows_a,
            rows_b=rows_b,
        )

    return score


def _matched(
    layer: Mapping[tuple[str, str], xr.DataArray], weights: Mapping[str, BootstrapWeights]
) -> _Score:
    def score(curve: str, left: str, right: str) -> FloatArray:
        a, b = layer[left, _kind(curve[0])], layer[right, _kind(curve[-1])]
        rows = np.arange(weights[left].shape[1])
        averaged: FloatArray = weights[left] @ compute_matched_cosines(
            a, b, rows_a=rows, rows_b=rows
        )
        return averaged

    return score


def _kind(letter: str) -> str:
    return "perceptual" if letter == "P" else "textual"


def _intra(vectors: xr.DataArray, *, resamples: int, seed: int) -> FloatArray:
    """Return the all-pairs cosine between halves; each half is resampled on its own."""
    n = vectors.sizes["sample"]
    order = xr.DataArray(np.arange(n), dims="sample")
    weights = []
    for number, half in enumerate(split_into_halves(order, seed=seed)):
        counts = np.zeros((1 + resamples, n), np.uint8)
        counts[:, half.to_numpy()] = draw_resample_counts(
            half.size, resamples=resamples, seed=(seed, number)
        )
        weights.append(BootstrapWeights(counts))
    return compute_pair_cosine_draws(*compute_weighted_means(vectors, weights))
