"""Subnetworks (F2): which weights an input activates, by Wanda, and how far two sets of them agree.

Wanda (Sun et al. 2023, arXiv:2306.11695) scores a weight by its size times the norm of its input
over calibration tokens, ``|W_ij| ‖x_j‖₂``, and removes the least in each output row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ima.errors import ParameterError
from ima.measures.similarity import Floats

Mask = npt.NDArray[np.bool_]


def wanda(weight: npt.NDArray[Any], squares: npt.NDArray[Any], *, sparsity: float) -> Mask:
    """Return which weights of a linear layer are kept.

    Parameters
    ----------
    weight : ndarray
        ``(out_features, in_features)``.
    squares : ndarray
        ``(in_features,)``: sums over calibration tokens of the squares of each input. Their number
        does not matter: a common factor changes no order.
    sparsity : float
        Share that is removed of each row: the ``int(in_features · sparsity)`` smallest scores, ties
        by position, as in the reference code.

    Returns
    -------
    ndarray
        ``(out_features, in_features)`` bool, true where kept.

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
    if squares.shape != weight.shape[1:]:
        message = f"{weight.shape[1]} inputs have {squares.shape} sums of squares."
        raise ParameterError(message)
    if not (np.isfinite(squares).all() and (squares >= 0).all()):
        message = "Sums of squares must be finite and not negative."
        raise ParameterError(message)
    return least_removed(np.abs(weight) * np.sqrt(squares), sparsity=sparsity)


def magnitude(weight: npt.NDArray[Any], *, sparsity: float) -> Mask:
    """Return which weights are kept by their size alone: a null that sees no input."""
    return least_removed(np.abs(weight), sparsity=sparsity)


def permuted(
    weight: npt.NDArray[Any],
    squares: npt.NDArray[Any],
    *,
    sparsity: float,
    rng: np.random.Generator,
) -> Mask:
    """Return Wanda's mask for inputs in random order: a null with norms of the same spread."""
    return wanda(weight, rng.permutation(squares), sparsity=sparsity)


def least_removed(scores: npt.NDArray[Any], *, sparsity: float) -> Mask:
    """Return a mask without the smallest scores of each row.

    Parameters
    ----------
    scores : ndarray
        ``(row, column)``.
    sparsity : float
        In [0, 1).

    Returns
    -------
    ndarray
        ``(row, column)`` bool.
    """
    if not 0 <= sparsity < 1:
        message = f"sparsity must be at least 0 and below 1; got {sparsity}."
        raise ParameterError(message)
    removed = int(scores.shape[1] * sparsity)
    order = np.argsort(scores, axis=1, kind="stable")[:, :removed]
    mask = np.ones(scores.shape, dtype=bool)
    np.put_along_axis(mask, order, False, axis=1)
    return mask


def iou(a: Mask, b: Mask) -> float:
    """Return the overlap of two sets of kept weights, |A∧B| / |A∨B|.

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


def chance(sparsity: float) -> float:
    """Return the overlap of two independent masks, k² / (2k - k²) with k = 1 - sparsity.

    Examples
    --------
    >>> [round(chance(s), 3) for s in (0.3, 0.5, 0.7)]
    [0.538, 0.333, 0.176]
    """
    kept = 1 - sparsity
    return kept / (2 - kept)


def shared(masks: Sequence[Mask]) -> Mask:
    """Return the weights that all masks keep."""
    found = masks[0].copy()
    for mask in masks[1:]:
        found &= mask
    return found


def overlaps(masks: Sequence[Mask]) -> Floats:
    """Return the overlaps of all pairs of masks, ``(mask, mask)``."""
    flat = np.stack([mask.ravel() for mask in masks]).astype(np.float32)
    both = flat @ flat.T
    sizes = np.diag(both)
    found: Floats = (both / (sizes[:, None] + sizes[None] - both)).astype(np.float64)
    return found
