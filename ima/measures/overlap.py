"""Overlap of subnetworks (F2.1): how many weights two sets of tokens both activate, and the nulls.

For two masks A and B of kept weights (:mod:`ima.measures.subnetworks`)::

    IoU(A, B) = |A ∧ B| / |A ∨ B|
    F2.1      = mean over data sets of IoU(perceptual, textual) minus that of a null
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import xarray as xr

from ima.errors import ParameterError
from ima.hook_points import TOKEN_KINDS
from ima.measures.subnetworks import (
    LinearWeights,
    Mask,
    compute_magnitude_masks,
    compute_wanda_masks,
    flatten_masks,
    permute_wanda_masks,
)
from ima.stats import FloatArray
from ima.stats.intervals import Interval

#: A data set and a kind of token.
TokenSetKey = tuple[str, str]
#: By set of tokens and linear layer ``(unit, layer, in_features)``: sums of squares of the inputs
#: over units of samples.
InputNormsByTokenSet = Mapping[TokenSetKey, Mapping[str, FloatArray]]
#: Two of the nulls: Wanda's masks with the inputs in random order, and the mask by the size of
#: weights alone against Wanda's.
PERMUTED_NULL, MAGNITUDE_NULL = "permuted inputs", "size alone"
#: Number of weights up to which resamples compare all rows of a model's linear layers.
RESAMPLED_WEIGHTS = 10_000_000


def compute_iou(a: Mask, b: Mask) -> float:
    """Compute the overlap of two masks, ``|A ∧ B| / |A ∨ B|``.

    Raises
    ------
    ParameterError
        If the shapes differ, or both masks keep nothing.

    Examples
    --------
    >>> compute_iou(np.array([True, True, False]), np.array([True, False, False]))
    0.5
    """
    if a.shape != b.shape:
        raise ParameterError(f"Masks of one layer have one shape; got {a.shape} and {b.shape}.")
    either = int((a | b).sum())
    if either == 0:
        raise ParameterError("Both masks keep nothing: their overlap is not defined.")
    return int((a & b).sum()) / either


def compute_chance_iou(sparsity: float) -> float:
    """Compute the expected overlap of two independent masks, ``k² / (2k - k²)``, k = 1 - sparsity.

    Examples
    --------
    >>> [round(compute_chance_iou(sparsity), 3) for sparsity in (0.3, 0.5, 0.7)]
    [0.538, 0.333, 0.176]
    """
    kept = 1 - sparsity
    return kept / (2 - kept)


def compute_pairwise_iou(masks: Sequence[Mask]) -> FloatArray:
    """Compute the overlaps of all pairs of masks, ``(mask, mask)``.

    Examples
    --------
    >>> compute_pairwise_iou([np.array([True, True]), np.array([True, False])])
    array([[1. , 0.5],
           [0.5, 1. ]])
    """
    packed = [np.packbits(mask) for mask in masks]
    overlaps = np.ones((len(masks), len(masks)))
    for i, a in enumerate(packed):
        for j in range(i):
            both = int(np.bitwise_count(a & packed[j]).sum())
            either = int(np.bitwise_count(a | packed[j]).sum())
            overlaps[i, j] = overlaps[j, i] = both / either if either else np.nan
    return overlaps


def compute_layer_iou(a: Mapping[str, Mask], b: Mapping[str, Mask]) -> xr.DataArray:
    """Compute the overlap of two models' masks in each linear layer, ``(linear, layer)``.

    Examples
    --------
    >>> a, b = {"q": np.array([[[True, True]]])}, {"q": np.array([[[True, False]]])}
    >>> compute_layer_iou(a, b).values
    array([[0.5]])
    """
    values = [
        [compute_iou(x, y) for x, y in zip(mask, b[name], strict=True)] for name, mask in a.items()
    ]
    layers = np.arange(1, 1 + len(values[0]))
    return xr.DataArray(
        values, dims=("linear", "layer"), coords={"linear": list(a), "layer": layers}
    )


@dataclass(frozen=True)
class MaskOverlaps:
    """Overlaps of the masks of sets of tokens, at one sparsity.

    Parameters
    ----------
    sparsity : float
        Ratio of each row's weights that is removed.
    kept : mapping of (str, str) to ndarray
        By data set and kind ``(weight,)``: all weights of the blocks, true where kept.
    matrix : pandas.DataFrame
        Overlap of all pairs of sets; rows and columns are (data set, kind).
    layers : mapping of str to xarray.DataArray
        By data set ``(linear, layer)``: overlap of perceptual and textual tokens.
    nulls : mapping of str to xarray.DataArray
        :data:`PERMUTED_NULL` and :data:`MAGNITUDE_NULL` ``(linear, layer)``, mean over data sets.
    summary : mapping of str to float
        ``perceptual–textual``, the mean over data sets, and its nulls :data:`PERMUTED_NULL`,
        :data:`MAGNITUDE_NULL` and ``chance``.
    """

    sparsity: float
    kept: Mapping[TokenSetKey, Mask]
    matrix: pd.DataFrame
    layers: Mapping[str, xr.DataArray]
    nulls: Mapping[str, xr.DataArray]
    summary: Mapping[str, float]


def compute_mask_overlaps(
    weights: LinearWeights, input_norms: InputNormsByTokenSet, *, sparsity: float, seed: int = 0
) -> MaskOverlaps:
    """Compute Wanda's masks of sets of tokens and how far they overlap.

    Parameters
    ----------
    weights : mapping of str to ndarray
        By linear layer ``(layer, out_features, in_features)``.
    input_norms : mapping
        See :data:`InputNormsByTokenSet`; both kinds of each data set.
    sparsity : float
        Ratio of each row's weights that is removed.
    seed : int
        Seed of the permuted inputs.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> weights = {"q": rng.normal(size=(1, 4, 6))}
    >>> norms = {("coco", kind): {"q": rng.random((3, 1, 6))} for kind in TOKEN_KINDS}
    >>> overlaps = compute_mask_overlaps(weights, norms, sparsity=0.5)
    >>> overlaps.layers["coco"].sizes
    Frozen({'linear': 1, 'layer': 1})
    """
    squares = _sum_over_units(input_norms)
    rng = np.random.default_rng(seed)
    masks = {
        key: compute_wanda_masks(weights, own, sparsity=sparsity) for key, own in squares.items()
    }
    permuted = {
        key: permute_wanda_masks(weights, own, sparsity=sparsity, rng=rng)
        for key, own in squares.items()
    }
    magnitude = compute_magnitude_masks(weights, sparsity=sparsity)
    kept = {key: flatten_masks(own) for key, own in masks.items()}
    null = {key: flatten_masks(own) for key, own in permuted.items()}
    names = _list_datasets(input_norms)
    layers, permuted_layers = (
        {name: compute_layer_iou(*(own[name, kind] for kind in TOKEN_KINDS)) for name in names}
        for own in (masks, permuted)
    )
    null_layers = {
        PERMUTED_NULL: list(permuted_layers.values()),
        MAGNITUDE_NULL: [compute_layer_iou(magnitude, own) for own in masks.values()],
    }
    index = pd.MultiIndex.from_tuples(list(kept))
    matrix = compute_pairwise_iou(list(kept.values()))
    return MaskOverlaps(
        sparsity,
        kept,
        pd.DataFrame(matrix, index=index, columns=index),
        layers,
        {name: xr.concat(own, dim="dataset").mean("dataset") for name, own in null_layers.items()},
        {
            "perceptual–textual": _average_kind_iou(kept),
            PERMUTED_NULL: _average_kind_iou(null),
            MAGNITUDE_NULL: _average_iou(flatten_masks(magnitude), kept),
            "chance": compute_chance_iou(sparsity),
        },
    )


def average_overlap_by_kind(matrix: pd.DataFrame) -> dict[str, float]:
    """Average the overlaps of all pairs of different sets, by their kinds: P–P, P–T, T–T.

    Parameters
    ----------
    matrix : pandas.DataFrame
        From :class:`MaskOverlaps`.

    Examples
    --------
    >>> index = pd.MultiIndex.from_product([["coco"], TOKEN_KINDS])
    >>> average_overlap_by_kind(pd.DataFrame([[1.0, 0.5], [0.5, 1.0]], index, index))
    {'P–T': 0.5}
    """
    overlaps: dict[str, list[float]] = {}
    letters, values = [str(kind)[0].upper() for _, kind in matrix.index], matrix.to_numpy()
    for i, first in enumerate(letters):
        for j, second in enumerate(letters[:i]):
            name = "–".join(sorted((first, second)))
            overlaps.setdefault(name, []).append(float(values[i, j]))
    return {name: float(np.mean(own)) for name, own in sorted(overlaps.items())}


def compute_overlap_excess(
    weights: LinearWeights,
    input_norms: InputNormsByTokenSet,
    *,
    sparsity: float,
    ids: Mapping[str, Sequence[str]],
    resamples: int = 20,
    seed: int = 0,
) -> dict[str, Interval]:
    """Measure F2.1: overlap of perceptual and textual tokens minus that of its nulls.

    Parameters
    ----------
    weights, input_norms, sparsity
        As in :func:`compute_mask_overlaps`.
    ids : mapping of str to sequence of str
        Contents of each data set's samples, in order. Data sets of the same contents, such as a
        caption and a question about each picture, are drawn together. n counts contents.
    resamples : int
        Number of bootstrap resamples of units of samples; each computes all masks again. A resample
        repeats some units and lacks others, so its masks agree slightly less and intervals are
        biased downwards. Of a model with more than :data:`RESAMPLED_WEIGHTS` weights, resamples
        compare every k-th row of each linear layer, and their difference from the data, on the same
        rows, is added to the estimate on all rows.
    seed : int
        Seed of resamples and permutations.

    Returns
    -------
    dict of str to Interval
        By :data:`PERMUTED_NULL` and :data:`MAGNITUDE_NULL`: the mean over data sets of the
        difference of overlaps.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> weights = {"q": rng.normal(size=(1, 4, 6))}
    >>> norms = {("coco", kind): {"q": rng.random((3, 1, 6))} for kind in TOKEN_KINDS}
    >>> ids = {"coco": ["a", "b", "c"]}
    >>> excess = compute_overlap_excess(weights, norms, sparsity=0.5, ids=ids, resamples=2)
    >>> list(excess), excess["size alone"].n
    (['permuted inputs', 'size alone'], 3)
    """
    names = _list_datasets(input_norms)
    groups = list(dict.fromkeys(tuple(ids[name]) for name in names))
    estimate = _compute_excess(weights, input_norms, sparsity=sparsity, seed=seed)
    stride = -(-sum(weight.size for weight in weights.values()) // RESAMPLED_WEIGHTS)
    rows, on_rows = weights, estimate
    if stride > 1:
        rows = {name: np.ascontiguousarray(own[:, ::stride]) for name, own in weights.items()}
        on_rows = _compute_excess(rows, input_norms, sparsity=sparsity, seed=seed)
    draws = []
    for draw in range(resamples):
        resampled: dict[TokenSetKey, dict[str, FloatArray]] = {}
        for name, kind in product(names, TOKEN_KINDS):
            own, group = input_norms[name, kind], groups.index(tuple(ids[name]))
            count = len(next(iter(own.values())))
            # The same seed draws both kinds of a sample together.
            units = np.random.default_rng((seed, draw, group)).integers(count, size=count)
            resampled[name, kind] = {linear: squares[units] for linear, squares in own.items()}
        draws.append(_compute_excess(rows, resampled, sparsity=sparsity, seed=(seed, draw)))
    # A resample holds units twice, so its masks are noisier than those of the data. Their spread is
    # that of the estimate, their mean is not.
    values = np.array(draws or [on_rows])
    shifted = values + (estimate - values.mean(axis=0))
    n = len(set().union(*groups))
    return {
        null: Interval.of_draws(float(estimate[at]), shifted[:, at], n=n)
        for at, null in enumerate((PERMUTED_NULL, MAGNITUDE_NULL))
    }


def _compute_excess(
    weights: LinearWeights,
    input_norms: InputNormsByTokenSet,
    *,
    sparsity: float,
    seed: int | tuple[int, int],
) -> FloatArray:
    """Compute how far the overlap exceeds that of permuted inputs, and that of size alone."""
    rng = np.random.default_rng(seed)
    kept, null = {}, {}
    for key, own in _sum_over_units(input_norms).items():
        kept[key] = flatten_masks(compute_wanda_masks(weights, own, sparsity=sparsity))
        null[key] = flatten_masks(permute_wanda_masks(weights, own, sparsity=sparsity, rng=rng))
    magnitude = flatten_masks(compute_magnitude_masks(weights, sparsity=sparsity))
    overlap = _average_kind_iou(kept)
    return np.array([overlap - _average_kind_iou(null), overlap - _average_iou(magnitude, kept)])


def _sum_over_units(
    input_norms: InputNormsByTokenSet,
) -> dict[TokenSetKey, dict[str, FloatArray]]:
    return {
        key: {name: array.sum(axis=0) for name, array in squares.items()}
        for key, squares in input_norms.items()
    }


def _average_iou(mask: Mask, others: Mapping[TokenSetKey, Mask]) -> float:
    return float(np.mean([compute_iou(mask, other) for other in others.values()]))


def _average_kind_iou(masks: Mapping[TokenSetKey, Mask]) -> float:
    """Average the overlap of perceptual and textual tokens over data sets."""
    perceptual, textual = TOKEN_KINDS
    pairs = [(masks[name, perceptual], masks[name, textual]) for name in _list_datasets(masks)]
    return float(np.mean([compute_iou(*pair) for pair in pairs]))


def _list_datasets(keys: Mapping[TokenSetKey, object]) -> list[str]:
    return list(dict.fromkeys(name for name, _ in keys))
