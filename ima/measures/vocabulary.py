"""What tokens say of the next word (F1.5): divergences between distributions over the vocabulary.

All take logarithms of probabilities, as ``/logit_lens/log_probability`` of a cache holds them: a
probability too small for float32 is still a number there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from ima.errors import ParameterError
from ima.measures import cones
from ima.measures.similarity import FloatArray
from ima.stats.contents import draw_dataset_weights
from ima.stats.intervals import Interval, compute_minimum_interval, compute_simultaneous_band
from ima.stats.resampling import BootstrapWeights

#: Divergences between the mean distributions of two sets of tokens: perceptual from textual ones of
#: a data set, textual ones of two data sets, perceptual ones of two data sets, and textual ones of
#: two halves of a data set, which is what chance gives.
DIVERGENCE_CURVES = ("KL(P‖T)", "KL(T‖T')", "KL(P‖P')", "KL(T halves)")


def compute_kl_divergence(log_p: FloatArray, log_q: FloatArray) -> FloatArray:
    """Return the Kullback-Leibler divergence KL(p‖q) in nats, over the last dim.

    Parameters
    ----------
    log_p, log_q : ndarray
        ``(..., vocabulary)``: logarithms of probabilities, broadcast against each other.

    Returns
    -------
    ndarray
        ``(...)``, at least 0; infinite where q lacks a word that p has.

    Examples
    --------
    >>> p, q = np.log([0.5, 0.5]), np.log([0.9, 0.1])
    >>> float(divergence(p, q).round(4)), float(divergence(p, p))
    (0.5108, 0.0)
    """
    p = np.exp(log_p.astype(np.float64))
    with np.errstate(invalid="ignore"):
        terms = np.where(p > 0, p * (log_p - log_q), 0.0)
    found: FloatArray = np.maximum(terms.sum(axis=-1), 0.0)
    return found


def compute_entropy(log_p: FloatArray) -> FloatArray:
    """Return the entropy in nats, over the last dim.

    Parameters
    ----------
    log_p : ndarray
        ``(..., vocabulary)``.

    Returns
    -------
    ndarray
        ``(...)``, between 0 and the logarithm of the number of words.
    """
    p = np.exp(log_p.astype(np.float64))
    with np.errstate(invalid="ignore"):
        found: FloatArray = -np.where(p > 0, p * log_p, 0.0).sum(axis=-1)
    return found


def average_distributions(log_p: FloatArray, weights: FloatArray | BootstrapWeights) -> FloatArray:
    """Average distributions over samples, as probabilities.

    Parameters
    ----------
    log_p : ndarray
        ``(sample, vocabulary)``.
    weights : ndarray or Weights
        ``(draw, sample)``, rows sum to one.

    Returns
    -------
    ndarray
        ``(draw, vocabulary)``: logarithms of the mean probabilities.
    """
    wide = log_p.astype(np.float64)
    # The likeliest sample's probability of each word is taken out: nothing then underflows in it.
    largest = wide.max(axis=0)
    with np.errstate(divide="ignore"):
        found: FloatArray = np.log(weights @ np.exp(wide - largest)) + largest
    return found


def compute_divergence_terms(
    said: Mapping[str, xr.DataArray],
    *,
    resamples: int = 200,
    seed: int = 0,
    paper_compat: bool = False,
) -> xr.Dataset:
    """Compute the divergences of F1.5 layer by layer, for every data set and pair of data sets.

    Parameters
    ----------
    said : mapping of str to xarray.DataArray
        ``/logit_lens/log_probability`` of each data set, ``(sample, kind, layer, vocabulary)``; a coord
        ``id`` on ``sample`` tells which data sets show the same contents. Only one layer at a time
        is read.
    resamples : int
        Number of bootstrap resamples of contents.
    seed : int
        Same seed, same draws.
    paper_compat : bool
        Perceptual tokens of the first layer at all layers, as in the released code (paper.md §5).

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(term, layer)`` and ``draws`` ``(draw, term, layer)`` in nats; on ``term``
        the coords ``curve`` (of :data:`DIVERGENCE_CURVES`), ``left`` and ``right``. Divergences between two
        data sets are averaged over both directions. Draws are centred on the estimate: divergences
        of resamples are biased upwards.

    Raises
    ------
    ParameterError
        If no data sets are given, or their layers or vocabularies differ.
    """
    layers = _layers(said)
    weights, _, n = draw_dataset_weights(said, resamples=resamples, seed=seed)
    pairs = list(combinations(said, 2))
    terms = [("KL(P‖T)", name, name) for name in said]
    terms += [("KL(T‖T')", *names) for names in pairs] + [("KL(P‖P')", *names) for names in pairs]
    terms += [("KL(T halves)", name, name) for name in said]
    split = {
        name: np.random.default_rng((seed, at)).permutation(array.sizes["sample"])
        for at, (name, array) in enumerate(said.items())
    }
    out = np.empty((1 + resamples, len(terms), layers.size))
    for at in range(layers.size):
        mean = {
            (name, kind[0].upper()): average_distributions(
                array.isel(layer=0 if paper_compat and kind == "perceptual" else at)
                .sel(kind=kind)
                .to_numpy(),
                weights[name],
            )
            for name, array in said.items()
            for kind in ("perceptual", "textual")
        }
        for number, (curve, left, right) in enumerate(terms):
            if curve == "KL(T halves)":
                array = said[left].isel(layer=at).sel(kind="textual").to_numpy()
                out[:, number, at] = _halves(array, weights[left], order=split[left])
                continue
            a, b = mean[left, curve[3]], mean[right, curve[5]]
            out[:, number, at] = compute_kl_divergence(a, b) if left == right else _both_ways(a, b)
    # A resample is noisier than its data, which lengthens every divergence: take that bias away.
    out[1:] += out[0] - out[1:].mean(axis=0)
    coords = {
        name: ("term", [term[i] for term in terms])
        for i, name in enumerate(("curve", "left", "right"))
    }
    return xr.Dataset(
        {"estimate": (("term", "layer"), out[0]), "draws": (("draw", "term", "layer"), out[1:])},
        coords={**coords, "layer": layers},
        attrs={"samples": n, "resamples": resamples, "seed": seed},
    )


def average_divergence_terms(found: xr.Dataset) -> xr.Dataset:
    """Average each sort of divergence over data sets or pairs of them.

    Parameters
    ----------
    found : xarray.Dataset
        From :func:`compute_divergence_terms`.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(curve, layer)`` and ``draws`` ``(draw, curve, layer)``.
    """
    return cones.average_terms_by_curve(found, names=DIVERGENCE_CURVES)


def compute_divergence_margin(found: xr.Dataset, *, level: float = 0.95) -> Interval:
    """Measure F1.5: how much farther perceptual tokens are from textual ones than chance.

    Parameters
    ----------
    found : xarray.Dataset
        From :func:`compute_divergence_terms`.
    level : float
        Coverage, simultaneous over layers.

    Returns
    -------
    Interval
        Minimum over layers of KL(P‖T) minus KL between two halves of T, in nats, each averaged over
        data sets.
    """
    mean = average_divergence_terms(found)[["estimate", "draws"]]
    gap = mean.sel(curve=DIVERGENCE_CURVES[0], drop=True) - mean.sel(
        curve=DIVERGENCE_CURVES[3], drop=True
    )
    low, high = compute_simultaneous_band(gap["draws"], level=level)
    return compute_minimum_interval(
        gap["estimate"], low=low, high=high, n=int(found.attrs["samples"])
    )


def _both_ways(a: FloatArray, b: FloatArray) -> FloatArray:
    return (compute_kl_divergence(a, b) + compute_kl_divergence(b, a)) / 2


def _halves(
    log_p: FloatArray, weights: BootstrapWeights, *, order: npt.NDArray[np.int64]
) -> FloatArray:
    """Return the divergence of two halves of the samples, each with its share of the weights."""
    sides = []
    for rows in np.array_split(order, 2):
        own = weights[:, rows]
        total = own.sum(axis=1, keepdims=True)
        # A resample without any sample of a half takes the half as it is.
        own = np.where(total > 0, own / np.where(total > 0, total, 1), 1 / len(rows))
        sides.append(average_distributions(log_p[rows], own))
    return _both_ways(*sides)


def find_likeliest_tokens(said: xr.DataArray, *, kind: str, words: int = 5) -> xr.Dataset:
    """Find the words that are the likeliest ones of most samples, layer by layer.

    Parameters
    ----------
    said : xarray.DataArray
        ``/logit_lens/log_probability``, ``(sample, kind, layer, vocabulary)``.
    kind : {"perceptual", "textual"}
        Which tokens.
    words : int
        How many words to name.

    Returns
    -------
    xarray.Dataset
        ``token_id`` and ``share`` ``(layer, rank)``: the share of samples whose likeliest word,
        averaged over the sample's tokens, it is. Ids are -1 where there are fewer words.
    """
    n, layers = said.sizes["sample"], said["layer"]
    ids = np.full((layers.size, words), -1)
    share = np.zeros((layers.size, words))
    for at in range(layers.size):
        best = said.isel(layer=at).sel(kind=kind).to_numpy().argmax(axis=-1)
        found, counts = np.unique(best, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:words]
        ids[at, : len(order)] = found[order]
        share[at, : len(order)] = counts[order] / n
    return xr.Dataset(
        {"token_id": (("layer", "rank"), ids), "share": (("layer", "rank"), share)},
        coords={"layer": layers, "rank": np.arange(1, words + 1)},
    )


def tabulate_likeliest_tokens(
    said: Mapping[str, xr.DataArray],
    *,
    titles: Mapping[str, str],
    layers: Sequence[int],
    words: int = 4,
) -> pd.DataFrame:
    """Name the words that are the likeliest ones of most samples.

    Parameters
    ----------
    said : mapping of str to xarray.DataArray
        ``/logit_lens/log_probability`` of each data set, with the coord ``word``.
    titles : mapping of str to str
        A title of each data set.
    layers : sequence of int
        Which layers.
    words : int
        How many words to name.

    Returns
    -------
    pandas.DataFrame
        A row per data set and kind, a column per layer: words, each with the share of samples.
    """
    rows = {}
    for name, array in said.items():
        spelled = array["word"].to_numpy()
        for kind in ("perceptual", "textual"):
            best = find_likeliest_tokens(array.sel(layer=list(layers)), kind=kind, words=words)
            rows[titles[name], kind] = [
                ", ".join(
                    f"{str(spelled[token]).strip() or '(space)'} {share:.2f}"
                    for token, share in zip(ids, shares, strict=True)
                    if token >= 0
                )
                for ids, shares in zip(
                    best["token_id"].to_numpy(), best["share"].to_numpy(), strict=True
                )
            ]
    return pd.DataFrame(rows, index=[f"layer {layer}" for layer in layers]).T


def _layers(said: Mapping[str, xr.DataArray]) -> xr.DataArray:
    if not said:
        message = "No data sets with a lens given. Make caches with it: ima cache create … --logit-lens 64."
        raise ParameterError(message)
    first, *rest = said.values()
    for array in rest:
        same = array["layer"].equals(first["layer"])
        if not same or array.sizes["vocabulary"] != first.sizes["vocabulary"]:
            found = {name: dict(array.sizes) for name, array in said.items()}
            message = f"The data sets are not of one language model: {found}."
            raise ParameterError(message)
    return first["layer"]
