"""Similarity of single tokens (F1.1, appendix): statistics over all pairs of tokens of two samples.

Mean pooling hides whether a few tokens fit well among many that do not. Here each pair of samples
is compared token by token, the cosines are reduced to one number, and that number is averaged over
all pairs of samples. Costs O(N² m n d) in matrix products; few samples are kept with every token.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from ima.errors import ParameterError
from ima.measures.similarity import FloatArray, RowIndices, normalize_array

#: Mean, median, largest and smallest cosine of the two samples' pairs of tokens, and the mean over
#: the first sample's tokens of their largest.
TOKEN_PAIR_REDUCTIONS = ("mean", "median", "max", "min", "mean of max")
#: Rows of one set that are compared at once: bounds the memory.
TOKEN_BLOCK_SIZE = 2048


def reduce_token_cosines(
    a: FloatArray, b: FloatArray, *, owners_a: RowIndices, owners_b: RowIndices
) -> dict[str, FloatArray]:
    """Reduce the cosines of all pairs of tokens, for each pair of samples.

    Parameters
    ----------
    a, b : ndarray
        ``(token, hidden)``, tokens sorted by sample.
    owners_a, owners_b : ndarray
        ``(token,)``: which sample each is of, ascending.

    Returns
    -------
    dict of str to ndarray
        For each of :data:`TOKEN_PAIR_REDUCTIONS` ``(sample of a, sample of b)``.

    Raises
    ------
    ParameterError
        If tokens are not sorted by sample, or one is zero or not finite.
    """
    starts_a, starts_b = _starts(owners_a), _starts(owners_b)
    left, right = normalize_array(a), normalize_array(b)
    n, m = len(starts_a) - 1, len(starts_b) - 1
    found = {name: np.empty((n, m)) for name in TOKEN_PAIR_REDUCTIONS}
    row = 0
    while row < n:
        # As many whole samples as fit into a block, at least one.
        last = row + 1
        while last < n and starts_a[last + 1] - starts_a[row] <= TOKEN_BLOCK_SIZE:
            last += 1
        cosines = left[starts_a[row] : starts_a[last]] @ right.T
        for i in range(row, last):
            own = cosines[starts_a[i] - starts_a[row] : starts_a[i + 1] - starts_a[row]]
            best = np.maximum.reduceat(own, starts_b[:-1], axis=1)
            tokens = len(own) * np.diff(starts_b)
            found["mean"][i] = np.add.reduceat(own.sum(axis=0), starts_b[:-1]) / tokens
            found["max"][i] = best.max(axis=0)
            found["min"][i] = np.minimum.reduceat(own.min(axis=0), starts_b[:-1])
            found["mean of max"][i] = best.mean(axis=0)
            found["median"][i] = [
                np.median(own[:, starts_b[j] : starts_b[j + 1]]) for j in range(m)
            ]
        row = last
    return found


def compute_token_pair_terms(
    tokens: Mapping[str, xr.Dataset], *, layers: list[int] | None = None
) -> xr.DataArray:
    """Average the reductions over pairs of samples: PvsT, PvsP and TvsT of single tokens.

    PvsT is within a data set; PvsP and TvsT are between two, as in :mod:`ima.measures.cones`.

    Parameters
    ----------
    tokens : mapping of str to xarray.Dataset
        The group ``/tokens/<hook_point>`` of each data set's cache: ``state`` ``(token, layer, hidden)``
        with the coords ``sample`` and ``modality``.
    layers : list of int or None
        Which layers; None takes all.

    Returns
    -------
    xarray.DataArray
        ``(term, reduction, layer)`` with the coords ``curve``, ``left`` and ``right`` on ``term``.

    Raises
    ------
    ParameterError
        If a data set keeps no tokens of a kind.
    """
    first = next(iter(tokens.values()))
    labels = [int(label) for label in first["layer"].to_numpy()] if layers is None else layers
    names = list(tokens)
    terms = [("PvsT", name, name) for name in names]
    for letter in "PT":
        terms += [
            (f"{letter}vs{letter}", left, right)
            for at, left in enumerate(names)
            for right in names[at + 1 :]
        ]
    out = np.empty((len(terms), len(TOKEN_PAIR_REDUCTIONS), len(labels)))
    for at, layer in enumerate(labels):
        sides = {
            (name, letter): _side(tokens[name], letter=letter, layer=layer, name=name)
            for name in names
            for letter in "PT"
        }
        for number, (curve, left, right) in enumerate(terms):
            (a, owners_a), (b, owners_b) = sides[left, curve[0]], sides[right, curve[-1]]
            found = reduce_token_cosines(a, b, owners_a=owners_a, owners_b=owners_b)
            out[number, :, at] = [found[name].mean() for name in TOKEN_PAIR_REDUCTIONS]
    coords = {
        name: ("term", [term[i] for term in terms])
        for i, name in enumerate(("curve", "left", "right"))
    }
    return xr.DataArray(
        out,
        dims=("term", "reduction", "layer"),
        coords={**coords, "reduction": list(TOKEN_PAIR_REDUCTIONS), "layer": labels},
    )


def average_token_pair_terms(found: xr.DataArray) -> dict[str, xr.DataArray]:
    """Average over terms: by reduction ``(curve, layer)``.

    Parameters
    ----------
    found : xarray.DataArray
        From :func:`compute_token_pair_terms`.
    """
    names = list(dict.fromkeys(found["curve"].to_numpy().tolist()))
    index = xr.DataArray(names, dims="curve", name="curve")
    parts = [found.isel(term=found["curve"].to_numpy() == name).mean("term") for name in names]
    joined = xr.concat(parts, dim=index)
    return {name: joined.sel(reduction=name, drop=True) for name in TOKEN_PAIR_REDUCTIONS}


def _side(kept: xr.Dataset, *, letter: str, layer: int, name: str) -> tuple[FloatArray, RowIndices]:
    perceptual = kept["modality"].to_numpy() > 0
    rows = np.flatnonzero(perceptual if letter == "P" else ~perceptual)
    if not rows.size:
        kind = "perceptual" if letter == "P" else "textual"
        message = (
            f"{name} keeps no {kind} tokens. Make its cache with keep_tokens of at least 1 "
            "(ima cache create … --keep-tokens 64)."
        )
        raise ParameterError(message)
    state = kept["state"].sel(layer=layer).to_numpy()[rows].astype(np.float64)
    return state, kept["sample"].to_numpy()[rows].astype(np.int64)


def _starts(owners: RowIndices) -> RowIndices:
    if (np.diff(owners) < 0).any():
        message = "Tokens must be sorted by sample."
        raise ParameterError(message)
    begins = np.flatnonzero(np.diff(owners, prepend=owners[0] - 1))
    return np.append(begins, len(owners)).astype(np.int64)
