"""Distributions over the vocabulary (F1.5): how far perceptual tokens are from textual ones.

The logit lens gives each state the distribution p of the next word. With its mean over the samples
of data set d, for perceptual tokens (p_d) and textual tokens (t_d), in nats::

    KL(a, b)     = (KL(a ‖ b) + KL(b ‖ a)) / 2, the same in both directions
    KL(P, T)     = mean over d      of KL(p_d, t_d)
    KL(T, T')    = mean over d < d' of KL(t_d, t_d')     KL(P, P') the same
    KL(T halves) = mean over d      of the same for two halves of d, which is what chance gives
    F1.5         = min over layers  of KL(P, T) − KL(T halves)

All functions take logarithms of probabilities, as in ``/logit_lens/log_probability`` of a cache,
because probabilities may be too small for float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from ima.hook_points import TOKEN_KINDS
from ima.measures.cones import average_terms_by_curve, label_terms
from ima.measures.similarity import check_same_layers
from ima.stats import FloatArray, RowIndices
from ima.stats.intervals import Interval, compute_lowest_point
from ima.stats.resampling import draw_dataset_weights, label_draws

#: Least share of a word's largest probability that float32 averages, far above its smallest number.
_LEAST_SHARE = 1e-30


def compute_kl_divergence(log_p: FloatArray, log_q: FloatArray) -> FloatArray:
    """Compute the Kullback-Leibler divergence KL(p‖q) in nats, over the last dim.

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
    (0.5108, 0.0)
    """
    p = np.exp(log_p.astype(np.float64))
    with np.errstate(invalid="ignore"):
        terms = np.where(p > 0, p * (log_p - log_q), 0.0)
    divergence: FloatArray = np.maximum(terms.sum(axis=-1), 0.0)
    return divergence


@dataclass(frozen=True)
class MeanDistributions:
    """Mean distributions of some draws of samples.

    Parameters
    ----------
    p : ndarray
        ``(draw, vocabulary)``, probabilities.
    log_p : ndarray
        ``(draw, vocabulary)``, their logarithms.
    """

    p: npt.NDArray[np.floating[Any]]
    log_p: npt.NDArray[np.floating[Any]]


class SampleDistributions:
    """Distributions of samples, prepared to be averaged over many draws of them.

    Parameters
    ----------
    log_p : ndarray
        ``(sample, vocabulary)``, logarithms of probabilities.

    Examples
    --------
    >>> samples = SampleDistributions(np.log([[0.5, 0.5], [0.9, 0.1]]))
    >>> samples.average(np.array([[0.5, 0.5]])).p.round(2)
    array([[0.7, 0.3]])
    """

    def __init__(self, log_p: FloatArray) -> None:
        wide = log_p.astype(np.float64)
        # Factor out each word's largest probability, so that its exponential does not underflow.
        self.largest = wide.max(axis=0)
        self.shares = np.exp(wide - self.largest)

    def average(
        self,
        weights: FloatArray,
        *,
        rows: RowIndices | None = None,
        precision: type[np.floating[Any]] = np.float64,
    ) -> MeanDistributions:
        """Average over samples.

        Parameters
        ----------
        weights : ndarray
            ``(draw, sample)``; rows sum to one.
        rows : ndarray or None
            Indices of the samples that the weights are for; None: all.
        precision : type
            numpy.float32 is ten times as fast. Where it would lose words that some samples have,
            float64 is used.
        """
        shares = self.shares if rows is None else self.shares[rows]
        mean = weights.astype(precision) @ shares.astype(precision)
        if precision != np.float64 and mean.min() < _LEAST_SHARE:
            return self.average(weights, rows=rows)
        largest = self.largest.astype(precision)
        with np.errstate(divide="ignore"):
            return MeanDistributions(mean * np.exp(largest), np.log(mean) + largest)


def _compute_kl(a: MeanDistributions, b: MeanDistributions) -> FloatArray:
    with np.errstate(invalid="ignore"):
        divergence = (a.p * (a.log_p - b.log_p)).sum(axis=-1)
    if not np.isfinite(divergence).all():
        return compute_kl_divergence(a.log_p.astype(np.float64), b.log_p.astype(np.float64))
    kl: FloatArray = np.maximum(divergence, 0.0).astype(np.float64)
    return kl


def _symmetrize_kl(a: MeanDistributions, b: MeanDistributions) -> FloatArray:
    with np.errstate(invalid="ignore"):
        divergence = ((a.p - b.p) * (a.log_p - b.log_p)).sum(axis=-1) / 2
    if not np.isfinite(divergence).all():
        return (_compute_kl(a, b) + _compute_kl(b, a)) / 2
    kl: FloatArray = np.maximum(divergence, 0.0).astype(np.float64)
    return kl


def compute_divergence_terms(
    log_probs: Mapping[str, xr.DataArray],
    *,
    resamples: int = 200,
    seed: int = 0,
    paper_compat: bool = False,
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
    paper_compat : bool
        Take KL(p ‖ t) alone, with the perceptual tokens of the first layer at all layers, as the
        released code does.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(term, layer)`` and ``draws`` ``(draw, term, layer)`` in nats. Coords on
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
    {'KL(P, T)': [0.4394], 'KL(T halves)': [0.0]}
    """
    hint = "Make caches with a logit lens: ima cache create … --logit-lens 64."
    layers = check_same_layers(log_probs, hint=hint)
    weights, _, n = draw_dataset_weights(log_probs, resamples=resamples, seed=seed)
    pairs = list(combinations(log_probs, 2))
    terms = [("KL(P, T)", name, name) for name in log_probs]
    terms += [("KL(T, T')", *names) for names in pairs] + [("KL(P, P')", *names) for names in pairs]
    terms += [("KL(T halves)", name, name) for name in log_probs]
    orders = {
        name: np.random.default_rng((seed, at)).permutation(array.sizes["sample"])
        for at, (name, array) in enumerate(log_probs.items())
    }
    values = np.empty((1 + resamples, len(terms), layers.size))
    for at in range(layers.size):
        own = {
            (name, kind[0].upper()): SampleDistributions(
                array.isel(layer=0 if paper_compat and kind == "perceptual" else at)
                .sel(kind=kind)
                .to_numpy()
            )
            for name, array in log_probs.items()
            for kind in TOKEN_KINDS
        }
        # The estimate in float64; its resamples, whose spread is far larger, in float32.
        for draws, precision in ((slice(1), np.float64), (slice(1, None), np.float32)):
            drawn = {name: every[draws, :] for name, every in weights.items()}
            means = {
                key: each.average(drawn[key[0]], precision=precision) for key, each in own.items()
            }
            for number, (curve, left, right) in enumerate(terms):
                if curve == "KL(T halves)":
                    divergence = _compare_halves(
                        own[left, "T"], drawn[left], order=orders[left], precision=precision
                    )
                elif left == right:
                    compare = _compute_kl if paper_compat else _symmetrize_kl
                    divergence = compare(means[left, "P"], means[left, "T"])
                else:
                    divergence = _symmetrize_kl(means[left, curve[3]], means[right, curve[3]])
                values[draws, number, at] = divergence
    # A resample is noisier than its data, which increases every divergence: remove that bias.
    values[1:] += values[0] - values[1:].mean(axis=0)
    coords = {**label_terms(terms), "layer": layers}
    return label_draws(values, ("term", "layer"), coords=coords, n=n)


def _compare_halves(
    samples: SampleDistributions,
    weights: FloatArray,
    *,
    order: RowIndices,
    precision: type[np.floating[Any]],
) -> FloatArray:
    """Compute the divergence between two halves of the samples, each with its own weights."""
    halves = []
    for rows in np.array_split(order, 2):
        own = weights[:, rows]
        total = own.sum(axis=1, keepdims=True)
        # A resample without any sample of a half takes each sample of the half once.
        own = np.where(total > 0, own / np.where(total > 0, total, 1), 1 / len(rows))
        halves.append(samples.average(own, rows=rows, precision=precision))
    return _symmetrize_kl(*halves)


def compute_divergence_margin(terms: xr.Dataset) -> Interval:
    """Measure F1.5: how much farther perceptual tokens are from textual ones than chance.

    Parameters
    ----------
    terms : xarray.Dataset
        From :func:`compute_divergence_terms`.

    Returns
    -------
    Interval
        Minimum over layers of KL(P, T) minus KL(T halves), in nats, each averaged over data sets;
        its interval is simultaneous over layers.

    Examples
    --------
    >>> terms = xr.Dataset(
    ...     {"estimate": (("term", "layer"), [[0.75], [0.25]])},
    ...     coords={"curve": ("term", ["KL(P, T)", "KL(T halves)"])},
    ...     attrs={"samples": 8},
    ... ).assign(draws=lambda d: d["estimate"].expand_dims("draw"))
    >>> print(compute_divergence_margin(terms))
    0.500 [0.500, 0.500], n = 8
    """
    mean = average_terms_by_curve(terms)
    gap = mean.sel(curve="KL(P, T)", drop=True) - mean.sel(curve="KL(T halves)", drop=True)
    return compute_lowest_point(gap, n=terms.attrs["samples"])


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
