"""Narrow cones (F1.1): how similar perceptual and textual tokens are, layer by layer.

Figure 2 of the paper, for mean-pooled perceptual tokens P and textual tokens T of data sets d::

    PvsT = mean over d      of mean_ij cos(P_d,i, T_d,j)
    PvsP = mean over d ≠ d' of mean_ij cos(P_d,i, P_d',j)      TvsT the same of T
    P intra = mean over d of the cosine between two halves of P_d    T intra the same of T

F1.1 is the minimum over layers of min(PvsP − PvsT, TvsT − PvsT).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import xarray as xr

from ima.errors import ParameterError
from ima.measures.similarity import (
    check_same_layers,
    compute_matched_cosines,
    compute_pair_cosine_draws,
    compute_weighted_means,
    correct_shared_pair_draws,
)
from ima.stats import FloatArray, RowIndices
from ima.stats.intervals import Interval, compute_lowest_point
from ima.stats.resampling import (
    BootstrapWeights,
    draw_dataset_weights,
    draw_resample_counts,
    label_draws,
)

CONE_CURVES = ("PvsT", "PvsP", "TvsT", "P intra", "T intra")
_KINDS = {"P": "perceptual", "T": "textual"}


def compute_similarity_terms(
    means: Mapping[str, xr.DataArray],
    *,
    resamples: int = 1000,
    seed: int = 0,
    paper_compat: bool = False,
) -> xr.Dataset:
    """Compute PvsT, PvsP, TvsT and intra of every data set and pair of data sets.

    Contents are resampled. A content brings its perceptual and its textual means along, from all
    data sets that show it.

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        Mean-pooled tokens of each data set, ``(sample, kind, layer, hidden)``. The coord ``id`` on
        ``sample`` identifies contents that data sets share.
    resamples : int
        Number of bootstrap resamples.
    seed : int
        Same seed, same draws.
    paper_compat : bool
        Average matched pairs instead of all pairs, as the released code does: the
        i-th perceptual mean with the i-th textual mean.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(term, layer)`` and ``draws`` ``(draw, term, layer)``, cosines. Coords on
        ``term``: ``curve`` (one of :data:`CONE_CURVES`), ``left`` and ``right`` (data sets).

    Raises
    ------
    ParameterError
        If a data set has fewer than four samples, or layers or hidden sizes differ.

    Examples
    --------
    >>> kinds = {"kind": ["perceptual", "textual"], "layer": [0]}
    >>> states = xr.DataArray(
    ...     np.random.default_rng(0).normal(size=(4, 2, 1, 8)),
    ...     dims=("sample", "kind", "layer", "hidden"),
    ...     coords=kinds,
    ... )
    >>> terms = compute_similarity_terms({"caption": states, "qa": states + 1}, resamples=2)
    >>> terms["curve"].values.tolist()[:4]
    ['PvsT', 'PvsT', 'PvsP', 'TvsT']
    """
    layers = check_same_layers(means, hint="Give caches of one language model.")
    for name, array in means.items():
        if array.sizes["sample"] < 4:
            raise ParameterError(
                f"{name} has {array.sizes['sample']} samples; at least 4 are needed."
            )
    kinds = {name: _list_present_kinds(array) for name, array in means.items()}
    terms = list(_list_terms(kinds))
    weights, contents, n = draw_dataset_weights(means, resamples=resamples, seed=seed)
    if paper_compat:
        # The i-th samples of all data sets form one unit and are drawn together.
        n = min(array.sizes["sample"] for array in means.values())
        shared = BootstrapWeights(draw_resample_counts(n, resamples=resamples, seed=seed))
        weights = dict.fromkeys(means, shared)
    values = np.empty((1 + resamples, len(terms), len(layers)))
    for at in range(len(layers)):
        states = {
            (name, kind): array.isel(layer=at).sel(kind=kind)
            for name, array in means.items()
            for kind in kinds[name]
        }
        if paper_compat:
            score = _score_matched_pairs(states, weights)
        else:
            score = _score_all_pairs(states, weights, contents=contents)
        for number, (curve, left, right) in enumerate(terms):
            if curve.endswith("intra"):
                values[:, number, at] = _score_halves(
                    states[left, _KINDS[curve[0]]], resamples=resamples, seed=seed
                )
            else:
                values[:, number, at] = score(curve, left, right)
    coords = {**label_terms(terms), "layer": layers}
    return label_draws(values, ("term", "layer"), coords=coords, n=n)


def label_terms(terms: Sequence[tuple[str, str, str]]) -> dict[str, tuple[str, list[str]]]:
    """Return the coords of terms: their curve, and the two data sets that they compare.

    Examples
    --------
    >>> label_terms([("PvsT", "a", "a"), ("PvsP", "a", "b")])["right"]
    ('term', ['a', 'b'])
    """
    columns = zip(("curve", "left", "right"), zip(*terms, strict=True), strict=True)
    return {name: ("term", list(column)) for name, column in columns}


def _list_present_kinds(array: xr.DataArray) -> list[str]:
    """List the kinds of tokens in a data set: a text-only one has no perceptual tokens."""
    # One number of each vector shows whether the vector is present.
    present = xr.ufuncs.isfinite(array.isel(layer=0, hidden=0)).any("sample")
    return [str(kind) for kind in present["kind"].to_numpy()[present.to_numpy()]]


def _list_terms(kinds: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str, str]]:
    for name, own in kinds.items():
        if len(own) == 2:
            yield "PvsT", name, name
    present = {
        letter: [name for name, own in kinds.items() if kind in own]
        for letter, kind in _KINDS.items()
    }
    for letter, names in present.items():
        for left, right in combinations(names, 2):
            yield f"{letter}vs{letter}", left, right
    for letter, names in present.items():
        for name in names:
            yield f"{letter} intra", name, name


_States = Mapping[tuple[str, str], xr.DataArray]
_Score = Callable[[str, str, str], FloatArray]


def _score_all_pairs(
    states: _States,
    weights: Mapping[str, BootstrapWeights],
    *,
    contents: Mapping[str, RowIndices],
) -> _Score:
    means = {
        key: compute_weighted_means(vectors, [weights[key[0]]])[0]
        for key, vectors in states.items()
    }

    def score(curve: str, left: str, right: str) -> FloatArray:
        a, b = (left, _KINDS[curve[0]]), (right, _KINDS[curve[-1]])
        _, rows_a, rows_b = np.intersect1d(contents[left], contents[right], return_indices=True)
        rows = {"rows_a": rows_a, "rows_b": rows_b}
        return correct_shared_pair_draws(
            compute_pair_cosine_draws(means[a], means[b]),
            weights_a=weights[left],
            weights_b=weights[right],
            matched_cosines=compute_matched_cosines(states[a], states[b], **rows),
            **rows,
        )

    return score


def _score_matched_pairs(states: _States, weights: Mapping[str, BootstrapWeights]) -> _Score:
    def score(curve: str, left: str, right: str) -> FloatArray:
        a, b = states[left, _KINDS[curve[0]]], states[right, _KINDS[curve[-1]]]
        rows = np.arange(weights[left].shape[1])
        return weights[left] @ compute_matched_cosines(a, b, rows_a=rows, rows_b=rows)

    return score


def _score_halves(vectors: xr.DataArray, *, resamples: int, seed: int) -> FloatArray:
    """Compute the all-pairs cosine between two halves, each resampled on its own."""
    n = vectors.sizes["sample"]
    order = np.random.default_rng(seed).permutation(n)
    weights = []
    for number, half in enumerate((order[: n // 2], order[n // 2 :])):
        counts = np.zeros((1 + resamples, n), np.uint8)
        counts[:, half] = draw_resample_counts(half.size, resamples=resamples, seed=(seed, number))
        weights.append(BootstrapWeights(counts))
    return compute_pair_cosine_draws(*compute_weighted_means(vectors, weights))


def average_terms_by_curve(terms: xr.Dataset) -> xr.Dataset:
    """Average the terms of each curve, over data sets or over pairs of data sets.

    Parameters
    ----------
    terms : xarray.Dataset
        With the coord ``curve`` on ``term``, for example from :func:`compute_similarity_terms`.

    Returns
    -------
    xarray.Dataset
        The same arrays with ``curve`` for ``term``, for example ``estimate`` ``(curve, layer)``.

    Examples
    --------
    >>> terms = xr.Dataset(
    ...     {"estimate": (("term", "layer"), [[0.2], [0.4]])},
    ...     coords={"curve": ("term", ["PvsT", "PvsT"])},
    ... ).assign(draws=lambda d: d["estimate"].expand_dims("draw"))
    >>> average_terms_by_curve(terms)["estimate"].round(2).values.tolist()
    [[0.3]]
    """
    curve = terms["curve"].to_numpy()
    names = pd.Index(pd.unique(curve), name="curve")
    averaged = xr.concat([terms.isel(term=curve == name).mean("term") for name in names], dim=names)
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
        ``estimate`` ``(side, layer)`` and ``draws`` ``(draw, side, layer)``; ``side`` is the curve
        from which PvsT is subtracted.

    Raises
    ------
    ParameterError
        If a curve is missing, as PvsP is where only one data set was given.

    Examples
    --------
    >>> averaged = xr.Dataset(
    ...     {"estimate": (("curve", "layer"), [[0.2], [0.5], [0.6]])},
    ...     coords={"curve": ["PvsT", "PvsP", "TvsT"]},
    ... ).assign(draws=lambda d: d["estimate"].expand_dims("draw"))
    >>> compute_cone_gaps(averaged)["estimate"].round(2).values.tolist()
    [[0.3], [0.4]]
    """
    missing = [name for name in CONE_CURVES[:3] if name not in averaged["curve"]]
    if missing:
        raise ParameterError(
            f"F1.1 compares PvsT with PvsP and TvsT; missing: {', '.join(missing)}. PvsP and TvsT "
            "are between data sets: give the caches of at least two data sets with media."
        )
    between = averaged[["estimate", "draws"]].sel(curve="PvsT", drop=True)
    within = averaged[["estimate", "draws"]].sel(curve=["PvsP", "TvsT"]).rename(curve="side")
    return (within - between).assign_attrs(averaged.attrs)


def compute_cone_margin(averaged: xr.Dataset) -> Interval:
    """Measure F1.1: how far PvsT stays below PvsP and TvsT where it comes closest.

    Parameters
    ----------
    averaged : xarray.Dataset
        From :func:`average_terms_by_curve`.

    Returns
    -------
    Interval
        The minimum over layers of min(PvsP − PvsT, TvsT − PvsT), a difference of cosines; its
        interval is simultaneous over layers and both comparisons.

    Examples
    --------
    >>> averaged = xr.Dataset(
    ...     {"estimate": (("curve", "layer"), [[0.2], [0.5], [0.6]])},
    ...     coords={"curve": ["PvsT", "PvsP", "TvsT"]},
    ...     attrs={"samples": 8},
    ... ).assign(draws=lambda d: d["estimate"].expand_dims("draw"))
    >>> print(compute_cone_margin(averaged))
    0.300 [0.300, 0.300], n = 8
    """
    return compute_lowest_point(compute_cone_gaps(averaged), n=averaged.attrs["samples"])
