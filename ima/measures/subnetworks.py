"""Subnetworks (F2): which weights an input activates, by Wanda, and how far two sets of them agree.

Wanda (Sun et al. 2023, arXiv:2306.11695) scores a weight by its size times the norm of its input
over calibration tokens, ``|W_ij| ‖x_j‖₂``, and removes the least in each output row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ima.errors import ParameterError
from ima.measures.similarity import FloatArray

Mask = npt.NDArray[np.bool_]


def compute_wanda_mask(
    weight: npt.NDArray[Any], squares: npt.NDArray[Any], *, sparsity: float
) -> Mask:
    """Return which weights of a linear layer are kept.

    Parameters
    ----------
    weight : ndarray
        ``(..., out_features, in_features)``: a layer, or several.
    squares : ndarray
        ``(..., in_features)``: sums over calibration tokens of the squares of each input. How many
        tokens does not matter: a common factor changes no order.
    sparsity : float
        Share that is removed of each row: the ``int(in_features · sparsity)`` smallest scores, ties
        by position, as in the reference code.

    Returns
    -------
    ndarray
        ``(..., out_features, in_features)`` bool, true where kept.

    Raises
    ------
    ParameterError
        If the share is not in [0, 1), or sizes differ, or a sum is negative or not finite.

    Examples
    --------
    >>> wanda(np.array([[1.0, -3.0], [2.0, 1.0]]), np.array([4.0, 1.0]), sparsity=0.5)
    array([[False,  True],
           [ True, False]])
    """
    if squares.shape != (*weight.shape[:-2], weight.shape[-1]):
        message = f"Weights {weight.shape} and sums of squares {squares.shape} do not fit."
        raise ParameterError(message)
    if not (np.isfinite(squares).all() and (squares >= 0).all()):
        message = "Sums of squares must be finite and not negative."
        raise ParameterError(message)
    return mask_smallest_per_row(np.abs(weight) * np.sqrt(squares)[..., None, :], sparsity=sparsity)


def compute_magnitude_mask(weight: npt.NDArray[Any], *, sparsity: float) -> Mask:
    """Return which weights are kept by their size alone: a null that sees no input."""
    return mask_smallest_per_row(np.abs(weight), sparsity=sparsity)


def compute_global_magnitude_masks(
    weights: Mapping[str, npt.NDArray[Any]], *, sparsity: float
) -> dict[str, Mask]:
    """Return the largest weights of all linear layers together, not of each row apart.

    Parameters
    ----------
    weights : mapping of str to ndarray
        By linear layer ``(layer, out_features, in_features)``.
    sparsity : float
        Share of all weights that is removed: the ``int(count · sparsity)`` smallest, ties by
        position.
    """
    sizes = np.concatenate([np.abs(weight).ravel() for weight in weights.values()])
    kept = mask_smallest_per_row(sizes[None], sparsity=sparsity)[0]
    ends = np.cumsum([weight.size for weight in weights.values()])[:-1]
    pieces = np.split(kept, ends)
    return {
        name: piece.reshape(weight.shape)
        for (name, weight), piece in zip(weights.items(), pieces, strict=True)
    }


def compute_nm_sparsity_mask(scores: npt.NDArray[Any], *, kept: int = 2, group: int = 4) -> Mask:
    """Return the best of each group of neighbours in a row: 2:4 sparsity and its like.

    Parameters
    ----------
    scores : ndarray
        ``(..., row, column)``.
    kept, group : int
        How many of how many neighbours are kept; ties by position, the later stays.

    Raises
    ------
    ParameterError
        If rows are no whole number of groups, or more would be kept than there are.

    Examples
    --------
    >>> of_each_group(np.array([[3.0, 1.0, 2.0, 0.0]])).astype(int)
    array([[1, 0, 1, 0]])
    """
    columns = scores.shape[-1]
    if columns % group or not 0 < kept <= group:
        message = f"{kept} of every {group} cannot be kept of rows of {columns}."
        raise ParameterError(message)
    grouped = scores.reshape(*scores.shape[:-1], columns // group, group)
    order = np.argsort(grouped, axis=-1, kind="stable")
    mask = np.ones(grouped.shape, dtype=bool)
    np.put_along_axis(mask, order[..., : group - kept], False, axis=-1)
    return mask.reshape(scores.shape)


def compute_permuted_wanda_mask(
    weight: npt.NDArray[Any],
    squares: npt.NDArray[Any],
    *,
    sparsity: float,
    rng: np.random.Generator,
) -> Mask:
    """Return Wanda's mask for inputs in random order: a null with norms of the same spread."""
    return compute_wanda_mask(weight, rng.permuted(squares, axis=-1), sparsity=sparsity)


def mask_smallest_per_row(scores: npt.NDArray[Any], *, sparsity: float) -> Mask:
    """Return a mask without the smallest scores of each row.

    Parameters
    ----------
    scores : ndarray
        ``(..., row, column)``.
    sparsity : float
        In [0, 1).

    Returns
    -------
    ndarray
        ``(..., row, column)`` bool.
    """
    if not 0 <= sparsity < 1:
        message = f"sparsity must be at least 0 and below 1; got {sparsity}."
        raise ParameterError(message)
    removed = int(scores.shape[-1] * sparsity)
    if removed == 0:
        return np.ones(scores.shape, dtype=bool)
    least = np.partition(scores, removed - 1, axis=-1)[..., removed - 1 : removed]
    mask: Mask = scores > least
    # Where the border runs through equal scores, the first of them are removed.
    tied = (~mask).sum(axis=-1) != removed
    order = np.argsort(scores[tied], axis=-1, kind="stable")[:, :removed]
    whole = np.ones((int(tied.sum()), scores.shape[-1]), dtype=bool)
    np.put_along_axis(whole, order, False, axis=1)
    mask[tied] = whole
    return mask


def compute_iou(a: Mask, b: Mask) -> float:
    """Return the overlap of two sets of kept weights, ``|A∧B| / |A∨B|``.

    Examples
    --------
    >>> iou(np.array([True, True, False]), np.array([True, False, False]))
    0.5
    """
    if a.shape != b.shape:
        message = f"Masks of one layer have one shape; got {a.shape} and {b.shape}."
        raise ParameterError(message)
    either = int((a | b).sum())
    if either == 0:
        message = "Both masks keep nothing: their overlap is not defined."
        raise ParameterError(message)
    return int((a & b).sum()) / either


def compute_chance_iou(sparsity: float) -> float:
    """Return the overlap of two independent masks, ``k² / (2k - k²)`` with k = 1 - sparsity.

    Examples
    --------
    >>> [round(chance(s), 3) for s in (0.3, 0.5, 0.7)]
    [0.538, 0.333, 0.176]
    """
    kept = 1 - sparsity
    return kept / (2 - kept)


def intersect_masks(masks: Sequence[Mask]) -> Mask:
    """Return the weights that all masks keep."""
    found = masks[0].copy()
    for mask in masks[1:]:
        found &= mask
    return found


def compute_pairwise_iou(masks: Sequence[Mask]) -> FloatArray:
    """Return the overlaps of all pairs of masks, ``(mask, mask)``."""
    packed = [np.packbits(mask) for mask in masks]
    found = np.ones((len(masks), len(masks)))
    for i, a in enumerate(packed):
        for j in range(i):
            both = int(np.bitwise_count(a & packed[j]).sum())
            either = int(np.bitwise_count(a | packed[j]).sum())
            found[i, j] = found[j, i] = both / either if either else np.nan
    return found


def compute_wanda_masks(
    weights: Mapping[str, npt.NDArray[Any]],
    squares: Mapping[str, npt.NDArray[Any]],
    *,
    sparsity: float,
) -> dict[str, Mask]:
    """Return Wanda's masks of all linear layers of a model's blocks.

    Parameters
    ----------
    weights : mapping of str to ndarray
        By linear layer ``(layer, out_features, in_features)``.
    squares : mapping of str to ndarray
        By linear layer ``(layer, in_features)``: sums of squares of the inputs.
    sparsity : float
        Share that is removed of each row.
    """
    return {
        name: compute_wanda_mask(w, squares[name], sparsity=sparsity) for name, w in weights.items()
    }


def compute_magnitude_masks(
    weights: Mapping[str, npt.NDArray[Any]], *, sparsity: float
) -> dict[str, Mask]:
    """Return what :func:`compute_wanda_masks` does, by :func:`compute_magnitude_mask`: the weights' size alone."""
    return {
        name: compute_magnitude_mask(weight, sparsity=sparsity) for name, weight in weights.items()
    }


def draw_random_masks(
    weights: Mapping[str, npt.NDArray[Any]], *, sparsity: float, rng: np.random.Generator
) -> dict[str, Mask]:
    """Return what :func:`compute_wanda_masks` does, of scores that are drawn: a null that knows nothing."""
    return {
        name: mask_smallest_per_row(rng.random(weight.shape, dtype=np.float32), sparsity=sparsity)
        for name, weight in weights.items()
    }


def flatten_masks(masks: Mapping[str, Mask]) -> Mask:
    """Return all weights of a model's masks in one row."""
    return np.concatenate([mask.ravel() for mask in masks.values()])


def compute_layer_iou(a: Mapping[str, Mask], b: Mapping[str, Mask]) -> xr.DataArray:
    """Return the overlap of two models' masks, ``(linear, layer)``."""
    values = [
        [compute_iou(x, y) for x, y in zip(mask, b[name], strict=True)] for name, mask in a.items()
    ]
    layers = np.arange(1, 1 + len(values[0]))
    return xr.DataArray(
        values, dims=("linear", "layer"), coords={"linear": list(a), "layer": layers}
    )
