"""Detection (I2): whether alignment separates samples or words with a fault from those without.

For a number x of each sample and a flag, over pairs of a flagged sample i and another sample j::

    AUC = P(x_i > x_j) + P(x_i = x_j) / 2
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy import stats

from ima.errors import ParameterError
from ima.measures.similarity import compute_matched_cosines, normalize_array
from ima.stats import BoolArray, FloatArray
from ima.stats.intervals import Interval


@dataclass(frozen=True)
class Detection:
    """How well a number separates two groups of samples.

    Parameters
    ----------
    difference : Interval
        Mean of the number over flagged samples minus its mean over the others.
    auc : Interval
        Probability that a flagged sample has the larger number, ties counting half; 0.5 is chance.
    p : float
        Two-sided p-value of the Mann-Whitney test.
    flagged : int
        Number of flagged samples.
    """

    difference: Interval
    auc: Interval
    p: float
    flagged: int


def compute_sample_alignment(means: xr.DataArray) -> FloatArray:
    """Compute how similar each sample's perceptual tokens are to its own text.

    Parameters
    ----------
    means : xarray.DataArray
        Mean-pooled tokens ``(sample, kind, layer, hidden)``; one layer is read at a time.

    Returns
    -------
    ndarray
        ``(sample,)``, cosine of the two means, averaged over layers 0 … L-1 as in the IMA score.

    Examples
    --------
    >>> coords = {"kind": ["perceptual", "textual"], "layer": [0, 1]}
    >>> vectors = np.array([[[[1.0, 0.0]] * 2, [[0.6, 0.8]] * 2]])
    >>> means = xr.DataArray(vectors, coords, ("sample", "kind", "layer", "hidden"))
    >>> compute_sample_alignment(means)
    array([0.6])
    """
    rows = np.arange(means.sizes["sample"])
    inner = [means.isel(layer=at) for at in range(means.sizes["layer"] - 1)]
    cosines = [
        compute_matched_cosines(
            layer.sel(kind="perceptual"), layer.sel(kind="textual"), rows_a=rows, rows_b=rows
        )
        for layer in inner
    ]
    mean: FloatArray = np.mean(cosines, axis=0)
    return mean


def compute_auc(values: FloatArray, flags: BoolArray) -> FloatArray:
    """Compute the area under the ROC curve; see :class:`Detection`.

    Parameters
    ----------
    values : ndarray
        ``(..., sample)``.
    flags : ndarray
        ``(..., sample)`` bool.

    Returns
    -------
    ndarray
        ``(...)``; NaN where all samples are flagged or none is.

    Examples
    --------
    >>> flags = np.array([[False, False, True], [False, True, False]])
    >>> compute_auc(np.array([[0.1, 0.2, 0.3]] * 2), flags)
    array([1. , 0.5])
    """
    ranks = stats.rankdata(values, axis=-1)
    flagged = flags.sum(axis=-1)
    above = (ranks * flags).sum(axis=-1) - flagged * (flagged + 1) / 2
    with np.errstate(invalid="ignore"):
        area: FloatArray = above / (flagged * (values.shape[-1] - flagged))
    return area


def evaluate_detection(
    values: FloatArray,
    flags: BoolArray,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Detection:
    """Evaluate how well a number separates flagged samples from the others.

    Parameters
    ----------
    values : ndarray
        ``(sample,)``.
    flags : ndarray
        ``(sample,)`` bool; at least two are set and at least two are not.
    resamples : int
        Number of bootstrap resamples of samples, within each group.
    seed : int
        Same seed, same intervals.

    Raises
    ------
    ParameterError
        If a group has fewer than two samples, or the shapes differ.

    Examples
    --------
    >>> flags = np.array([True, True, False, False])
    >>> result = evaluate_detection(np.array([0.75, 1.0, 0.0, 0.25]), flags, resamples=10)
    >>> result.difference.value, result.auc.value, result.flagged
    (0.75, 1.0, 2)
    """
    if values.shape != flags.shape:
        raise ParameterError(
            f"Each number needs one flag; got {flags.shape} flags for {values.shape} numbers."
        )
    groups = [np.flatnonzero(flags), np.flatnonzero(~flags)]
    if min(map(len, groups)) < 2:
        raise ParameterError(
            f"Both groups need at least 2 samples; got {len(groups[0])} flagged and "
            f"{len(groups[1])} others."
        )
    rng = np.random.default_rng(seed)
    drawn = [
        np.concatenate([group[rng.integers(len(group), size=len(group))] for group in groups])
        for _ in range(resamples)
    ]
    resampled, count = values[np.array(drawn)], len(groups[0])
    differences = resampled[:, :count].mean(axis=1) - resampled[:, count:].mean(axis=1)
    first = np.broadcast_to(np.arange(len(values)) < count, resampled.shape)
    areas = compute_auc(resampled, first)
    n = len(values)
    difference = float(values[flags].mean() - values[~flags].mean())
    test = stats.mannwhitneyu(values[flags], values[~flags], alternative="two-sided")
    return Detection(
        Interval.of_draws(difference, differences, n=n),
        Interval.of_draws(float(compute_auc(values, flags)), areas, n=n),
        float(test.pvalue),
        len(groups[0]),
    )


def compute_object_auc(
    perceptual_tokens: xr.DataArray,
    words: xr.DataArray,
    present: BoolArray,
    *,
    resamples: int = 500,
    seed: int = 0,
) -> xr.Dataset:
    """Compute how well perceptual tokens separate the words of objects in a sample from others.

    Parameters
    ----------
    perceptual_tokens : xarray.DataArray
        Mean-pooled perceptual tokens ``(sample, layer, hidden)``.
    words : xarray.DataArray
        States of words that the language model reads in text alone, ``(word, layer, hidden)``.
    present : ndarray
        ``(sample, word)`` bool, the objects that each sample shows.
    resamples : int
        Number of bootstrap resamples of samples.
    seed : int
        Same seed, same intervals.

    Returns
    -------
    xarray.Dataset
        ``estimate``, ``low`` and ``high`` (95 %) ``(layer,)``: the area under the ROC curve over
        samples for each word, averaged over words, so that a word that is similar to everything
        counts no more than others; 0.5 is chance. Attributes ``samples`` and ``words``.

    Raises
    ------
    ParameterError
        If the shapes do not fit, or every object is in all samples or in none.

    Examples
    --------
    >>> states = xr.DataArray(np.eye(2)[:, None], {"layer": [0]}, ("sample", "layer", "hidden"))
    >>> present = np.eye(2, dtype=bool)
    >>> words = states.rename(sample="word")
    >>> compute_object_auc(states, words, present, resamples=10)["estimate"].values
    array([1.])
    """
    samples, count = present.shape
    if (samples, count) != (perceptual_tokens.sizes["sample"], words.sizes["word"]):
        raise ParameterError(
            f"Each sample and word needs one flag; got {present.shape} for "
            f"{perceptual_tokens.sizes['sample']} samples and {words.sizes['word']} words."
        )
    rng = np.random.default_rng(seed)
    resampled = rng.integers(samples, size=(resamples, samples))
    draws = np.concatenate([np.arange(samples)[None], resampled])
    layers = perceptual_tokens["layer"].to_numpy()
    areas = np.empty((len(draws), len(layers)))
    for at in range(len(layers)):
        cosines = (
            normalize_array(perceptual_tokens.isel(layer=at).to_numpy())
            @ normalize_array(words.isel(layer=at).to_numpy()).T
        )
        for number, rows in enumerate(draws):
            drawn = present[rows]
            separable = drawn.any(axis=0) & ~drawn.all(axis=0)
            of_words = compute_auc(cosines[rows].T[separable], drawn.T[separable])
            areas[number, at] = of_words.mean() if separable.any() else np.nan
    if np.isnan(areas[0]).any():
        raise ParameterError(
            "Every object is in all samples or in none: there is nothing to separate."
        )
    low, high = np.nanquantile(areas[1:], [0.025, 0.975], axis=0)
    return xr.Dataset(
        {"estimate": ("layer", areas[0]), "low": ("layer", low), "high": ("layer", high)},
        coords={"layer": layers},
        attrs={"samples": samples, "words": count},
    )
