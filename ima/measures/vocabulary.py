"""Distributions over the vocabulary (F1.5): how far perceptual tokens are from textual ones.

The logit lens gives each state the distribution p of the next word. With its mean over the samples
of data set d, for perceptual tokens (p_d) and textual tokens (t_d), in bits::

    JS(a, b)  = (KL(a ‖ m) + KL(b ‖ m)) / 2 with m = (a + b) / 2, the same in both directions
    JS(P, T)  = mean over d      of JS(p_d, t_d)
    JS(T, T') = mean over d < d' of JS(t_d, t_d')     JS(P, P') the same
    F1.5      = min over layers  of JS(P, T) − JS(T, T')

Functions take logarithms of probabilities, as in ``/logit_lens/log_probability`` of a cache. The
divergence is at most 1 bit, and a word too rare for a float adds nothing to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy.special import logsumexp

from ima.errors import ParameterError
from ima.hook_points import TOKEN_KINDS
from ima.measures.cones import average_terms_by_curve, label_terms
from ima.measures.similarity import check_same_layers
from ima.stats import FloatArray
from ima.stats.intervals import Interval, compute_lowest_point
from ima.stats.resampling import draw_dataset_weights, label_draws

Probabilities = npt.NDArray[np.floating[Any]]
LENS_HINT = "Make caches with a logit lens: ima cache create … --logit-lens 64."


def compute_js_divergence(p: Probabilities, q: Probabilities) -> FloatArray:
    """Compute the Jensen-Shannon divergence of p and q in bits, over the last dim.

    Parameters
    ----------
    p, q : ndarray
        ``(..., vocabulary)``, probabilities of the same dtype.

    Returns
    -------
    ndarray
        ``(...)``, between 0 (p equals q) and 1 (p and q have no word in common).

    Examples
    --------
    >>> p, q = np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.0, 1.0])
    >>> float(compute_js_divergence(p, q)), float(compute_js_divergence(p, p))
    (1.0, 0.0)
    """
    return _compare(p, q, entropies=(_compute_entropy(p), _compute_entropy(q)))


def _compute_entropy(p: Probabilities) -> FloatArray:
    """Compute entropies in bits, over the last dim."""
    # A word of probability 0 adds 0.
    logs = np.log2(np.maximum(p, np.finfo(p.dtype).tiny))
    entropy: FloatArray = -np.einsum("...v,...v->...", p, logs).astype(np.float64)
    return entropy


def _compare(
    p: Probabilities, q: Probabilities, *, entropies: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """Compute the divergence of distributions whose entropies are known."""
    mixed = _compute_entropy((p + q) / 2)
    divergence: FloatArray = np.clip(mixed - (entropies[0] + entropies[1]) / 2, 0.0, 1.0)
    return divergence


def compute_kl_divergence(log_p: FloatArray, log_q: FloatArray) -> FloatArray:
    """Compute the Kullback-Leibler divergence KL(p‖q) in bits, over the last dim.

    Parameters
    ----------
    log_p, log_q : ndarray
        ``(..., vocabulary)``, logarithms of probabilities, broadcast against each other.

    Returns
    -------
    ndarray
        ``(...)``, at least 0; infinite where q lacks a word that p has.

    Examples
    --------
    >>> p, q = np.log([0.5, 0.5]), np.log([0.9, 0.1])
    >>> float(compute_kl_divergence(p, q).round(4)), float(compute_kl_divergence(p, p))
    (0.737, 0.0)
    """
    p = np.exp(log_p.astype(np.float64))
    with np.errstate(invalid="ignore"):
        terms = np.where(p > 0, p * (log_p - log_q), 0.0)
    divergence: FloatArray = np.maximum(terms.sum(axis=-1), 0.0) / np.log(2)
    return divergence


def compute_divergence_terms(
    log_probs: Mapping[str, xr.DataArray], *, resamples: int = 200, seed: int = 0
) -> xr.Dataset:
    """Compute the divergences of F1.5 layer by layer, for every data set and pair of data sets.

    Parameters
    ----------
    log_probs : mapping of str to xarray.DataArray
        ``/logit_lens/log_probability`` of each data set, ``(sample, kind, layer, vocabulary)``. The
        coord ``id`` on ``sample`` identifies contents that data sets share. One layer is read at a
        time.
    resamples : int
        Number of bootstrap resamples of contents.
    seed : int
        Same seed, same draws.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(term, layer)`` and ``draws`` ``(draw, term, layer)`` in bits. Coords on
        ``term``: ``curve`` (a divergence), ``left`` and ``right`` (data sets).
        Draws are centred on the estimate, because divergences of resamples are biased upwards.

    Raises
    ------
    ParameterError
        If no data sets are given, or their layers or vocabularies differ.

    Examples
    --------
    >>> log_probs = xr.DataArray(
    ...     np.log([[[[0.5, 0.5]], [[0.9, 0.1]]]] * 4),
    ...     dims=("sample", "kind", "layer", "vocabulary"),
    ...     coords={"kind": ["perceptual", "textual"], "layer": [0]},
    ... )
    >>> terms = compute_divergence_terms({"caption": log_probs}, resamples=2)
    >>> dict(zip(terms["curve"].values.tolist(), terms["estimate"].values.round(4).tolist()))
    {'JS(P, T)': [0.1468]}
    """
    layers = check_same_layers(log_probs, hint=LENS_HINT)
    weights, _, n = draw_dataset_weights(log_probs, resamples=resamples, seed=seed)
    pairs = list(combinations(log_probs, 2))
    terms = [("JS(P, T)", name, name) for name in log_probs]
    terms += [(f"JS({kind}, {kind}')", *names) for kind in "TP" for names in pairs]
    values = np.empty((1 + resamples, len(terms), layers.size))
    for at in range(layers.size):
        probabilities = {
            (name, kind[0].upper()): np.exp(array.isel(layer=at).sel(kind=kind).to_numpy())
            for name, array in log_probs.items()
            for kind in TOKEN_KINDS
        }
        # The estimate in float64; its resamples, whose spread is far larger, in float32.
        for rows, precision in ((slice(1), np.float64), (slice(1, None), np.float32)):
            means = {
                key: weights[key[0]][rows, :].astype(precision) @ each.astype(precision)
                for key, each in probabilities.items()
            }
            entropies = {key: _compute_entropy(mean) for key, mean in means.items()}
            for number, (curve, left, right) in enumerate(terms):
                # The kinds of the curve: P and T, or one of them twice.
                a, b = (left, curve[3]), (right, curve[6])
                values[rows, number, at] = _compare(
                    means[a], means[b], entropies=(entropies[a], entropies[b])
                )
    # A resample is noisier than its data, which increases every divergence: remove that bias.
    values[1:] += values[0] - values[1:].mean(axis=0)
    coords = {**label_terms(terms), "layer": layers}
    return label_draws(values, ("term", "layer"), coords=coords, n=n)


def compute_text_divergence(
    log_probs: Mapping[str, xr.DataArray], *, paper_compat: bool = False
) -> xr.DataArray:
    """Compute the divergence of perceptual tokens from the text of the same samples.

    Parameters
    ----------
    log_probs : mapping of str to xarray.DataArray
        As for :func:`compute_divergence_terms`.
    paper_compat : bool
        Take KL(p ‖ t), with the perceptual tokens of the first layer at all layers, as the released
        code does, in place of the Jensen-Shannon divergence of the same layer.

    Returns
    -------
    xarray.DataArray
        ``(layer,)``, mean over data sets, in bits.

    Raises
    ------
    ParameterError
        If no data sets are given, or their layers or vocabularies differ.

    Examples
    --------
    >>> log_probs = xr.DataArray(
    ...     np.log([[[[0.5, 0.5]], [[0.9, 0.1]]]] * 4),
    ...     dims=("sample", "kind", "layer", "vocabulary"),
    ...     coords={"kind": ["perceptual", "textual"], "layer": [0]},
    ... )
    >>> compute_text_divergence({"caption": log_probs}, paper_compat=True).values.round(4)
    array([0.737])
    """
    layers = check_same_layers(log_probs, hint=LENS_HINT)
    values = np.zeros(layers.size)
    for array in log_probs.values():
        for at in range(layers.size):
            if at == 0 or not paper_compat:
                p = _average_logs(array.isel(layer=at).sel(kind="perceptual"))
            t = _average_logs(array.isel(layer=at).sel(kind="textual"))
            divergence = (
                compute_kl_divergence(p, t)
                if paper_compat
                else compute_js_divergence(np.exp(p), np.exp(t))
            )
            values[at] += float(divergence) / len(log_probs)
    return xr.DataArray(values, {"layer": layers}, "layer")


def _average_logs(log_p: xr.DataArray) -> FloatArray:
    """Average probabilities over samples; logarithms keep those too small for a float."""
    logs = log_p.to_numpy().astype(np.float64)
    mean: FloatArray = logsumexp(logs, axis=0) - np.log(len(logs))
    return mean


def compute_divergence_margin(terms: xr.Dataset) -> Interval:
    """Measure F1.5 as stated: how much farther percepts are from text than text from other text.

    Parameters
    ----------
    terms : xarray.Dataset
        From :func:`compute_divergence_terms`, of at least two data sets.

    Returns
    -------
    Interval
        Minimum over layers of JS(P, T) minus JS(T, T'), in bits, each averaged over data sets; its
        interval is that of a minimum over layers.

    Raises
    ------
    ParameterError
        If the terms are of one data set.

    Examples
    --------
    >>> terms = xr.Dataset(
    ...     {"estimate": (("term", "layer"), [[0.75], [0.25]])},
    ...     coords={"curve": ("term", ["JS(P, T)", "JS(T, T')"]), "layer": [3]},
    ...     attrs={"samples": 8},
    ... ).assign(draws=lambda d: d["estimate"].expand_dims("draw"))
    >>> print(compute_divergence_margin(terms))
    0.500 [0.500, 0.500], n = 8
    """
    own, texts = _average_compared_terms(terms)
    return compute_lowest_point(own - texts, n=terms.attrs["samples"])


def describe_divergence_gaps(terms: xr.Dataset) -> str:
    """Say at how many layers percepts are farther from text than text from other text.

    Parameters
    ----------
    terms : xarray.Dataset
        As for :func:`compute_divergence_margin`.

    Examples
    --------
    >>> terms = xr.Dataset(
    ...     {"estimate": (("term", "layer"), [[0.75, 0.5], [0.25, 0.6]])},
    ...     coords={"curve": ("term", ["JS(P, T)", "JS(T, T')"]), "layer": [0, 1]},
    ... )
    >>> print(describe_divergence_gaps(terms.assign(draws=terms["estimate"].expand_dims("draw"))))
    Percepts differ more from their text than the texts of two data sets from each other at 1 of \
2 layers; the difference is smallest at layer 1 (0.50 against 0.60 bits).
    """
    own, texts = (each["estimate"] for each in _average_compared_terms(terms))
    gap = own - texts
    layer = int(gap.idxmin())
    return (
        "Percepts differ more from their text than the texts of two data sets from each other at "
        f"{int((gap > 0).sum())} of {gap.size} layers; the difference is smallest at layer {layer} "
        f"({float(own.sel(layer=layer)):.2f} against {float(texts.sel(layer=layer)):.2f} bits)."
    )


def _average_compared_terms(terms: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """Average JS(P, T) over data sets and JS(T, T') over pairs of them."""
    if "JS(T, T')" not in terms["curve"].to_numpy():
        raise ParameterError("One data set has no other texts to compare. Give at least two.")
    mean = average_terms_by_curve(terms)
    own, texts = (mean.sel(curve=name, drop=True) for name in ("JS(P, T)", "JS(T, T')"))
    return own, texts


def compute_mass_from(log_probs: xr.DataArray, *, first: int) -> xr.DataArray:
    """Compute the probability of all tokens from an id on, such as codes beyond the words.

    Parameters
    ----------
    log_probs : xarray.DataArray
        ``(..., vocabulary)``, logarithms of probabilities.
    first : int
        The first id that counts.

    Returns
    -------
    xarray.DataArray
        ``(...)``, between 0 and 1.

    Examples
    --------
    >>> log_probs = xr.DataArray(np.log([[0.5, 0.25, 0.25]]), dims=("sample", "vocabulary"))
    >>> compute_mass_from(log_probs, first=1).values
    array([0.5])
    """
    logs = log_probs.isel(vocabulary=slice(first, None)).astype(np.float64)
    shares = logs.copy(data=np.exp(logs.to_numpy()))
    mass: xr.DataArray = shares.sum("vocabulary", skipna=False)
    return mass.clip(0.0, 1.0)


def tabulate_likeliest_tokens(
    log_probs: Mapping[str, xr.DataArray],
    *,
    titles: Mapping[str, str],
    layers: Sequence[int],
    words: int = 4,
) -> pd.DataFrame:
    """Tabulate the words that are the likeliest ones of most samples.

    A sample's likeliest word is that of its mean over tokens.

    Parameters
    ----------
    log_probs : mapping of str to xarray.DataArray
        ``/logit_lens/log_probability`` of each data set, with the coord ``word``.
    titles : mapping of str to str
        Title of each data set.
    layers : sequence of int
        Labels of the layers.
    words : int
        Number of words to list.

    Returns
    -------
    pandas.DataFrame
        A row per data set and kind, a column per layer: words, each with its ratio of samples.

    Examples
    --------
    >>> log_probs = xr.DataArray(
    ...     np.log([[[[0.1, 0.9]], [[0.8, 0.2]]]]),
    ...     dims=("sample", "kind", "layer", "vocabulary"),
    ...     coords={"kind": ["perceptual", "textual"], "layer": [0]},
    ... ).assign_coords(word=("vocabulary", ["a", "cat"]))
    >>> tabulate_likeliest_tokens({"coco": log_probs}, titles={"coco": "COCO"}, layers=[0])
                      layer 0
    COCO perceptual  cat 1.00
         textual       a 1.00
    """
    rows: dict[tuple[str, str], list[str]] = {}
    for name, array in log_probs.items():
        spelling = array["word"].to_numpy()
        for kind in TOKEN_KINDS:
            cells = rows[titles[name], kind] = []
            for layer in layers:
                likeliest = array.sel(layer=layer, kind=kind).to_numpy().argmax(axis=-1)
                ids, counts = np.unique(likeliest, return_counts=True)
                order = np.argsort(-counts, kind="stable")[:words]
                shown = [
                    f"{str(spelling[ids[i]]).strip() or '(space)'} {counts[i] / len(likeliest):.2f}"
                    for i in order
                ]
                cells.append(", ".join(shown))
    return pd.DataFrame(rows, index=[f"layer {layer}" for layer in layers]).T
