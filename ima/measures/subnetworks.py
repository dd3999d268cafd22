"""Subnetworks (F2): the weights that an input activates, by Wanda, and null masks beside them.

Wanda (Sun et al. 2023, arXiv:2306.11695) scores each weight W_ij of a linear layer by its size and
the norm of its input over calibration tokens, and removes the smallest scores of each output row::

    score_ij = |W_ij| ‖x_j‖₂

Inputs are given as sums of squares, the squares of ‖x_j‖₂.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ima.errors import ParameterError
from ima.stats import BoolArray

Mask = BoolArray
#: By linear layer ``(layer, out_features, in_features)``.
LinearWeights = Mapping[str, npt.NDArray[Any]]
#: By linear layer ``(layer, out_features, in_features)``, true where a weight is kept.
ModelMasks = dict[str, Mask]


def compute_wanda_mask(
    weight: npt.NDArray[Any], squares: npt.NDArray[Any], *, sparsity: float
) -> Mask:
    """Compute Wanda's mask of a linear layer.

    Parameters
    ----------
    weight : ndarray
        ``(..., out_features, in_features)``, one layer or several.
    squares : ndarray
        ``(..., in_features)``, sums over calibration tokens of each input's square. Their number
        does not matter, because a common factor changes no order.
    sparsity : float
        Ratio of each row's weights that is removed: the ``int(in_features · sparsity)`` smallest
        scores, ties by position, as in the reference code.

    Returns
    -------
    ndarray
        ``(..., out_features, in_features)`` bool, true where kept.

    Raises
    ------
    ParameterError
        If the sparsity is not in [0, 1), sizes differ, or a sum is negative or not finite.

    Examples
    --------
    >>> weight = np.array([[1.0, -3.0], [2.0, 1.0]])
    >>> compute_wanda_mask(weight, np.array([4.0, 1.0]), sparsity=0.5)
    array([[False,  True],
           [ True, False]])
    """
    if squares.shape != (*weight.shape[:-2], weight.shape[-1]):
        raise ParameterError(
            f"Weights {weight.shape} and sums of squares {squares.shape} do not fit."
        )
    if not (np.isfinite(squares).all() and (squares >= 0).all()):
        raise ParameterError("Sums of squares must be finite and not negative.")
    # Layer by layer: the scores of one layer stay in the processor's cache.
    mask = np.empty(weight.shape, dtype=bool)
    for at in np.ndindex(weight.shape[:-2]):
        scores = np.abs(weight[at]) * np.sqrt(squares[at])
        mask[at] = mask_smallest_per_row(scores, sparsity=sparsity)
    return mask


def mask_smallest_per_row(scores: npt.NDArray[Any], *, sparsity: float) -> Mask:
    """Compute the mask that removes the smallest scores of each row.

    Parameters
    ----------
    scores : ndarray
        ``(..., row, column)``.
    sparsity : float
        Ratio of each row that is removed, in [0, 1).

    Returns
    -------
    ndarray
        ``(..., row, column)`` bool, true where kept.

    Examples
    --------
    >>> mask_smallest_per_row(np.array([[3.0, 1.0, 2.0, 1.0]]), sparsity=0.25).astype(int)
    array([[1, 0, 1, 1]])
    """
    if not 0 <= sparsity < 1:
        raise ParameterError(f"sparsity must be at least 0 and below 1; got {sparsity}.")
    removed = int(scores.shape[-1] * sparsity)
    if removed == 0:
        return np.ones(scores.shape, dtype=bool)
    largest_removed = np.partition(scores, removed - 1, axis=-1)[..., removed - 1 : removed]
    mask: Mask = scores > largest_removed
    # Where the border runs through equal scores, the first of them are removed.
    tied = (~mask).sum(axis=-1) != removed
    order = np.argsort(scores[tied], axis=-1, kind="stable")[:, :removed]
    rows = np.ones((int(tied.sum()), scores.shape[-1]), dtype=bool)
    np.put_along_axis(rows, order, False, axis=1)
    mask[tied] = rows
    return mask


def compute_magnitude_mask(weight: npt.NDArray[Any], *, sparsity: float) -> Mask:
    """Compute the mask by the size of weights alone, a null that sees no input.

    Examples
    --------
    >>> compute_magnitude_mask(np.array([[1.0, -3.0], [2.0, 1.0]]), sparsity=0.5)
    array([[False,  True],
           [ True, False]])
    """
    return mask_smallest_per_row(np.abs(weight), sparsity=sparsity)


def compute_nm_sparsity_mask(scores: npt.NDArray[Any], *, kept: int = 2, group: int = 4) -> Mask:
    """Compute the mask of N:M sparsity, such as 2:4: the best scores of each group in a row.

    Parameters
    ----------
    scores : ndarray
        ``(..., row, column)``.
    kept, group : int
        Number of scores kept per group and size of a group; of ties the later position is kept.

    Raises
    ------
    ParameterError
        If a row is not a whole number of groups, or a group has fewer scores than are kept.

    Examples
    --------
    >>> compute_nm_sparsity_mask(np.array([[3.0, 1.0, 2.0, 0.0]])).astype(int)
    array([[1, 0, 1, 0]])
    """
    columns = scores.shape[-1]
    if columns % group or not 0 < kept <= group:
        raise ParameterError(f"Cannot keep {kept} of every {group} in rows of {columns}.")
    grouped = scores.reshape(*scores.shape[:-1], columns // group, group)
    order = np.argsort(grouped, axis=-1, kind="stable")
    mask = np.ones(grouped.shape, dtype=bool)
    np.put_along_axis(mask, order[..., : group - kept], False, axis=-1)
    return mask.reshape(scores.shape)


def compute_wanda_masks(
    weights: LinearWeights, squares: Mapping[str, npt.NDArray[Any]], *, sparsity: float
) -> ModelMasks:
    """Compute :func:`compute_wanda_mask` for all linear layers of a model's blocks.

    Parameters
    ----------
    weights : mapping of str to ndarray
        By linear layer ``(layer, out_features, in_features)``.
    squares : mapping of str to ndarray
        By linear layer ``(layer, in_features)``, sums of squares of the inputs.
    sparsity : float
        Ratio of each row's weights that is removed.

    Examples
    --------
    >>> weights, squares = {"q": np.array([[[1.0, -3.0]]])}, {"q": np.array([[16.0, 1.0]])}
    >>> compute_wanda_masks(weights, squares, sparsity=0.5)
    {'q': array([[[ True, False]]])}
    """
    return {
        name: compute_wanda_mask(weight, squares[name], sparsity=sparsity)
        for name, weight in weights.items()
    }


def compute_magnitude_masks(weights: LinearWeights, *, sparsity: float) -> ModelMasks:
    """Compute :func:`compute_magnitude_mask` for all linear layers of a model's blocks.

    Examples
    --------
    >>> compute_magnitude_masks({"q": np.array([[[1.0, -3.0]]])}, sparsity=0.5)
    {'q': array([[[False,  True]]])}
    """
    return {
        name: compute_magnitude_mask(weight, sparsity=sparsity) for name, weight in weights.items()
    }


def compute_global_magnitude_masks(weights: LinearWeights, *, sparsity: float) -> ModelMasks:
    """Compute the masks that keep the largest weights of all linear layers together.

    Parameters
    ----------
    weights : mapping of str to ndarray
        By linear layer ``(layer, out_features, in_features)``.
    sparsity : float
        Ratio of all weights that is removed: the ``int(count · sparsity)`` smallest, ties by
        position.

    Examples
    --------
    >>> weights = {"q": np.array([[[1.0, -3.0]]]), "k": np.array([[[4.0, 2.0]]])}
    >>> compute_global_magnitude_masks(weights, sparsity=0.5)
    {'q': array([[[False,  True]]]), 'k': array([[[ True, False]]])}
    """
    sizes = np.concatenate([np.abs(weight).ravel() for weight in weights.values()])
    mask = mask_smallest_per_row(sizes[None], sparsity=sparsity)[0]
    return split_mask(mask, like=weights)


def split_mask(flat: Mask, *, like: Mapping[str, npt.NDArray[Any]]) -> ModelMasks:
    """Split a mask of all weights into linear layers: the inverse of :func:`flatten_masks`.

    Parameters
    ----------
    flat : ndarray of bool
        ``(weight,)``.
    like : mapping of str to ndarray
        By linear layer, an array of its shape.

    Examples
    --------
    >>> split_mask(np.array([True, False]), like={"q": np.zeros((1, 1, 1)), "k": np.zeros((1, 1))})
    {'q': array([[[ True]]]), 'k': array([[False]])}
    """
    pieces = np.split(flat, np.cumsum([each.size for each in like.values()])[:-1])
    return {
        name: piece.reshape(each.shape)
        for (name, each), piece in zip(like.items(), pieces, strict=True)
    }


def draw_random_masks(
    weights: LinearWeights, *, sparsity: float, rng: np.random.Generator
) -> ModelMasks:
    """Draw the masks of random scores, a null that sees neither weights nor inputs.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> masks = draw_random_masks({"q": np.ones((1, 3, 4))}, sparsity=0.5, rng=rng)
    >>> masks["q"].sum(axis=-1)
    array([[2, 2, 2]])
    """
    return {
        name: mask_smallest_per_row(rng.random(weight.shape, dtype=np.float32), sparsity=sparsity)
        for name, weight in weights.items()
    }


def permute_wanda_masks(
    weights: LinearWeights,
    squares: Mapping[str, npt.NDArray[Any]],
    *,
    sparsity: float,
    rng: np.random.Generator,
) -> ModelMasks:
    """Compute Wanda's masks with the inputs in random order, a null that keeps their spread.

    Examples
    --------
    >>> weights, squares = {"q": np.array([[[1.0, 1.0]]])}, {"q": np.array([[16.0, 1.0]])}
    >>> masks = permute_wanda_masks(weights, squares, sparsity=0.5, rng=np.random.default_rng(0))
    >>> int(masks["q"].sum())
    1
    """
    return {
        name: compute_wanda_mask(weight, rng.permuted(squares[name], axis=-1), sparsity=sparsity)
        for name, weight in weights.items()
    }


def flatten_masks(masks: Mapping[str, Mask]) -> Mask:
    """Concatenate the masks of all linear layers to ``(weight,)``.

    Examples
    --------
    >>> flatten_masks({"q": np.array([[[True, False]]]), "k": np.array([[[True]]])})
    array([ True, False,  True])
    """
    return np.concatenate([mask.ravel() for mask in masks.values()])


def intersect_masks(masks: Sequence[Mask]) -> Mask:
    """Compute the mask of the weights that all masks keep.

    Examples
    --------
    >>> intersect_masks([np.array([True, True]), np.array([True, False])])
    array([ True, False])
    """
    common = masks[0].copy()
    for mask in masks[1:]:
        common &= mask
    return common
