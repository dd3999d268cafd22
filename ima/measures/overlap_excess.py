"""Excess of overlap (F2.1): how far masks agree beyond permuted activations, with intervals.

For the perceptual tokens P and the textual tokens T of a data set, and the textual tokens T′ of
another one::

    excess(A, B) = IoU(A, B) − mean over permutations of IoU(permuted A, permuted B)
    as stated    = mean over data sets of excess(P, T)
    as tested    = that, divided by the mean over pairs of data sets of excess(T, T′)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ima.errors import ParameterError
from ima.measures.overlap import (
    SAME_DATASET,
    TWO_TEXTUAL,
    InputNormsByTokenSet,
    MaskOverlaps,
    PackedMask,
    TokenSetKey,
    average_pairs,
    compute_packed_iou,
    list_token_set_pairs,
    pack_mask,
    permute_set_masks,
    sum_over_units,
    take_rows,
)
from ima.measures.subnetworks import (
    LinearWeights,
    compute_magnitude_masks,
    compute_wanda_masks,
    flatten_masks,
)
from ima.stats import FloatArray
from ima.stats.intervals import Interval
from ima.stats.jackknife import compute_jackknife_error, compute_jackknife_interval

#: Number of groups into which the jackknife divides the samples of a data set, at most.
JACKKNIFE_GROUPS = 8
#: Permutations that are compared without each group. They are the same for all groups, so their
#: number moves the width of intervals only.
JACKKNIFE_PERMUTATIONS = 2


@dataclass(frozen=True)
class OverlapExcess:
    """How far the masks of sets of tokens overlap beyond the masks of permuted activations.

    Parameters
    ----------
    perceptual_textual : Interval
        IoU(P, T) minus permuted, mean over data sets.
    textual : Interval or None
        IoU(T, T′) minus permuted, mean over pairs of data sets; None if there is one data set.
    share : Interval or None
        The first divided by the second; None if the interval of the second reaches 0.
    over_magnitude : Interval
        IoU(P, T) minus that of either mask with the mask of the largest weights.
    permutation_error : float
        Standard error of `perceptual_textual` that comes from the number of permutations, by a
        jackknife over them, which is not too small (Efron & Stein 1981).
    """

    perceptual_textual: Interval
    textual: Interval | None
    share: Interval | None
    over_magnitude: Interval
    permutation_error: float

    def explain_missing_share(self) -> str:
        """Say why there is no share of the attainable overlap; empty if there is one.

        Examples
        --------
        >>> one = Interval(0.06, 0.05, 0.07, n=80)
        >>> OverlapExcess(one, None, None, one, 0.0).explain_missing_share()
        'There is one data set, and the attainable overlap needs the texts of two.'
        """
        if self.share is not None:
            return ""
        if self.textual is None:
            return "There is one data set, and the attainable overlap needs the texts of two."
        return (
            "The masks of the texts of two data sets do not surely overlap beyond permuted "
            f"activations, so there is no share of their overlap: {self.textual}."
        )

    def describe_share(self) -> str:
        """Say what share of the attainable overlap percepts and text have.

        Examples
        --------
        >>> one, two = Interval(0.06, 0.05, 0.07, n=80), Interval(0.12, 0.1, 0.14, n=80)
        >>> share = Interval(0.5, 0.4, 0.6, n=80)
        >>> OverlapExcess(one, two, share, one, 0.0).describe_share()
        'Beyond permuted activations, the masks of percepts and text overlap by 0.060, those of \
the texts of two data sets by 0.120: a share of 0.50.'
        """
        if self.textual is None or self.share is None:
            raise ParameterError(self.explain_missing_share())
        return (
            "Beyond permuted activations, the masks of percepts and text overlap by "
            f"{self.perceptual_textual.value:.3f}, those of the texts of two data sets by "
            f"{self.textual.value:.3f}: a share of {self.share.value:.2f}."
        )

    def describe_over_magnitude(self) -> str:
        """Say whether the masks of both kinds agree more than with the mask of the largest weights.

        Examples
        --------
        >>> one, less = Interval(0.06, 0.05, 0.07, n=80), Interval(-0.01, -0.02, -0.01, n=80)
        >>> OverlapExcess(one, None, None, less, 0.0).describe_over_magnitude()
        'The masks of percepts and text overlap less with each other than with the mask of the \
largest weights (difference of IoU -0.010 [-0.020, -0.010], n = 80): the size of the weights \
predicts the mask of one kind better than the mask of the other kind does. This does not \
contradict the claim, because two masks that deviate from the largest weights in different ways \
overlap less with each other than with those.'
        """
        one = self.over_magnitude
        size = f"with the mask of the largest weights (difference of IoU {one})"
        masks = "The masks of percepts and text overlap"
        if one.high < 0:
            return (
                f"{masks} less with each other than {size}: the size of the weights predicts the "
                "mask of one kind better than the mask of the other kind does. This does not "
                "contradict the claim, because two masks that deviate from the largest weights in "
                "different ways overlap less with each other than with those."
            )
        if one.low > 0:
            return f"{masks} more with each other than {size}: their inputs agree on more than |W|."
        return f"{masks} with each other as {size}: no difference is shown."


def describe_overlap(overlap: float, *, permuted: float) -> str:
    """Say how far percepts and text overlap, and how far they would under permuted activations.

    Parameters
    ----------
    overlap : float
        IoU of the weights kept for perceptual and for textual tokens.
    permuted : float
        The same under permuted activations.

    Examples
    --------
    >>> describe_overlap(0.781, permuted=0.724)
    'Of the weights that either mask keeps, percepts and text share a fraction of 0.781, more than \
the 0.724 under permuted activations.'
    """
    order = "more than" if overlap > permuted else "and not more than"
    return (
        "Of the weights that either mask keeps, percepts and text share a fraction of "
        f"{overlap:.3f}, {order} the {permuted:.3f} under permuted activations."
    )


def compute_overlap_excess(
    overlaps: MaskOverlaps,
    *,
    weights: LinearWeights,
    input_norms: InputNormsByTokenSet,
    ids: Mapping[str, Sequence[str]],
    seed: int = 0,
) -> OverlapExcess:
    """Measure F2.1: overlaps minus those of permuted activations, with jackknife intervals.

    Parameters
    ----------
    overlaps : MaskOverlaps
        The overlaps of the same weights and norms; they give the estimates.
    weights, input_norms
        As for :func:`ima.measures.overlap.compute_mask_overlaps`.
    ids : mapping of str to sequence of str
        Contents of each data set's samples, in order. Data sets of the same contents, such as a
        caption and a question about each picture, lack a group together. n counts contents.
    seed : int
        Seed of the permutations.

    Returns
    -------
    OverlapExcess
        The interval of each statistic. Its variance is that of the jackknife over at most
        :data:`JACKKNIFE_GROUPS` groups of each data set's samples, whose masks and permuted masks
        are computed without each group, plus that of the mean over permutations.

    Raises
    ------
    ParameterError
        If a data set has one unit of samples only, or data sets of the same contents have other
        units.

    Examples
    --------
    >>> from ima.hook_points import TOKEN_KINDS
    >>> from ima.measures.overlap import compute_mask_overlaps
    >>> rng = np.random.default_rng(0)
    >>> given = {"weights": {"q": rng.normal(size=(1, 4, 6))}, "input_norms": {
    ...     ("coco", kind): {"q": rng.random((3, 1, 6))} for kind in TOKEN_KINDS}}
    >>> overlaps = compute_mask_overlaps(**given, sparsity=0.5)
    >>> excess = compute_overlap_excess(overlaps, **given, ids={"coco": ["a", "b", "c"]})
    >>> excess.perceptual_textual.n, excess.textual
    (3, None)
    """
    keys = list(overlaps.kept)
    pairs = list_token_set_pairs(keys)
    n = len({content for name, _ in keys for content in ids[name]})
    compared = _ComparedRows(take_rows(weights), sparsity=overlaps.sparsity, seed=seed)
    without = [
        np.array([_compute_statistics(*each, pairs=pairs) for each in stratum])
        for stratum in _leave_out_groups(compared, input_norms, ids=ids)
    ]
    matrix = overlaps.matrix.to_numpy()
    overlap_with_size = np.array([overlaps.over_magnitude])
    permuted = overlaps.permuted
    value = _compute_statistics(matrix, permuted, overlap_with_size, pairs=pairs)
    noise = np.array(
        [
            _compute_statistics(
                matrix, _drop_permutation(permuted, at), overlap_with_size, pairs=pairs
            )
            for at in range(permuted.shape[1])
        ]
    )

    def measure(at: int) -> Interval:
        return compute_jackknife_interval(
            float(value[at]),
            [own[:, at] for own in without],
            n=n,
            noise=compute_jackknife_error(noise[:, at]),
        )

    textual = measure(1) if TWO_TEXTUAL in pairs else None
    return OverlapExcess(
        perceptual_textual=measure(0),
        textual=textual,
        share=measure(2) if textual is not None and textual.low > 0 else None,
        over_magnitude=measure(3),
        permutation_error=compute_jackknife_error(noise[:, 0]),
    )


def _compute_statistics(
    matrix: FloatArray,
    permuted: FloatArray,
    over_magnitude: FloatArray,
    *,
    pairs: Mapping[str, Sequence[tuple[int, int]]],
) -> FloatArray:
    """Return both excesses, their ratio, and the excess over size alone; NaN without a pair."""
    null = permuted.mean(axis=(1, 3))
    same, textual = (
        average_pairs(matrix, pairs[kind]) - average_pairs(null, pairs[kind])
        if kind in pairs
        else np.nan
        for kind in (SAME_DATASET, TWO_TEXTUAL)
    )
    share = same / textual if textual else np.nan
    over_size = average_pairs(matrix, pairs[SAME_DATASET]) - float(over_magnitude.mean())
    return np.array([same, textual, share, over_size])


def _drop_permutation(permuted: FloatArray, at: int) -> FloatArray:
    """Return the overlaps of the other permutations."""
    return np.delete(np.delete(permuted, at, axis=1), at, axis=3)


@dataclass(frozen=True)
class _ComparedRows:
    """The weights that the jackknife compares, and how it masks them."""

    weights: LinearWeights
    sparsity: float
    seed: int

    def mask(self, key: TokenSetKey, squares: Mapping[str, FloatArray]) -> list[PackedMask]:
        """Compute a set's mask and its masks under permutations."""
        masks = [compute_wanda_masks(self.weights, squares, sparsity=self.sparsity)] + [
            permute_set_masks(
                self.weights, squares,
                key=key, number=number, sparsity=self.sparsity, seed=self.seed,
            )
            for number in range(JACKKNIFE_PERMUTATIONS)
        ]  # fmt: skip
        return [pack_mask(flatten_masks(each)) for each in masks]

    def mask_magnitude(self) -> PackedMask:
        """Compute the mask of the largest weights."""
        return pack_mask(
            flatten_masks(compute_magnitude_masks(self.weights, sparsity=self.sparsity))
        )


def _leave_out_groups(
    compared: _ComparedRows, input_norms: InputNormsByTokenSet, *, ids: Mapping[str, Sequence[str]]
) -> Iterator[list[tuple[FloatArray, FloatArray, FloatArray]]]:
    """Yield, by group of data sets of the same contents, the overlaps without each group."""
    squares = sum_over_units(input_norms)
    strata = list(dict.fromkeys(tuple(ids[name]) for name, _ in squares))
    # Where all data sets share their contents, leaving out a group changes every mask.
    shared = len(strata) == 1
    whole = {} if shared else {key: compared.mask(key, own) for key, own in squares.items()}
    magnitude = compared.mask_magnitude()
    for contents in strata:
        keys = [key for key in squares if tuple(ids[key[0]]) == contents]
        units = _count_units(keys, input_norms)
        yield [
            _compare_masks(
                whole
                | {
                    key: compared.mask(
                        key,
                        {
                            name: np.delete(own, group, axis=0).sum(axis=0)
                            for name, own in input_norms[key].items()
                        },
                    )
                    for key in keys
                },
                magnitude,
            )
            for group in np.array_split(np.arange(units), min(units, JACKKNIFE_GROUPS))
        ]


def _count_units(keys: Sequence[TokenSetKey], input_norms: InputNormsByTokenSet) -> int:
    """Return the number of units of samples of sets that show the same contents."""
    counts = {key[0]: len(next(iter(input_norms[key].values()))) for key in keys}
    if len(set(counts.values())) > 1:
        raise ParameterError(
            f"Data sets of the same contents must have the same units of samples; got {counts}. "
            "Make their caches with the same `unit`."
        )
    return next(iter(counts.values()))


def _compare_masks(
    masks: Mapping[TokenSetKey, Sequence[PackedMask]], magnitude: PackedMask
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the overlaps of masks, of permuted masks, and of masks with the largest weights."""
    own = compute_packed_iou([magnitude, *(each[0] for each in masks.values())])
    permuted = compute_packed_iou([mask for each in masks.values() for mask in each[1:]])
    count = len(masks)
    shape = (count, JACKKNIFE_PERMUTATIONS, count, JACKKNIFE_PERMUTATIONS)
    return own[1:, 1:], permuted.reshape(shape), own[0, 1:]
