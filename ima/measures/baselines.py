"""Rivals of the IMA score along the depth: retrieval, neighbours, CKA and Fréchet distance.

Each has an interval and a null at every layer of a data set.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import xarray as xr

from ima.errors import ParameterError
from ima.measures import representation_similarity
from ima.measures.similarity import FloatArray
from ima.stats.intervals import draw_bootstrap_weights

ALIGNMENT_BASELINES = ("retrieval@1", "mutual k-NN", "linear CKA", "Fréchet distance")
#: Groups of samples that are left out in turn, for the measures that are no means over samples.
JACKKNIFE_GROUPS = 10
_NORMAL = 1.959964


def compute_baseline_curves(
    means: xr.DataArray,
    *,
    neighbours: int = 10,
    permutations: int = 20,
    resamples: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Compute all rivals at each layer of a data set.

    Parameters
    ----------
    means : xarray.DataArray
        Mean-pooled tokens ``(sample, kind, layer, hidden)``; a layer at a time is read.
    neighbours : int
        The k of mutual k-NN; at most a quarter of the samples.
    permutations : int
        Random pairings of samples, whose mean is the null of the first three. The null of the
        Fréchet distance is the distance between two halves of the textual samples.
    resamples : int
        Bootstrap resamples of samples, for retrieval and neighbours; the intervals of the other two
        are a jackknife's over groups of samples, because a resample holds samples twice.
    seed : int
        Same seed, same result.

    Returns
    -------
    xarray.Dataset
        ``estimate``, ``low``, ``high`` (95 %) and ``null`` ``(rival, layer)``.

    Raises
    ------
    ParameterError
        If there are fewer than 16 samples.
    """
    n = means.sizes["sample"]
    if n < 16:
        message = f"The rivals compare samples with one another: at least 16; got {n}."
        raise ParameterError(message)
    k = min(neighbours, n // 4)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(n) for _ in range(permutations)]
    groups = np.array_split(rng.permutation(n), JACKKNIFE_GROUPS)
    weights = draw_bootstrap_weights(n, resamples=resamples, seed=seed).to_numpy()
    found = np.empty((4, len(ALIGNMENT_BASELINES), means.sizes["layer"]))
    for at in range(means.sizes["layer"]):
        a, b = (
            means.isel(layer=at).sel(kind=kind).to_numpy().astype(np.float64)
            for kind in ("perceptual", "textual")
        )
        shares = [
            representation_similarity.compute_retrieval_hits(a, b),
            representation_similarity.compute_mutual_knn(a, b, k=k),
        ]
        for number, share in enumerate(shares):
            ends = np.quantile(weights @ share, [0.025, 0.975])
            found[:3, number, at] = share.mean(), *ends
        found[:3, 2, at] = _jackknife(representation_similarity.compute_cka, a, b, groups)
        found[:3, 3, at] = _jackknife(
            representation_similarity.compute_frechet_distance, a, b, groups
        )
        found[3, 0, at] = np.mean(
            [
                representation_similarity.compute_retrieval_hits(a, b[order]).mean()
                for order in orders
            ]
        )
        found[3, 1, at] = np.mean(
            [
                representation_similarity.compute_mutual_knn(a, b[order], k=k).mean()
                for order in orders
            ]
        )
        found[3, 2, at] = np.mean(
            [representation_similarity.compute_cka(a, b[order]) for order in orders]
        )
        halves = np.array_split(orders[0] if orders else np.arange(n), 2)
        found[3, 3, at] = representation_similarity.compute_frechet_distance(
            b[halves[0]], b[halves[1]]
        )
    dims = ("rival", "layer")
    names = ("estimate", "low", "high", "null")
    return xr.Dataset(
        {name: (dims, values) for name, values in zip(names, found, strict=True)},
        coords={"rival": list(ALIGNMENT_BASELINES), "layer": means["layer"].to_numpy()},
        attrs={"samples": n, "neighbours": k, "permutations": permutations, "seed": seed},
    )


def describe_best_layer(found: xr.Dataset, *, rival: str) -> str:
    """Say where a rival is highest, and what chance gives.

    Parameters
    ----------
    found : xarray.Dataset
        From :func:`compute_baseline_curves`.
    rival : str
        One of :data:`ALIGNMENT_BASELINES`.
    """
    own = found.sel(rival=rival)
    layer = int(own["estimate"].idxmax())
    top = own.sel(layer=layer)
    ends = f"[{float(top['low']):.2f}, {float(top['high']):.2f}]"
    chance = f"null {float(own['null'].mean()):.3f}"
    return f"{float(top['estimate']):.2f} {ends} at layer {layer} ({chance})"


def _jackknife(
    measure: Callable[[FloatArray, FloatArray], float],
    a: FloatArray,
    b: FloatArray,
    groups: list[npt.NDArray[np.int64]],
) -> tuple[float, float, float]:
    """Return a measure with the interval that leaving out groups of samples gives."""
    value = measure(a, b)
    rest = [np.setdiff1d(np.arange(len(a)), group) for group in groups]
    left = np.array([measure(a[kept], b[kept]) for kept in rest])
    count = len(groups)
    spread = float(np.sqrt((count - 1) / count * ((left - left.mean()) ** 2).sum()))
    return value, value - _NORMAL * spread, value + _NORMAL * spread
