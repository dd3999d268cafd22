"""Similarity of single tokens (F1.1, the paper's appendix), reduced to one number per sample pair.

Mean pooling hides whether a few of many tokens are similar. Here the cosines of all token pairs of
two samples are reduced to one number, which is averaged over all pairs of samples::

    PvsT = mean over d of mean_ij reduce_mn cos(P_d,i,m , T_d,j,n)

PvsP and TvsT are between two data sets, as in :mod:`ima.measures.cones`. Costs O(N² m n d) in
matrix products, so caches keep every token of few samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import xarray as xr

from ima.errors import CacheError, ParameterError
from ima.measures.cones import label_terms
from ima.measures.similarity import normalize_array
from ima.stats import FloatArray, RowIndices

#: Mean, median, maximum and minimum over the token pairs of two samples, and the mean over the
#: first sample's tokens of their maximum.
TOKEN_PAIR_REDUCTIONS = ("mean", "median", "max", "min", "mean of max")
#: Number of tokens of one set that are compared at once; bounds the memory.
TOKEN_BLOCK_SIZE = 2048


def reduce_token_cosines(
    a: FloatArray, b: FloatArray, *, samples_a: RowIndices, samples_b: RowIndices
) -> dict[str, FloatArray]:
    """Reduce the cosines of all token pairs, for each pair of samples.

    Parameters
    ----------
    a, b : ndarray
        ``(token, hidden)``, tokens sorted by sample.
    samples_a, samples_b : ndarray
        ``(token,)``, the sample of each token, ascending.

    Returns
    -------
    dict of str to ndarray
        For each of :data:`TOKEN_PAIR_REDUCTIONS` ``(sample of a, sample of b)``.

    Raises
    ------
    ParameterError
        If tokens are not sorted by sample, or a token is zero or not finite.

    Examples
    --------
    >>> a, b = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[2.0, 0.0]])
    >>> reduced = reduce_token_cosines(a, b, samples_a=np.array([0, 0]), samples_b=np.array([0]))
    >>> {name: float(values[0, 0]) for name, values in reduced.items()}
    {'mean': 0.5, 'median': 0.5, 'max': 1.0, 'min': 0.0, 'mean of max': 0.5}
    """
    starts_a, starts_b = _find_sample_starts(samples_a), _find_sample_starts(samples_b)
    left, right = normalize_array(a), normalize_array(b)
    n, m = len(starts_a) - 1, len(starts_b) - 1
    reduced = {name: np.empty((n, m)) for name in TOKEN_PAIR_REDUCTIONS}
    first = 0
    while first < n:
        # A block has as many whole samples as fit, at least one.
        last = first + 1
        while last < n and starts_a[last + 1] - starts_a[first] <= TOKEN_BLOCK_SIZE:
            last += 1
        cosines = left[starts_a[first] : starts_a[last]] @ right.T
        for i in range(first, last):
            own = cosines[starts_a[i] - starts_a[first] : starts_a[i + 1] - starts_a[first]]
            best = np.maximum.reduceat(own, starts_b[:-1], axis=1)
            pairs = len(own) * np.diff(starts_b)
            reduced["mean"][i] = np.add.reduceat(own.sum(axis=0), starts_b[:-1]) / pairs
            reduced["max"][i] = best.max(axis=0)
            reduced["min"][i] = np.minimum.reduceat(own.min(axis=0), starts_b[:-1])
            reduced["mean of max"][i] = best.mean(axis=0)
            reduced["median"][i] = [
                np.median(own[:, starts_b[j] : starts_b[j + 1]]) for j in range(m)
            ]
        first = last
    return reduced


def _find_sample_starts(samples: RowIndices) -> RowIndices:
    """Find the first token of each sample; the last entry is the number of tokens."""
    if (np.diff(samples) < 0).any():
        raise ParameterError("Tokens must be sorted by sample.")
    starts = np.flatnonzero(np.diff(samples, prepend=samples[0] - 1))
    return np.append(starts, len(samples)).astype(np.int64)


def compute_token_pair_terms(tokens: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Compute PvsT, PvsP and TvsT of single tokens for every data set and pair of data sets.

    Parameters
    ----------
    tokens : mapping of str to xarray.Dataset
        The group ``/tokens/<hook point>`` of each data set's cache: ``state``
        ``(token, layer, hidden)`` with the coords ``sample`` and ``modality``.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(term, reduction, layer)``, cosines averaged over pairs of samples; coords
        ``curve``, ``left`` and ``right`` on ``term``.
        :func:`~ima.measures.cones.average_terms_by_curve` averages it.

    Raises
    ------
    ParameterError
        If a data set has no tokens of a kind.

    Examples
    --------
    >>> tokens = xr.Dataset(
    ...     {"state": (("token", "layer", "hidden"), [[[1.0, 0.0]], [[3.0, 4.0]]])},
    ...     coords={"layer": [0], "sample": ("token", [0, 0]), "modality": ("token", [1, 0])},
    ... )
    >>> terms = compute_token_pair_terms({"caption": tokens})
    >>> float(terms["estimate"].sel(reduction="max", layer=0)[0])
    0.6
    """
    if not tokens:
        raise CacheError(
            "No cache keeps states of single tokens. Make one with them: ima cache create … "
            "--keep-tokens 32"
        )
    first = next(iter(tokens.values()))
    layers = first["layer"].to_numpy()
    names = list(tokens)
    terms = [("PvsT", name, name) for name in names]
    for letter in "PT":
        terms += [(f"{letter}vs{letter}", *pair) for pair in combinations(names, 2)]
    values = np.empty((len(terms), len(TOKEN_PAIR_REDUCTIONS), len(layers)))
    for at, layer in enumerate(layers):
        states = {
            (name, letter): _read_kind(tokens[name], letter=letter, layer=layer, name=name)
            for name in names
            for letter in "PT"
        }
        for number, (curve, left, right) in enumerate(terms):
            (a, samples_a), (b, samples_b) = states[left, curve[0]], states[right, curve[-1]]
            reduced = reduce_token_cosines(a, b, samples_a=samples_a, samples_b=samples_b)
            values[number, :, at] = [reduced[name].mean() for name in TOKEN_PAIR_REDUCTIONS]
    return xr.Dataset(
        {"estimate": (("term", "reduction", "layer"), values)},
        {**label_terms(terms), "reduction": list(TOKEN_PAIR_REDUCTIONS), "layer": layers},
    )


def _read_kind(
    tokens: xr.Dataset, *, letter: str, layer: int, name: str
) -> tuple[FloatArray, RowIndices]:
    """Read the states ``(token, hidden)`` of one kind, and the sample of each token."""
    perceptual = tokens["modality"].to_numpy() > 0
    rows = np.flatnonzero(perceptual if letter == "P" else ~perceptual)
    if not rows.size:
        kind = "perceptual" if letter == "P" else "textual"
        raise ParameterError(
            f"{name} has no single {kind} tokens. Make its cache with keep_tokens of at least 1 "
            "(ima cache create … --keep-tokens 64)."
        )
    state = tokens["state"].sel(layer=layer).to_numpy()[rows].astype(np.float64)
    return state, tokens["sample"].to_numpy()[rows].astype(np.int64)
