"""Narrow cones (F1.1): how similar perceptual and textual tokens are, layer by layer.

Figure 2 of the paper, for mean-pooled perceptual tokens P and textual tokens T of data sets d::

    PvsT = mean over d      of mean_ij cos(P_d,i, T_d,j)
    PvsP = mean over d ≠ d' of mean_ij cos(P_d,i, P_d',j)      TvsT the same of T
    P intra = mean over d   of mean_{i≠j} cos(P_d,i, P_d,j)    T intra the same of T

The paper splits a data set into halves for the last two. The mean over all such splits is the mean
over all pairs of different samples, which needs no draw. :mod:`ima.measures.cone_gaps` compares the
curves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import xarray as xr

from ima.errors import ParameterError
from ima.measures.similarity import (
    average_pairs_apart,
    check_same_layers,
    compute_matched_cosines,
    compute_pair_cosine_draws,
    compute_weighted_means,
    correct_shared_pair_draws,
    normalize_array,
)
from ima.stats import FloatArray, RowIndices
from ima.stats.resampling import (
    BootstrapWeights,
    draw_dataset_weights,
    draw_resample_counts,
    label_draws,
)

CONE_CURVES = ("PvsT", "PvsP", "TvsT", "P intra", "T intra")
#: Whether the two samples of a pair are of the same group, for example of the same wording.
GROUP_PAIRS = ("same", "different")
#: The curves over groups, by the kinds of their two samples.
_GROUP_CURVES = {"PvsT": ("P", "T"), "P intra": ("P", "P"), "T intra": ("T", "T")}
#: The similarity of each kind with itself, within data sets and between two of them.
WITHIN_CURVES = ("P intra", "T intra")
BETWEEN_CURVES = ("PvsP", "TvsT")
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
        i-th perceptual mean with the i-th textual mean. A data set has no matched pairs with
        itself, so the curves within data sets are left out.

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
    if paper_compat:
        terms = [term for term in terms if term[0] not in WITHIN_CURVES]
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
        for number, term in enumerate(terms):
            values[:, number, at] = score(*term)
    return _label_terms_and_draws(values, terms, layers=layers, n=n)


def _label_terms_and_draws(
    values: FloatArray, terms: Sequence[tuple[str, str, str]], *, layers: xr.DataArray, n: int
) -> xr.Dataset:
    """Label terms, and leave out the resamples in which one of them has no pair of samples."""
    coords = {**label_terms(terms), "layer": layers}
    labelled = label_draws(values, ("term", "layer"), coords=coords, n=n)
    return labelled.dropna("draw", subset=["draws"])


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
        if curve in WITHIN_CURVES:
            return _average_distinct_pairs(means[left, _KINDS[curve[0]]], weights[left])
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


def _average_distinct_pairs(means: FloatArray, weights: BootstrapWeights) -> FloatArray:
    """Compute the mean cosine of a set with itself over pairs of different samples."""
    rows = np.arange(weights.shape[1])
    _, unmatched, _ = average_pairs_apart(
        compute_pair_cosine_draws(means, means),
        weights_a=weights,
        weights_b=weights,
        matched_cosines=np.ones(rows.size),
        rows_a=rows,
        rows_b=rows,
    )
    return unmatched


def _score_matched_pairs(states: _States, weights: Mapping[str, BootstrapWeights]) -> _Score:
    def score(curve: str, left: str, right: str) -> FloatArray:
        a, b = states[left, _KINDS[curve[0]]], states[right, _KINDS[curve[-1]]]
        rows = np.arange(weights[left].shape[1])
        return weights[left] @ compute_matched_cosines(a, b, rows_a=rows, rows_b=rows)

    return score


def compute_group_terms(
    means: Mapping[str, xr.DataArray],
    *,
    groups: Mapping[str, Sequence[RowIndices]],
    resamples: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Compute PvsT and intra over pairs of samples of the same group, and of different groups.

    A pair consists of two different samples. The mean over pairs of the same group weights each
    group by its samples: it is the mean over samples of their similarity to the others of their
    group. Pairs of different groups all have the same weight. In a resample, a sample counts as
    often as its content was drawn, and copies of it form no pairs. Costs O(samples · hidden).

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        Mean-pooled tokens of each data set, ``(sample, kind, layer, hidden)``. Data sets without
        groups or without perceptual tokens are left out.
    groups : mapping of str to sequence of ndarray
        By data set, the rows of the samples of each group, for example from
        :func:`ima.measures.wording.group_by_wording`. Samples without a group are left out.
    resamples : int
        Number of bootstrap resamples of the contents that are in a group.
    seed : int
        Same seed, same draws.

    Returns
    -------
    xarray.Dataset
        As from :func:`compute_similarity_terms`, with the curves PvsT, P intra and T intra; the
        coord ``pairs`` on ``term`` is one of :data:`GROUP_PAIRS`. Data sets with a single group
        have no terms of different groups. The attribute ``samples`` is the number of contents.

    Raises
    ------
    ParameterError
        If no data set has media and groups, a group has fewer than two samples, or layers or hidden
        sizes differ.

    Examples
    --------
    >>> kinds = {"kind": ["perceptual", "textual"], "layer": [0]}
    >>> directions = np.array([[1.0, 0.0], [0.0, 1.0]])[[0, 0, 1, 1]]
    >>> states = np.stack([directions, directions], axis=1)[:, :, None]
    >>> means = {"qa": xr.DataArray(states, kinds, ("sample", "kind", "layer", "hidden"))}
    >>> groups = {"qa": [np.array([0, 1]), np.array([2, 3])]}
    >>> terms = compute_group_terms(means, groups=groups, resamples=8)
    >>> terms["pairs"].values[::3].tolist(), terms["estimate"].values.ravel().tolist()
    (['same', 'different'], [1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    """
    used = {
        name: list(own)
        for name, own in groups.items()
        if own and len(_list_present_kinds(means[name])) == len(_KINDS)
    }
    sizes = {name: [len(rows) for rows in own] for name, own in used.items()}
    if min((size for own in sizes.values() for size in own), default=0) < 2:
        raise ParameterError(
            "Pairs within groups need groups of at least two samples with media; found the sizes "
            f"{sizes}. Give more samples, or leave out smaller groups."
        )
    kept = {name: means[name].isel(sample=np.concatenate(own)) for name, own in used.items()}
    layers = check_same_layers(kept, hint="Give caches of one language model.")
    weights, _, n = draw_dataset_weights(kept, resamples=resamples, seed=seed)
    terms = [
        (pairs, curve, name)
        for pairs in GROUP_PAIRS
        for curve in _GROUP_CURVES
        for name in used
        if pairs == "same" or len(used[name]) > 1
    ]
    values = np.empty((1 + resamples, len(terms), len(layers)))
    for at in range(len(layers)):
        averages = {
            name: _average_group_pairs(array.isel(layer=at), weights[name], sizes=sizes[name])
            for name, array in kept.items()
        }
        for number, (pairs, curve, name) in enumerate(terms):
            values[:, number, at] = averages[name][pairs, curve]
    labels = [(curve, name, name) for _, curve, name in terms]
    labelled = _label_terms_and_draws(values, labels, layers=layers, n=n)
    return labelled.assign_coords(pairs=("term", [pairs for pairs, _, _ in terms]))


def _average_group_pairs(
    states: xr.DataArray, weights: BootstrapWeights, *, sizes: Sequence[int]
) -> dict[tuple[str, str], FloatArray]:
    """Average the pairs of samples that are sorted by group, ``(1 + draw,)`` by pairs and curve."""
    directions = {
        letter: normalize_array(states.sel(kind=kind).to_numpy()) for letter, kind in _KINDS.items()
    }
    shape = (len(weights), states.sizes["hidden"])
    whole = {letter: np.zeros(shape) for letter in _KINDS}
    same, crossed = ({curve: np.zeros(len(weights)) for curve in _GROUP_CURVES} for _ in range(2))
    same_weight, crossed_weight = np.zeros(len(weights)), np.ones(len(weights))
    ends = np.cumsum(sizes)
    for start, end in zip(ends - sizes, ends, strict=True):
        own = weights[:, start:end]
        group = {letter: rows[start:end] for letter, rows in directions.items()}
        sums = {letter: own @ rows for letter, rows in group.items()}
        # Each group counts as often as it has samples.
        share, squares, total = 1 / (end - start - 1), own**2, own.sum(1) ** 2
        same_weight += share * (total - squares.sum(1))
        crossed_weight -= total
        for curve, (a, b) in _GROUP_CURVES.items():
            product = compute_pair_cosine_draws(sums[a], sums[b])
            matched = squares @ compute_pair_cosine_draws(group[a], group[b])
            same[curve] += share * (product - matched)
            crossed[curve] -= product
        whole = {letter: whole[letter] + sums[letter] for letter in whole}
    averages = {}
    for curve, (a, b) in _GROUP_CURVES.items():
        crossed[curve] += compute_pair_cosine_draws(whole[a], whole[b])
        averages["same", curve] = _divide_or_nan(same[curve], same_weight)
        averages["different", curve] = _divide_or_nan(crossed[curve], crossed_weight)
    return averages


def _divide_or_nan(total: FloatArray, weight: FloatArray) -> FloatArray:
    """Divide by the weight of pairs, where there are any."""
    return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 1e-12)


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
