"""Overlap of what sets of tokens activate (F2.1): every pair of sets, every layer, every null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from ima.hook_points import TOKEN_KINDS
from ima.measures import subnetworks
from ima.measures.similarity import FloatArray
from ima.measures.subnetworks import Mask
from ima.stats.intervals import Interval

# A data set and a kind of token.
TokenSetKey = tuple[str, str]
#: Of each set of tokens and linear layer ``(unit, layer, in_features)``: sums of squares in units
#: of samples.
InputNormsByTokenSet = Mapping[TokenSetKey, Mapping[str, FloatArray]]
LinearWeights = Mapping[str, npt.NDArray[np.float32]]
#: Two of the nulls: Wanda's masks under inputs in random order, and the mask by the size of weights
#: against Wanda's.
PERMUTED_NULL, MAGNITUDE_NULL = "permuted inputs", "size alone"


@dataclass(frozen=True)
class MaskOverlaps:
    """Overlaps of the weights that sets of tokens activate, at one share left out.

    Parameters
    ----------
    sparsity : float
        The share.
    kept : mapping of (str, str) to ndarray
        By data set and kind: all weights of the blocks in one row, true where kept.
    matrix : pandas.DataFrame
        Overlap of all pairs of sets; rows and columns are (data set, kind).
    layers : mapping of str to xarray.DataArray
        By data set ``(linear, layer)``: perceptual against textual tokens.
    nulls : mapping of str to xarray.DataArray
        :data:`PERMUTED_NULL` and :data:`MAGNITUDE_NULL` ``(linear, layer)``, mean over data sets.
    summary : mapping of str to float
        ``perceptual–textual``: mean over data sets; and its nulls :data:`PERMUTED_NULL`, :data:`MAGNITUDE_NULL`
        and ``chance``.
    """

    sparsity: float
    kept: Mapping[TokenSetKey, Mask]
    matrix: pd.DataFrame
    layers: Mapping[str, xr.DataArray]
    nulls: Mapping[str, xr.DataArray]
    summary: Mapping[str, float]


def compute_mask_overlaps(
    weights: LinearWeights, units: InputNormsByTokenSet, *, sparsity: float, seed: int = 0
) -> MaskOverlaps:
    """Compute Wanda's masks of sets of tokens and how far they overlap.

    Parameters
    ----------
    weights : mapping of str to ndarray
        By linear layer ``(layer, out_features, in_features)``.
    units : mapping
        See :data:`InputNormsByTokenSet`; both kinds of each data set.
    sparsity : float
        Share that is left out of each row.
    seed : int
        Of permuted inputs.
    """
    own = {
        key: subnetworks.compute_wanda_masks(weights, _summed(squares), sparsity=sparsity)
        for key, squares in units.items()
    }
    kept = {key: subnetworks.flatten_masks(masks) for key, masks in own.items()}
    rng = np.random.default_rng(seed)
    null = {
        key: _permuted(weights, _summed(squares), sparsity, rng) for key, squares in units.items()
    }
    size = subnetworks.compute_magnitude_masks(weights, sparsity=sparsity)
    against = {
        PERMUTED_NULL: [
            subnetworks.compute_layer_iou(*_both(null, name)) for name in _datasets(units)
        ],
        MAGNITUDE_NULL: [subnetworks.compute_layer_iou(size, masks) for masks in own.values()],
    }
    index = pd.MultiIndex.from_tuples(list(kept))
    matrix = subnetworks.compute_pairwise_iou(list(kept.values()))
    return MaskOverlaps(
        sparsity,
        kept,
        pd.DataFrame(matrix, index=index, columns=index),
        {name: subnetworks.compute_layer_iou(*_both(own, name)) for name in _datasets(units)},
        {name: xr.concat(found, dim="dataset").mean("dataset") for name, found in against.items()},
        {
            "perceptual–textual": _within(kept),
            PERMUTED_NULL: _within(
                {key: subnetworks.flatten_masks(masks) for key, masks in null.items()}
            ),
            MAGNITUDE_NULL: _beside(subnetworks.flatten_masks(size), kept),
            "chance": subnetworks.compute_chance_iou(sparsity),
        },
    )


def compute_overlap_excess(
    weights: LinearWeights,
    units: InputNormsByTokenSet,
    *,
    sparsity: float,
    ids: Mapping[str, Sequence[str]],
    resamples: int = 20,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Measure F2.1: overlap of perceptual and textual tokens less that of its nulls.

    Parameters
    ----------
    weights, units, sparsity
        As of :func:`compute_mask_overlaps`.
    ids : mapping of str to sequence of str
        Of each data set, which contents its samples are of, in order. Data sets of the same
        contents, a caption and a question about each picture, are drawn together, and contents are
        the n of the interval.
    resamples : int
        Bootstrap resamples of units of samples; each computes all masks again. A resample repeats
        some units and lacks others, so its masks agree a little less: intervals lean downwards.
    seed : int
        Of resamples and permutations.
    level : float
        Coverage of the percentile interval.

    Returns
    -------
    dict of str to Interval
        By :data:`PERMUTED_NULL` and :data:`MAGNITUDE_NULL`: the mean over data sets of the difference of overlaps.
    """
    groups = list(dict.fromkeys(tuple(ids[name]) for name in _datasets(units)))
    drawn = [_difference(weights, units, sparsity, seed)]
    for draw in range(resamples):
        again: dict[TokenSetKey, dict[str, FloatArray]] = {}
        for name in _datasets(units):
            at = groups.index(tuple(ids[name]))
            count = len(next(iter(units[name, TOKEN_KINDS[0]].values())))
            # Both kinds of a sample are drawn together.
            rows = np.random.default_rng((seed, draw, at)).integers(count, size=count)
            for kind in TOKEN_KINDS:
                again[name, kind] = {k: array[rows] for k, array in units[name, kind].items()}
        drawn.append(_difference(weights, again, sparsity, (seed, draw)))
    n = len(set().union(*groups))
    found = {}
    for at, name in enumerate((PERMUTED_NULL, MAGNITUDE_NULL)):
        values = [one[at] for one in drawn]
        found[name] = Interval.of_draws(values[0], values[1:] or values, n=n, level=level)
    return found


def average_overlap_by_kind(matrix: pd.DataFrame) -> dict[str, float]:
    """Average the overlaps of all pairs of different sets, by their kinds: P–P, P–T, T–T."""
    found: dict[str, list[float]] = {}
    letters, values = [str(kind)[0].upper() for _, kind in matrix.index], matrix.to_numpy()
    for i, first in enumerate(letters):
        for j, second in enumerate(letters[:i]):
            name = "–".join(sorted((first, second)))
            found.setdefault(name, []).append(float(values[i, j]))
    return {name: float(np.mean(values)) for name, values in sorted(found.items())}


def _difference(
    weights: LinearWeights,
    units: InputNormsByTokenSet,
    sparsity: float,
    seed: int | tuple[int, int],
) -> tuple[float, float]:
    """Return how far the overlap exceeds that of permuted inputs, and that of size alone."""
    rng = np.random.default_rng(seed)
    kept, null = {}, {}
    for key, squares in units.items():
        total = _summed(squares)
        kept[key] = subnetworks.flatten_masks(
            subnetworks.compute_wanda_masks(weights, total, sparsity=sparsity)
        )
        null[key] = subnetworks.flatten_masks(_permuted(weights, total, sparsity, rng))
    size = subnetworks.flatten_masks(
        subnetworks.compute_magnitude_masks(weights, sparsity=sparsity)
    )
    return _within(kept) - _within(null), _within(kept) - _beside(size, kept)


def _permuted(
    weights: LinearWeights,
    squares: Mapping[str, FloatArray],
    sparsity: float,
    rng: np.random.Generator,
) -> dict[str, Mask]:
    return {
        name: subnetworks.compute_permuted_wanda_mask(
            weight, squares[name], sparsity=sparsity, rng=rng
        )
        for name, weight in weights.items()
    }


def _both(
    masks: Mapping[TokenSetKey, dict[str, Mask]], name: str
) -> tuple[dict[str, Mask], dict[str, Mask]]:
    return masks[name, TOKEN_KINDS[0]], masks[name, TOKEN_KINDS[1]]


def _beside(size: Mask, kept: Mapping[TokenSetKey, Mask]) -> float:
    return float(np.mean([subnetworks.compute_iou(size, mask) for mask in kept.values()]))


def _within(kept: Mapping[TokenSetKey, Mask]) -> float:
    names = _datasets(kept)
    pairs = [
        subnetworks.compute_iou(kept[name, TOKEN_KINDS[0]], kept[name, TOKEN_KINDS[1]])
        for name in names
    ]
    return float(np.mean(pairs))


def _datasets(keys: Mapping[TokenSetKey, object]) -> Sequence[str]:
    return list(dict.fromkeys(name for name, _ in keys))


def _summed(squares: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    return {name: array.sum(axis=0) for name, array in squares.items()}
