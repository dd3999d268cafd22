"""Similarity of token sets: the mean cosine over all pairs of samples, without visiting the pairs.

For unit vectors the mean over all pairs is one product of two means::

    mean_ij cos(a_i, b_j) = mean_i(a_i / |a_i|) · mean_j(b_j / |b_j|)

This is exact and costs O(N·d); the double loop costs O(N²·d).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ima.errors import ParameterError
from ima.stats import FloatArray, RowIndices
from ima.stats.resampling import BootstrapWeights

#: Number of samples whose states are in memory at once.
SAMPLE_BLOCK_SIZE = 256


def check_same_layers(arrays: Mapping[str, xr.DataArray], *, hint: str) -> xr.DataArray:
    """Check that arrays of data sets come from one language model, and return its layers.

    Parameters
    ----------
    arrays : mapping of str to xarray.DataArray
        By data set, with the dim ``layer``; the last dim has the same size in all.
    hint : str
        What to do if there are none.

    Raises
    ------
    ParameterError
        If there are none, or their layers or last dims differ.

    Examples
    --------
    >>> means = xr.DataArray(np.ones((4, 2, 8)), {"layer": [0, 1]}, ("sample", "layer", "hidden"))
    >>> check_same_layers({"caption": means}, hint="Give caches.").values
    array([0, 1])
    """
    if not arrays:
        raise ParameterError(f"No data sets given; at least one is needed. {hint}")
    first = next(iter(arrays.values()))
    for array in arrays.values():
        same = array["layer"].equals(first["layer"])
        if not same or array.shape[-1] != first.shape[-1]:
            sizes = {name: dict(array.sizes) for name, array in arrays.items()}
            raise ParameterError(
                f"The data sets are not from one language model: {sizes}. Give caches whose layers "
                "and sizes agree."
            )
    return first["layer"]


def cosine_over_pairs(a: xr.DataArray, b: xr.DataArray) -> xr.DataArray:
    """Compute the mean cosine between two sets of vectors, over all pairs.

    Parameters
    ----------
    a, b : xarray.DataArray
        ``(sample, ..., hidden)``; the two may have different numbers of samples.

    Returns
    -------
    xarray.DataArray
        ``(...)``, for example ``(layer,)``.

    Examples
    --------
    >>> a = xr.DataArray([[1.0, 0.0], [0.0, 1.0]], dims=("sample", "hidden"))
    >>> float(cosine_over_pairs(a, a).round(3))
    0.5
    """
    return (average_directions(a) * average_directions(b)).sum("hidden")


def average_directions(vectors: xr.DataArray) -> xr.DataArray:
    """Average the directions of a set of vectors: all that its mean cosines depend on.

    Parameters
    ----------
    vectors : xarray.DataArray
        ``(sample, ..., hidden)``.

    Returns
    -------
    xarray.DataArray
        ``(..., hidden)``. The scalar product of two of these is :func:`cosine_over_pairs`.

    Examples
    --------
    >>> vectors = xr.DataArray([[2.0, 0.0], [0.0, 5.0]], dims=("sample", "hidden"))
    >>> average_directions(vectors).values
    array([0.5, 0.5])
    """
    return normalize_vectors(vectors).mean("sample")


def normalize_vectors(vectors: xr.DataArray) -> xr.DataArray:
    """Scale vectors to length one.

    Parameters
    ----------
    vectors : xarray.DataArray
        ``(..., hidden)``, for example mean-pooled tokens ``(sample, layer, hidden)``.

    Returns
    -------
    xarray.DataArray
        The same shape, float64; of an array of Dask, again one, which is not computed yet.

    Raises
    ------
    ParameterError
        If a vector is zero or not finite, so that it has no direction.

    Examples
    --------
    >>> normalize_vectors(xr.DataArray([[3.0, 4.0]], dims=("sample", "hidden"))).values
    array([[0.6, 0.8]])
    """
    axis = vectors.get_axis_num("hidden")
    if vectors.chunks is None:
        return vectors.copy(data=normalize_array(vectors.to_numpy(), axis=axis))
    # An array of Dask stays on disk, whatever its size: its blocks hold whole vectors.
    whole = vectors.chunk(hidden=-1)
    blocks = whole.data.map_blocks(normalize_array, axis=axis, dtype="float64", meta=np.empty(0))
    return whole.copy(data=blocks)


def normalize_array(vectors: npt.NDArray[Any], *, axis: int = -1) -> FloatArray:
    """Scale the vectors of a plain array to length one; see :func:`normalize_vectors`.

    Parameters
    ----------
    vectors : ndarray
        For example ``(vector, hidden)``.
    axis : int
        The axis along which a vector lies.

    Examples
    --------
    >>> normalize_array(np.array([[3.0, 4.0]]))
    array([[0.6, 0.8]])
    """
    wide = vectors.astype(np.float64, copy=False)
    length = np.sqrt((wide**2).sum(axis=axis, keepdims=True))
    bad = int((~(length > 0) | ~np.isfinite(length)).sum())
    if bad:
        raise ParameterError(
            f"{bad} of {length.size} vectors are zero or not finite; a cosine needs a direction. "
            "Leave out samples without tokens of this kind."
        )
    directions: FloatArray = wide / length
    return directions


def compute_weighted_means(
    vectors: xr.DataArray, weights: Sequence[FloatArray | BootstrapWeights]
) -> list[FloatArray]:
    """Average directions with several sets of weights, reading one block of samples at a time.

    Parameters
    ----------
    vectors : xarray.DataArray
        ``(sample, hidden)``; may still be on disk.
    weights : sequence of ndarray or BootstrapWeights
        Each ``(draw, sample)``.

    Returns
    -------
    list of ndarray
        One ``(draw, hidden)`` for each set of weights.

    Examples
    --------
    >>> vectors = xr.DataArray([[2.0, 0.0], [0.0, 5.0]], dims=("sample", "hidden"))
    >>> compute_weighted_means(vectors, [np.array([[0.5, 0.5], [1.0, 0.0]])])[0]
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    n, hidden = vectors.sizes["sample"], vectors.sizes["hidden"]
    means = [np.zeros((len(own), hidden)) for own in weights]
    for start in range(0, n, SAMPLE_BLOCK_SIZE):
        block = slice(start, start + SAMPLE_BLOCK_SIZE)
        directions = normalize_array(vectors.isel(sample=block).to_numpy())
        means = [
            total + own[:, block] @ directions for total, own in zip(means, weights, strict=True)
        ]
    return means


def compute_pair_cosine_draws(means_a: FloatArray, means_b: FloatArray) -> FloatArray:
    """Compute :func:`cosine_over_pairs` in each resample, for sets that share no sample.

    Parameters
    ----------
    means_a, means_b : ndarray
        ``(1 + draw, hidden)``, from :func:`compute_weighted_means`.

    Returns
    -------
    ndarray
        ``(1 + draw,)``.

    Examples
    --------
    >>> compute_pair_cosine_draws(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]]))
    array([0.5])
    """
    product: FloatArray = np.einsum("dh,dh->d", means_a, means_b)
    return product


def compute_matched_cosines(
    a: xr.DataArray, b: xr.DataArray, *, rows_a: RowIndices, rows_b: RowIndices
) -> FloatArray:
    """Compute the cosine of each given pair of vectors, reading one block of pairs at a time.

    Parameters
    ----------
    a, b : xarray.DataArray
        ``(sample, hidden)``; may still be on disk.
    rows_a, rows_b : ndarray
        ``(pair,)``, rows of `a` and of `b`.

    Returns
    -------
    ndarray
        ``(pair,)``.

    Examples
    --------
    >>> a = xr.DataArray([[3.0, 4.0], [1.0, 0.0]], dims=("sample", "hidden"))
    >>> compute_matched_cosines(a, a, rows_a=np.array([0, 1]), rows_b=np.array([1, 1]))
    array([0.6, 1. ])
    """
    cosines = np.empty(len(rows_a))
    for start in range(0, len(cosines), SAMPLE_BLOCK_SIZE):
        block = slice(start, start + SAMPLE_BLOCK_SIZE)
        left, right = (
            normalize_array(side.isel(sample=rows[block]).to_numpy())
            for side, rows in ((a, rows_a), (b, rows_b))
        )
        cosines[block] = np.einsum("sh,sh->s", left, right)
    return cosines


def correct_shared_pair_draws(
    draws: FloatArray,
    *,
    weights_a: FloatArray | BootstrapWeights,
    weights_b: FloatArray | BootstrapWeights,
    matched_cosines: FloatArray,
    rows_a: RowIndices,
    rows_b: RowIndices,
) -> FloatArray:
    """Compute :func:`cosine_over_pairs` in each resample, for sets that share some samples.

    Examples of such sets are the perceptual and the textual means of the same samples, or the
    means of one picture in two data sets. A sample is drawn with all its vectors. Among all pairs
    of N samples a fraction 1/N are matched pairs (i, i). In a resample, copies of a sample raise
    this fraction to about 2/N, which would shift the draws wherever matched pairs are more similar
    than others. Matched and unmatched pairs are therefore averaged apart and joined with the
    fractions of the data.

    Parameters
    ----------
    draws : ndarray
        ``(1 + draw,)``, from :func:`compute_pair_cosine_draws` of the two sets.
    weights_a, weights_b : ndarray or BootstrapWeights
        ``(1 + draw, sample)`` of each set, drawn together; row 0 is uniform.
    matched_cosines : ndarray
        ``(pair,)``, from :func:`compute_matched_cosines`.
    rows_a, rows_b : ndarray
        ``(pair,)``, rows of the two sets that belong to the same sample.

    Returns
    -------
    ndarray
        ``(1 + draw,)``; entry 0 equals ``cosine_over_pairs(a, b)``.

    Examples
    --------
    >>> weights = np.array([[0.5, 0.5], [1.0, 0.0]])  # of two samples with orthogonal means
    >>> both = {"weights_a": weights, "weights_b": weights}
    >>> rows = {"rows_a": np.arange(2), "rows_b": np.arange(2)}
    >>> draws = np.array([0.5, 1.0])  # the second resample has only one sample, twice
    >>> correct_shared_pair_draws(draws, **both, matched_cosines=np.ones(2), **rows)
    array([0.5, 1. ])
    """
    if not len(rows_a):
        return draws
    matched, unmatched, ratio = average_pairs_apart(
        draws,
        weights_a=weights_a,
        weights_b=weights_b,
        matched_cosines=matched_cosines,
        rows_a=rows_a,
        rows_b=rows_b,
    )
    # A resample of a single sample has only matched pairs.
    unmatched = np.where(np.isnan(unmatched), matched, unmatched)
    joined: FloatArray = ratio * matched + (1 - ratio) * unmatched
    return joined


def average_pairs_apart(
    draws: FloatArray,
    *,
    weights_a: FloatArray | BootstrapWeights,
    weights_b: FloatArray | BootstrapWeights,
    matched_cosines: FloatArray,
    rows_a: RowIndices,
    rows_b: RowIndices,
) -> tuple[FloatArray, FloatArray, float]:
    """Average the cosines of matched pairs and those of all other pairs, in each resample.

    Parameters
    ----------
    draws, weights_a, weights_b, matched_cosines, rows_a, rows_b
        As for :func:`correct_shared_pair_draws`; at least one pair is matched.

    Returns
    -------
    matched, unmatched : ndarray
        ``(1 + draw,)``. `unmatched` is NaN in a resample that has matched pairs only; `matched` is
        the mean over all pairs in a resample without matched pairs.
    ratio : float
        The part of the pairs of the data that are matched.

    Examples
    --------
    >>> weights, rows = np.array([[0.5, 0.5], [1.0, 0.0]]), np.arange(2)
    >>> both = {"weights_a": weights, "weights_b": weights, "rows_a": rows, "rows_b": rows}
    >>> average_pairs_apart(np.array([0.6, 1.0]), matched_cosines=np.ones(2), **both)
    (array([1., 1.]), array([0.2, nan]), 0.5)
    """
    # Sums over matched pairs of w_a·w_b, w_a, w_a·cosine and w_a·w_b·cosine.
    pair_weight, weight, single, double = (np.zeros(len(draws)) for _ in range(4))
    for start in range(0, len(matched_cosines), SAMPLE_BLOCK_SIZE):
        block = slice(start, start + SAMPLE_BLOCK_SIZE)
        left, right = weights_a[:, rows_a[block]], weights_b[:, rows_b[block]]
        both = left * right
        pair_weight += both.sum(1)
        weight += left.sum(1)
        single += left @ matched_cosines[block]
        double += both @ matched_cosines[block]
    matched = np.divide(single, weight, out=draws.copy(), where=weight > 1e-12)
    unmatched = np.divide(
        draws - double,
        1 - pair_weight,
        out=np.full_like(draws, np.nan),
        where=pair_weight < 1 - 1e-12,
    )
    return matched, unmatched, float(pair_weight[0])
