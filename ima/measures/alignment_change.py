"""How much a method changes alignment: the same samples read by a model with it and without it."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ima.errors import ParameterError
from ima.measures.alignment import compute_alignment_curves
from ima.stats.intervals import Interval

#: What the change is a change of, in words.
ALIGNMENT_QUANTITY = "matched minus all pairs, mean over layers with perceptual tokens (cosine)"
_NAME = "samples"


def compute_alignment_change(
    means: xr.DataArray, *, without: xr.DataArray, resamples: int = 500, seed: int = 0
) -> Interval:
    """Compute by how much a method changes the alignment of perceptual with textual tokens.

    The alignment is the mean over layers of matched minus all pairs, as
    :func:`ima.measures.alignment.compute_alignment_curve` computes it. As in the IMA score, the
    last layer is left out. Only those layers count at which every sample has perceptual tokens,
    with the method and without it: a method may remove them.

    Parameters
    ----------
    means, without : xarray.DataArray
        ``(sample, kind, layer, hidden)`` with the method and without it, of the same samples in the
        same order. States without a token are NaN.
    resamples : int
        Bootstrap resamples of contents, the same for both.
    seed : int
        Same seed, same interval.

    Returns
    -------
    Interval
        A difference of cosines; n counts contents.

    Raises
    ------
    ParameterError
        If the two hold other samples or layers, or there is no layer with perceptual tokens.

    Examples
    --------
    >>> states = xr.DataArray(
    ...     [[[[1.0, 0.0]] * 2, [[1.0, 0.0]] * 2], [[[0.0, 1.0]] * 2, [[0.0, 1.0]] * 2]],
    ...     dims=("sample", "kind", "layer", "hidden"),
    ...     coords={"kind": ["perceptual", "textual"], "layer": [0, 1]},
    ... )
    >>> crossed = states.copy(data=states.sel(kind=["perceptual", "textual"]).values[[1, 0]])
    >>> compute_alignment_change(states, without=crossed, resamples=8).value
    0.0
    """
    if not _list_ids(means) == _list_ids(without) or means.shape[:-1] != without.shape[:-1]:
        raise ParameterError(
            "A change of alignment needs the same samples and layers on both sides; got "
            f"{dict(means.sizes)} and {dict(without.sizes)}. Capture both from one list of samples."
        )
    inner = means["layer"].to_numpy()[:-1]
    shown = [layer for layer in inner if _has_tokens(means, layer) and _has_tokens(without, layer)]
    if not shown:
        raise ParameterError(
            f"No layer among {', '.join(map(str, inner))} has perceptual tokens in every sample, "
            "so no alignment is defined there. Take a method that leaves some."
        )
    after, before = (
        _average(own.sel(layer=shown), resamples=resamples, seed=seed) for own in (means, without)
    )
    change = after - before
    n = int(after.attrs["samples"])
    return Interval.of_draws(float(change["estimate"]), change["draws"].to_numpy(), n=n)


def _list_ids(means: xr.DataArray) -> list[str]:
    places = means["id"].to_numpy() if "id" in means.coords else range(means.sizes["sample"])
    return list(map(str, places))


def _has_tokens(means: xr.DataArray, layer: int) -> bool:
    return bool(np.isfinite(means.sel(layer=layer)).all())


def _average(means: xr.DataArray, *, resamples: int, seed: int) -> xr.Dataset:
    """Return the mean over layers of matched minus all pairs, and its draws."""
    curves = compute_alignment_curves({_NAME: means}, resamples=resamples, seed=seed)
    curve = curves["matched minus all"]
    return curve[["estimate", "draws"]].mean(("dataset", "layer")).assign_attrs(curve.attrs)
