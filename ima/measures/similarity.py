"""Similarity of token sets: mean cosines over all pairs of samples, without visiting the pairs.

For unit vectors the mean over all pairs is one product of two means (paper.md §3, F1)::

    mean_ij cos(a_i, b_j) = mean_i(a_i / |a_i|) · mean_j(b_j / |b_j|)

which is exact and costs O(N·d) where the double loop costs O(N²·d).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ima.errors import ParameterError
from ima.stats.resampling import BootstrapWeights, draw_resample_counts

FloatArray = npt.NDArray[np.float64]
RowIndices = npt.NDArray[np.int64]
#: Samples whose states are in memory at once.
SAMPLE_BLOCK_SIZE = 256


def normalize_vectors(vectors: xr.DataArray) -> xr.DataArray:
    """Scale vectors to length one.

    Parameters
    ----------
    vectors : xarray.DataArray
        ``(..., hidden)``, for example mean-pooled tokens ``(sample, layer, hidden)``.

    Returns
    -------
    xarray.DataArray
        The same shape, float64.

    Raises
    ------
    ParameterError
        If a vector is zero or not finite: its direction means nothing.
    """
    axis = vectors.get_axis_num("hidden")
    return vectors.copy(data=normalize_array(vectors.to_numpy(), axis=axis))


def normalize_array(vectors: npt.NDArray[Any], *, axis: int = -1) -> FloatArray:
    """Scale vectors of a plain array to length one; see :func:`normalize_vectors`.

    Parameters
    ----------
    vectors : ndarray
        For example ``(vector, hidden)``.
    axis : int
        Along which a vector lies.
    """
    wide = vectors.astype(np.float64)
    length = np.sqrt((wide**2).sum(axis=axis, keepdims=True))
    bad = int((~(length > 0) | ~np.isfinite(length)).sum())
    if bad:
        message = (
            f"{bad} of {length.size} vectors are zero or not finite; a cosine needs a direction. "
            "Leave out samples without tokens of this kind."
        )
        raise ParameterError(message)
    found: FloatArray = wide / length
    return found


def _average_unit_vectors(vectors: xr.DataArray, *, dim: str = "sample") -> xr.DataArray:
    """Average directions over samples.

    Parameters
    ----------
    vectors : xarray.DataArray
        ``(sample, ..., hidden)``.
    dim : str
        The dim to average over.

    Returns
    -------
    xarray.DataArray
        ``(..., hidden)``; shorter than one unless all samples point the same way.
    """
    return normalize_vectors(vectors).mean(dim)


def cosine_over_pairs(
    a: xr.DataArray, b: xr.DataArray, *, paper_compat: bool = False
) -> xr.DataArray:
    """Return the mean cosine between two sets of vectors, over all pairs.

    Parameters
    ----------
    a, b : xarray.DataArray
        ``(sample, ..., hidden)``; the two may have different numbers of samples.
    paper_compat : bool
        Average the cosines of the i-th of `a` with the i-th of `b` only, as the released
        code does, up to the shorter of the two (paper.md §5).

    Returns
    -------
    xarray.DataArray
        ``(...)``, for example ``(layer,)``.

    Examples
    --------
    >>> a = xr.DataArray([[1.0, 0.0], [0.0, 1.0]], dims=("sample", "hidden"))
    >>> float(cross(a, a).round(3)), float(cross(a, a, paper_compat=True).round(3))
    (0.5, 1.0)
    """
    if paper_compat:
        n = min(a.sizes["sample"], b.sizes["sample"])
        left, right = (
            normalize_vectors(side.isel(sample=slice(n))).drop_vars("sample", errors="ignore")
            for side in (a, b)
        )
        return (left * right).sum("hidden").mean("sample")
    return (_average_unit_vectors(a) * _average_unit_vectors(b)).sum("hidden")


def split_into_halves(vectors: xr.DataArray, *, seed: int) -> tuple[xr.DataArray, xr.DataArray]:
    """Split samples at random into two disjoint halves, the second the larger by at most one.

    Parameters
    ----------
    vectors : xarray.DataArray
        ``(sample, ...)``.
    seed : int
        Same seed, same halves.

    Returns
    -------
    first, second : xarray.DataArray
        Together all samples, in random order.

    Raises
    ------
    ParameterError
        If there are fewer than two samples.
    """
    n = vectors.sizes["sample"]
    if n < 2:
        message = f"Two halves need at least two samples; found {n}."
        raise ParameterError(message)
    order = np.random.default_rng(seed).permutation(n)
    return vectors.isel(sample=order[: n // 2]), vectors.isel(sample=order[n // 2 :])


def draw_weights_with_data(
    n: int, *, resamples: int, seed: int | tuple[int, ...]
) -> BootstrapWeights:
    """Return the weights of the data themselves and, below, of their bootstrap resamples.

    Parameters
    ----------
    n : int
        Number of samples.
    resamples : int
        Number of resamples.
    seed : int or tuple of int
        Same seed, same weights.

    Returns
    -------
    Weights
        ``(1 + draw, sample)``; row 0 is uniform, so that row 0 of any result is the estimate.
    """
    return BootstrapWeights(draw_resample_counts(n, resamples=resamples, seed=seed))


def compute_pair_cosine_draws(means_a: FloatArray, means_b: FloatArray) -> FloatArray:
    """Return :func:`cosine_over_pairs` of each resample, for sets with no sample in common.

    Parameters
    ----------
    means_a, means_b : ndarray
        Weighted means of unit vectors ``(1 + draw, hidden)``: weights times vectors.

    Returns
    -------
    ndarray
        ``(1 + draw,)``.
    """
    product: FloatArray = np.einsum("dh,dh->d", means_a, means_b)
    return product


def compute_weighted_means(
    vectors: xr.DataArray, weights: Sequence[FloatArray | BootstrapWeights]
) -> list[FloatArray]:
    """Average directions with several sets of weights, reading a block of samples at a time.

    Parameters
    ----------
    vectors : xarray.DataArray
        ``(sample, hidden)``, read from disk where it is used.
    weights : sequence of ndarray or Weights
        Each ``(draw, sample)``.

    Returns
    -------
    list of ndarray
        Each ``(draw, hidden)``.
    """
    n, hidden = vectors.sizes["sample"], vectors.sizes["hidden"]
    found = [np.zeros((len(own), hidden)) for own in weights]
    for start in range(0, n, SAMPLE_BLOCK_SIZE):
        rows = slice(start, start + SAMPLE_BLOCK_SIZE)
        directions = normalize_array(vectors.isel(sample=rows).to_numpy())
        found = [
            total + own[:, rows] @ directions for total, own in zip(found, weights, strict=True)
        ]
    return found


def compute_matched_cosines(
    a: xr.DataArray, b: xr.DataArray, *, rows_a: RowIndices, rows_b: RowIndices
) -> FloatArray:
    """Return the cosine of each pair of vectors, reading a block of pairs at a time.

    Parameters
    ----------
    a, b : xarray.DataArray
        ``(sample, hidden)``, read from disk where they are used.
    rows_a, rows_b : ndarray
        Rows of `a` and of `b`, pair by pair.

    Returns
    -------
    ndarray
        ``(pair,)``.
    """
    found = np.empty(len(rows_a))
    for start in range(0, len(found), SAMPLE_BLOCK_SIZE):
        part = slice(start, start + SAMPLE_BLOCK_SIZE)
        left, right = (
            normalize_array(side.isel(sample=rows[part]).to_numpy())
            for side, rows in ((a, rows_a), (b, rows_b))
        )
        found[part] = np.einsum("sh,sh->s", left, right)
    return found


def correct_shared_pair_draws(
    total: FloatArray,
    *,
    weights_a: FloatArray | BootstrapWeights,
    weights_b: FloatArray | BootstrapWeights,
    own: FloatArray,
    rows_a: RowIndices,
    rows_b: RowIndices,
) -> FloatArray:
    """Return :func:`cosine_over_pairs` of each resample, for sets of vectors of which some share a sample.

    Such are the perceptual and the textual mean of one sample, or a picture's in two data sets. A
    sample is drawn with all its vectors. All pairs of N samples hold N matched pairs (i, i), a
    share of 1/N; in a resample the copies of a sample make that share about 2/N, which would shift
    the draws wherever matched pairs are more similar than others. So matched and unmatched pairs
    are averaged apart and joined with the shares of the data.

    Parameters
    ----------
    total : ndarray
        ``(1 + draw,)``, :func:`compute_pair_cosine_draws` of the two sets: all pairs with their weights.
    weights_a, weights_b : ndarray or Weights
        ``(1 + draw, sample)`` of each set, drawn together; row 0 is uniform.
    own : ndarray
        ``(pair,)``: from :func:`compute_matched_cosines`.
    rows_a, rows_b : ndarray
        Rows of both sets that are of the same sample, pair by pair.

    Returns
    -------
    ndarray
        ``(1 + draw,)``; entry 0 equals ``cross(a, b)``.
    """
    if not len(rows_a):
        return total
    drawn, present, single, double = (np.zeros(len(total)) for _ in range(4))
    for start in range(0, len(own), SAMPLE_BLOCK_SIZE):
        part = slice(start, start + SAMPLE_BLOCK_SIZE)
        left, right = weights_a[:, rows_a[part]], weights_b[:, rows_b[part]]
        both = left * right
        drawn += both.sum(1)
        present += left.sum(1)
        single += left @ own[part]
        double += both @ own[part]
    share = drawn[0]
    # A resample without shared samples has only unmatched pairs, one of a single sample none.
    matched = np.divide(single, present, out=total.copy(), where=present > 1e-12)
    unmatched = np.divide(total - double, 1 - drawn, out=matched.copy(), where=drawn < 1 - 1e-12)
    joined: FloatArray = share * matched + (1 - share) * unmatched
    return joined
