"""Detection (I2): whether alignment tells, by sample or by word, what is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import stats

from ima.errors import ParameterError
from ima.measures.similarity import FloatArray, compute_matched_cosines, normalize_array
from ima.stats.intervals import Interval

FlagArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Detection:
    """How well a number tells two groups of samples apart.

    Parameters
    ----------
    difference : Interval
        Mean of the number where the flag is set less where it is not.
    auc : Interval
        Probability that a sample with the flag has the larger number than one without, ties
        counting half; 0.5 tells nothing.
    p : float
        Two-sided, of the Mann-Whitney test.
    flagged : int
        Samples with the flag.
    """

    difference: Interval
    auc: Interval
    p: float
    flagged: int


def compute_sample_alignment(means: xr.DataArray) -> FloatArray:
    """Return how similar each sample's percepts are to its own text.

    Parameters
    ----------
    means : xarray.DataArray
        Mean-pooled tokens ``(sample, kind, layer, hidden)``; a layer at a time is read.

    Returns
    -------
    ndarray
        ``(sample,)``: cosine of the two means, averaged over layers 0 … L-1 as in the IMA score.
    """
    rows = np.arange(means.sizes["sample"])
    inner = [means.isel(layer=at) for at in range(means.sizes["layer"] - 1)]
    cosines = [
        compute_matched_cosines(
            layer.sel(kind="perceptual"), layer.sel(kind="textual"), rows_a=rows, rows_b=rows
        )
        for layer in inner
    ]
    found: FloatArray = np.mean(cosines, axis=0)
    return found


def compute_auc(values: FloatArray, flags: FlagArray) -> float:
    """Return the area under the ROC curve; see :class:`Detection`.

    Examples
    --------
    >>> auc(np.array([0.1, 0.2, 0.3]), np.array([False, False, True]))
    1.0
    """
    ranks = stats.rankdata(values)
    inside = int(flags.sum())
    above = ranks[flags].sum() - inside * (inside + 1) / 2
    return float(above / (inside * (len(values) - inside)))


def evaluate_detection(
    values: FloatArray,
    flags: FlagArray,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Detection:
    """Ask whether a number tells flagged samples from the others.

    Parameters
    ----------
    values : ndarray
        ``(sample,)``.
    flags : ndarray
        ``(sample,)`` bool; at least two are set and two are not.
    resamples : int
        Bootstrap resamples of samples, within each group.
    seed : int
        Same seed, same intervals.
    level : float
        Coverage of the percentile intervals.

    Raises
    ------
    ParameterError
        If a group has fewer than two samples, or the shapes differ.
    """
    if values.shape != flags.shape:
        message = f"One flag a number is needed; got {flags.shape} and {values.shape}."
        raise ParameterError(message)
    groups = [np.flatnonzero(flags), np.flatnonzero(~flags)]
    if min(map(len, groups)) < 2:
        message = (
            f"Both groups need at least 2 samples; got {len(groups[0])} flagged and "
            f"{len(groups[1])} others."
        )
        raise ParameterError(message)
    rng = np.random.default_rng(seed)
    differences, areas = np.empty(resamples), np.empty(resamples)
    for at in range(resamples):
        drawn = [rows[rng.integers(len(rows), size=len(rows))] for rows in groups]
        differences[at] = values[drawn[0]].mean() - values[drawn[1]].mean()
        both = np.concatenate(drawn)
        areas[at] = compute_auc(values[both], np.arange(len(both)) < len(drawn[0]))
    n = len(values)
    gap = float(values[flags].mean() - values[~flags].mean())
    test = stats.mannwhitneyu(values[flags], values[~flags], alternative="two-sided")
    return Detection(
        Interval.of_draws(gap, differences, n=n, level=level),
        Interval.of_draws(compute_auc(values, flags), areas, n=n, level=level),
        float(test.pvalue),
        len(groups[0]),
    )


def compute_object_auc(
    percepts: xr.DataArray,
    words: xr.DataArray,
    there: FlagArray,
    *,
    resamples: int = 500,
    seed: int = 0,
) -> xr.Dataset:
    """Ask whether percepts are more similar to the words of what is there than to other words.

    Parameters
    ----------
    percepts : xarray.DataArray
        Mean-pooled perceptual tokens ``(sample, layer, hidden)``.
    words : xarray.DataArray
        States of words that the language model reads in text alone, ``(word, layer, hidden)``.
    there : ndarray
        ``(sample, word)`` bool: which of them each sample shows.
    resamples : int
        Bootstrap resamples of samples.
    seed : int
        Same seed, same intervals.

    Returns
    -------
    xarray.Dataset
        ``estimate``, ``low`` and ``high`` (95 %) ``(layer,)``: the area under the ROC curve over
        samples for each word, averaged over words, so that a word that is similar to everything
        counts no more than others; 0.5 says nothing. Attributes ``samples`` and ``words``.

    Raises
    ------
    ParameterError
        If the shapes do not fit, or no word is there in some samples and not in others.
    """
    samples, count = there.shape
    if (samples, count) != (percepts.sizes["sample"], words.sizes["word"]):
        message = (
            f"One flag a sample and word is needed; got {there.shape} for "
            f"{percepts.sizes['sample']} samples and {words.sizes['word']} words."
        )
        raise ParameterError(message)
    rng = np.random.default_rng(seed)
    drawn = np.concatenate(
        [np.arange(samples)[None], rng.integers(samples, size=(resamples, samples))]
    )
    layers = percepts["layer"].to_numpy()
    found = np.empty((len(drawn), len(layers)))
    for at in range(len(layers)):
        cosines = (
            normalize_array(percepts.isel(layer=at).to_numpy())
            @ normalize_array(words.isel(layer=at).to_numpy()).T
        )
        for number, rows in enumerate(drawn):
            found[number, at] = _mean_auc(cosines[rows], there[rows])
    if np.isnan(found[0]).any():
        message = "No word is there in some samples and absent in others: nothing to tell apart."
        raise ParameterError(message)
    low, high = np.nanquantile(found[1:], [0.025, 0.975], axis=0)
    return xr.Dataset(
        {name: ("layer", values) for name, values in
         (("estimate", found[0]), ("low", low), ("high", high))},
        coords={"layer": layers},
        attrs={"samples": samples, "words": count},
    )  # fmt: skip


def _mean_auc(cosines: FloatArray, there: FlagArray) -> float:
    areas = [
        compute_auc(cosines[:, word], there[:, word])
        for word in range(there.shape[1])
        if 0 < there[:, word].sum() < len(there)
    ]
    return float(np.mean(areas)) if areas else float("nan")
