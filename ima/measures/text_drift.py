"""How far a tuned language model has drifted from the frozen one on text: states and weights.

Both models read the same tokens, so that every state has its counterpart. Cosines of raw states
are ruled by sinks and rogue dimensions (:mod:`ima.measures.treatments`); the treatments apply to
the mean state of each text, with the two models in place of the two kinds of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import xarray as xr

from ima.measures.overlap import compute_layer_iou, permute_set_masks, take_rows
from ima.measures.subnetworks import LinearWeights, ModelMasks, compute_wanda_masks
from ima.measures.treatments import treat_means_in_all_ways
from ima.stats import FloatArray
from ima.stats.resampling import draw_bootstrap_weights

#: Overlaps of the weights that two models activate, and what they are compared with.
TWO_MODELS, PERMUTED, TWO_HALVES = "two models", "permuted activations", "halves of the texts"


def compute_treated_drift(drift: xr.Dataset) -> xr.DataArray:
    """Compute the cosine between the mean states of two models under each treatment.

    Parameters
    ----------
    drift : xarray.Dataset
        From :func:`ima.capture.text_states.capture_text_drift`.

    Returns
    -------
    xarray.DataArray
        ``(treatment, text, layer)``; 1 where the two models agree.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> dims = ("sample", "kind", "layer", "hidden")
    >>> one = rng.normal(size=(4, 1, 2, 8)).repeat(2, axis=1)
    >>> same = xr.Dataset({"mean": (dims, one), "mean_without": (dims, one),
    ...     "sum_squares_without": (("unit", *dims[1:]), (one**2).sum(0, keepdims=True))})
    >>> bool(np.allclose(compute_treated_drift(same), 1))
    True
    """
    treated = treat_means_in_all_ways(
        drift["mean"],
        without_sinks=drift["mean_without"],
        sum_squares=drift["sum_squares_without"],
    )
    cosines = {}
    for name, means in treated.items():
        before, after = means.isel(kind=0, drop=True), means.isel(kind=1, drop=True)
        norms = [np.sqrt((own**2).sum("hidden")) for own in (before, after)]
        cosine = (before * after).sum("hidden") / (norms[0] * norms[1])
        cosines[name] = cosine.rename(sample="text")
    return xr.concat(list(cosines.values()), dim="treatment").assign_coords(treatment=list(cosines))


def bound_text_curve(values: xr.DataArray, *, resamples: int = 500, seed: int = 0) -> xr.Dataset:
    """Compute the mean of a curve over texts, and its draws over resampled texts.

    Parameters
    ----------
    values : xarray.DataArray
        ``(text, layer)``, or with further dims such as ``treatment``.
    resamples : int
        Bootstrap resamples of texts.
    seed : int
        Same seed, same draws.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(layer)`` and ``draws`` ``(draw, layer)``, with the further dims.

    Examples
    --------
    >>> curve = xr.DataArray([[0.0, 1.0], [0.0, 3.0]], dims=("text", "layer"))
    >>> bound_text_curve(curve, resamples=10)["estimate"].values
    array([0., 2.])
    """
    weights = draw_bootstrap_weights(values.sizes["text"], resamples=resamples, seed=seed)
    draws = weights.rename(sample="text").dot(values, dim="text")
    return xr.Dataset({"estimate": values.mean("text"), "draws": draws})


def compare_activated_weights(
    models: Mapping[str, tuple[LinearWeights, Mapping[str, FloatArray]]],
    *,
    halves: tuple[Mapping[str, FloatArray], Mapping[str, FloatArray]],
    sparsity: float,
    permutations: int = 8,
    seed: int = 0,
) -> xr.DataArray:
    """Compute how far the weights overlap that two models activate on the same texts.

    Parameters
    ----------
    models : mapping of str to (mapping, mapping)
        Two models, the frozen one first: by linear layer, weights ``(layer, out_features,
        in_features)`` and squared input norms ``(layer, in_features)``.
    halves : (mapping, mapping)
        Squared input norms of the first model on each half of the texts.
    sparsity : float
        Ratio of each row's weights that Wanda removes.
    permutations : int
        Permutations of activations, independent in the two models.
    seed : int
        Seed of the permutations.

    Returns
    -------
    xarray.DataArray
        ``(overlap, layer)``, IoU, mean over linear layers: of the two models; of permuted
        activations, mean over permutations; and of the first model on the two halves of the texts,
        which says what other texts alone would change.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> one = ({"q": rng.normal(size=(2, 8, 12))}, {"q": rng.random((2, 12))})
    >>> overlap = compare_activated_weights(
    ...     {"frozen": one, "same": one}, halves=(one[1], one[1]), sparsity=0.5
    ... )
    >>> overlap.sel(overlap="two models").values
    array([1., 1.])
    """
    (first, (weights, squares)), (second, (other_weights, other_squares)) = models.items()
    weights, other_weights = take_rows(weights), take_rows(other_weights)

    def average(a: ModelMasks, b: ModelMasks) -> xr.DataArray:
        return compute_layer_iou(a, b).mean("linear")

    def permute(number: int) -> xr.DataArray:
        permuted = partial(permute_set_masks, number=number, sparsity=sparsity, seed=seed)
        return average(
            permuted(weights, squares, key=(first, "before")),
            permuted(other_weights, other_squares, key=(second, "after")),
        )

    overlaps = {
        TWO_MODELS: average(
            compute_wanda_masks(weights, squares, sparsity=sparsity),
            compute_wanda_masks(other_weights, other_squares, sparsity=sparsity),
        ),
        PERMUTED: xr.concat([permute(k) for k in range(permutations)], dim="permutation").mean(
            "permutation"
        ),
        TWO_HALVES: average(
            *(compute_wanda_masks(weights, half, sparsity=sparsity) for half in halves)
        ),
    }
    return xr.concat(list(overlaps.values()), dim="overlap").assign_coords(overlap=list(overlaps))
