"""Overlap of subnetworks (F2.1): how many weights two sets of tokens both activate, and the nulls.

For two masks A and B of kept weights (:mod:`ima.measures.subnetworks`)::

    IoU(A, B) = |A ∧ B| / |A ∨ B|

:mod:`ima.measures.overlap_excess` compares overlaps with their nulls.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from ima.errors import ParameterError
from ima.hook_points import TOKEN_KINDS
from ima.measures.subnetworks import (
    LinearWeights,
    Mask,
    ModelMasks,
    compute_magnitude_masks,
    compute_wanda_masks,
    flatten_masks,
    permute_wanda_masks,
)
from ima.stats import FloatArray

#: A data set and a kind of token.
TokenSetKey = tuple[str, str]
#: By set of tokens and linear layer ``(unit, layer, in_features)``: sums of squares of the inputs
#: over units of samples.
InputNormsByTokenSet = Mapping[TokenSetKey, Mapping[str, FloatArray]]
#: A mask, 64 weights to a word.
PackedMask = npt.NDArray[np.uint64]
#: Two of the nulls: Wanda's masks with the activations in random order, and the mask by the size of
#: weights alone against Wanda's.
PERMUTED_NULL, MAGNITUDE_NULL = "permuted activations", "size alone"
#: What two sets of tokens have in common.
SAME_DATASET, OTHER_DATASET = "P and T, one data set", "P and T, two data sets"
TWO_PERCEPTUAL, TWO_TEXTUAL = "P and P′, two data sets", "T and T′, two data sets"
TOKEN_SET_PAIRS = (SAME_DATASET, OTHER_DATASET, TWO_PERCEPTUAL, TWO_TEXTUAL)
#: Number of weights up to which nulls and the jackknife compare all rows of all linear layers.
COMPARED_WEIGHTS = 10_000_000


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
    return compute_packed_iou([pack_mask(mask) for mask in masks])


def pack_mask(mask: Mask) -> PackedMask:
    """Pack a mask of any shape into words of 64 weights, with zeros at the end.

    Examples
    --------
    >>> int(np.bitwise_count(pack_mask(np.ones((3, 50), dtype=bool))).sum())
    150
    """
    packed = np.packbits(mask)
    return np.pad(packed, (0, -packed.size % 8)).view(np.uint64)


def compute_packed_iou(packed: Sequence[PackedMask]) -> FloatArray:
    """Compute the overlaps of all pairs of packed masks, ``(mask, mask)``.

    Parameters
    ----------
    packed : sequence of ndarray
        From :func:`pack_mask`.

    Returns
    -------
    ndarray
        ``(mask, mask)``; NaN where both masks keep nothing.

    Examples
    --------
    >>> masks = [pack_mask(np.array(mask)) for mask in ([True, True], [True, False])]
    >>> compute_packed_iou(masks)[0, 1]
    np.float64(0.5)
    """
    sizes = [int(np.bitwise_count(mask).sum()) for mask in packed]
    overlaps = np.ones((len(packed), len(packed)))
    for i, a in enumerate(packed):
        for j in range(i):
            both = int(np.bitwise_count(a & packed[j]).sum())
            either = sizes[i] + sizes[j] - both
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
    permuted : ndarray
        ``(set, permutation, set, permutation)``: overlap of the masks of permuted activations, for
        every permutation of the one set and every permutation of the other; NaN for one set.
    layers : mapping of str to xarray.DataArray
        By data set ``(linear, layer)``: overlap of perceptual and textual tokens.
    nulls : mapping of str to xarray.DataArray
        :data:`PERMUTED_NULL` and :data:`MAGNITUDE_NULL` ``(linear, layer)``, mean over data sets.
    over_magnitude : float
        Overlap of each set's mask with that of the largest weights, mean over sets.
    """

    sparsity: float
    kept: Mapping[TokenSetKey, Mask]
    matrix: pd.DataFrame
    permuted: FloatArray
    layers: Mapping[str, xr.DataArray]
    nulls: Mapping[str, xr.DataArray]
    over_magnitude: float

    @property
    def summary(self) -> dict[str, float]:
        """Overlap of perceptual and textual tokens, mean over data sets, and of its nulls."""
        pairs = list_token_set_pairs(list(self.kept))[SAME_DATASET]
        return {
            "perceptual–textual": average_pairs(self.matrix.to_numpy(), pairs),
            PERMUTED_NULL: average_pairs(self.permuted.mean(axis=(1, 3)), pairs),
            MAGNITUDE_NULL: self.over_magnitude,
            "chance": compute_chance_iou(self.sparsity),
        }


def compute_mask_overlaps(
    weights: LinearWeights,
    input_norms: InputNormsByTokenSet,
    *,
    sparsity: float,
    permutations: int = 8,
    seed: int = 0,
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
    permutations : int
        Number of permutations of each set's activations. Each of one set meets each of the other,
        so k permutations give k² overlaps of a pair. In a model with more than
        :data:`COMPARED_WEIGHTS` weights, they use some rows (:func:`take_rows`).
    seed : int
        Seed of the permutations. A set's permutations follow from its name and kind, so they do not
        depend on the order of the sets.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> weights = {"q": rng.normal(size=(1, 4, 6))}
    >>> norms = {("coco", kind): {"q": rng.random((3, 1, 6))} for kind in TOKEN_KINDS}
    >>> overlaps = compute_mask_overlaps(weights, norms, sparsity=0.5, permutations=2)
    >>> overlaps.layers["coco"].sizes, overlaps.permuted.shape
    (Frozen({'linear': 1, 'layer': 1}), (2, 2, 2, 2))
    """
    squares = sum_over_units(input_norms)
    masks = {
        key: compute_wanda_masks(weights, own, sparsity=sparsity) for key, own in squares.items()
    }
    magnitude = compute_magnitude_masks(weights, sparsity=sparsity)
    kept = {key: flatten_masks(own) for key, own in masks.items()}
    permuted, permuted_layers = _permute_all(
        take_rows(weights), squares, sparsity=sparsity, permutations=permutations, seed=seed
    )
    index = pd.MultiIndex.from_tuples(list(kept))
    # Row 0 is the mask of the largest weights.
    matrix = compute_pairwise_iou([flatten_masks(magnitude), *kept.values()])
    magnitude_layers = [compute_layer_iou(magnitude, own) for own in masks.values()]
    return MaskOverlaps(
        sparsity,
        kept,
        pd.DataFrame(matrix[1:, 1:], index=index, columns=index),
        permuted,
        {
            name: compute_layer_iou(*(masks[name, kind] for kind in TOKEN_KINDS))
            for name in _list_datasets(masks)
        },
        {
            PERMUTED_NULL: permuted_layers,
            MAGNITUDE_NULL: xr.concat(magnitude_layers, dim="set").mean("set"),
        },
        float(matrix[0, 1:].mean()),
    )


def take_rows(weights: LinearWeights) -> LinearWeights:
    """Take every k-th row of each linear layer of a model of many weights, else all rows.

    The rows of a layer are masked one by one, so fewer rows estimate the same overlap.

    Parameters
    ----------
    weights : mapping of str to ndarray
        By linear layer ``(layer, out_features, in_features)``.

    Returns
    -------
    mapping of str to ndarray
        As many rows as give about :data:`COMPARED_WEIGHTS` weights.

    Examples
    --------
    >>> take_rows({"q": np.ones((1, 4, 6))})["q"].shape
    (1, 4, 6)
    """
    stride = -(-sum(weight.size for weight in weights.values()) // COMPARED_WEIGHTS)
    if stride <= 1:
        return weights
    return {name: np.ascontiguousarray(own[:, ::stride]) for name, own in weights.items()}


def permute_set_masks(
    weights: LinearWeights,
    squares: Mapping[str, FloatArray],
    *,
    key: TokenSetKey,
    number: int,
    sparsity: float,
    seed: int,
) -> ModelMasks:
    """Compute a set's masks under one of its permutations of activations.

    Parameters
    ----------
    weights, sparsity, seed
        As for :func:`compute_mask_overlaps`.
    squares : mapping of str to ndarray
        By linear layer ``(layer, in_features)``.
    key : (str, str)
        Data set and kind. With the seed and the number, they fix the permutation.
    number : int
        Number of the permutation.

    Examples
    --------
    >>> weights, squares = {"q": np.ones((1, 2, 4))}, {"q": np.array([[9.0, 4.0, 1.0, 0.0]])}
    >>> given = {"key": ("coco", "textual"), "sparsity": 0.5, "seed": 0}
    >>> masks = permute_set_masks(weights, squares, number=0, **given)
    >>> int(masks["q"].sum())
    4
    """
    rng = np.random.default_rng((seed, number, zlib.crc32("/".join(key).encode())))
    return permute_wanda_masks(weights, squares, sparsity=sparsity, rng=rng)


def _permute_all(
    weights: LinearWeights,
    squares: Mapping[TokenSetKey, Mapping[str, FloatArray]],
    *,
    sparsity: float,
    permutations: int,
    seed: int,
) -> tuple[FloatArray, xr.DataArray]:
    """Return :attr:`MaskOverlaps.permuted`, and the null of each layer, mean over data sets."""
    if permutations < 2:
        raise ParameterError(
            f"An average over permutations needs at least 2 of them; got {permutations}."
        )
    packed: dict[TokenSetKey, list[PackedMask]] = {key: [] for key in squares}
    layers = []
    for name, number in product(_list_datasets(squares), range(permutations)):
        masks = {
            kind: permute_set_masks(
                weights, squares[name, kind],
                key=(name, kind), number=number, sparsity=sparsity, seed=seed,
            )
            for kind in TOKEN_KINDS
        }  # fmt: skip
        layers.append(compute_layer_iou(*masks.values()))
        for kind, own in masks.items():
            packed[name, kind].append(pack_mask(flatten_masks(own)))
    matrix = compute_packed_iou([mask for own in packed.values() for mask in own])
    permuted = matrix.reshape(len(packed), permutations, len(packed), permutations)
    for at in range(len(packed)):
        permuted[at, :, at] = np.nan
    return permuted, xr.concat(layers, dim="draw").mean("draw")


def list_token_set_pairs(keys: Sequence[TokenSetKey]) -> dict[str, list[tuple[int, int]]]:
    """List the pairs of different sets of tokens, by what they have in common.

    Parameters
    ----------
    keys : sequence of (str, str)
        Data set and kind of each set.

    Returns
    -------
    dict of str to list of (int, int)
        By :data:`TOKEN_SET_PAIRS`, positions in `keys`; kinds without a pair are left out.

    Examples
    --------
    >>> pairs = list_token_set_pairs([("a", "perceptual"), ("a", "textual"), ("b", "textual")])
    >>> pairs[SAME_DATASET], pairs[OTHER_DATASET], pairs[TWO_TEXTUAL]
    ([(0, 1)], [(0, 2)], [(1, 2)])
    """
    pairs: dict[str, list[tuple[int, int]]] = {kind: [] for kind in TOKEN_SET_PAIRS}
    for (i, (name, kind)), (j, (other, other_kind)) in combinations(enumerate(keys), 2):
        if name == other:
            pairs[SAME_DATASET].append((i, j))
        elif kind != other_kind:
            pairs[OTHER_DATASET].append((i, j))
        else:
            pairs[TWO_PERCEPTUAL if kind == TOKEN_KINDS[0] else TWO_TEXTUAL].append((i, j))
    return {kind: own for kind, own in pairs.items() if own}


def average_pairs(matrix: FloatArray, pairs: Sequence[tuple[int, int]]) -> float:
    """Average the entries of a matrix at these pairs of rows and columns.

    Examples
    --------
    >>> average_pairs(np.array([[1.0, 0.5], [0.5, 1.0]]), [(0, 1)])
    0.5
    """
    return float(np.mean([matrix[pair] for pair in pairs]))


def tabulate_pair_overlaps(overlaps: MaskOverlaps) -> pd.DataFrame:
    """Tabulate how far masks overlap, for each kind of pair of token sets.

    Parameters
    ----------
    overlaps : MaskOverlaps
        From :func:`compute_mask_overlaps`.

    Returns
    -------
    pandas.DataFrame
        By kind of pair: its number of pairs, their mean overlap, that under permuted activations,
        and the difference.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> norms = {("coco", kind): {"q": rng.random((3, 1, 6))} for kind in TOKEN_KINDS}
    >>> overlaps = compute_mask_overlaps({"q": rng.normal(size=(1, 4, 6))}, norms, sparsity=0.5)
    >>> tabulate_pair_overlaps(overlaps)["pairs"].to_dict()
    {'P and T, one data set': 1}
    """
    matrix, permuted = overlaps.matrix.to_numpy(), overlaps.permuted.mean(axis=(1, 3))
    rows = {}
    for kind, pairs in list_token_set_pairs(list(overlaps.kept)).items():
        both, null = average_pairs(matrix, pairs), average_pairs(permuted, pairs)
        rows[kind] = {
            "pairs": len(pairs), "overlap": both, "permuted": null, "beyond permuted": both - null,
        }  # fmt: skip
    return pd.DataFrame(rows).T.astype({"pairs": int})


def sum_over_units(
    input_norms: InputNormsByTokenSet,
) -> dict[TokenSetKey, dict[str, FloatArray]]:
    """Add up the sums of squares of each set of tokens over its units of samples.

    Examples
    --------
    >>> sum_over_units({("coco", "textual"): {"q": np.ones((3, 1, 2))}})
    {('coco', 'textual'): {'q': array([[3., 3.]])}}
    """
    return {
        key: {name: array.sum(axis=0) for name, array in squares.items()}
        for key, squares in input_norms.items()
    }


def _list_datasets(keys: Iterable[TokenSetKey]) -> list[str]:
    return list(dict.fromkeys(name for name, _ in keys))
