"""Inside the block and on the residual stream (F3.3): a stream with steering blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import xarray as xr

from ima.errors import ParameterError
from ima.measures import alignment, norms
from ima.measures.family import Family
from ima.measures.inference import Interval, band, minimum

#: Taps inside a block, off the residual stream.
INSIDE = ("ln1", "sa", "ln2", "fc1", "fc2")
RESIDUAL = "resid_post"


def curves(
    taps: Mapping[str, Mapping[str, xr.DataArray]], *, resamples: int = 1000, seed: int = 0
) -> xr.Dataset:
    """Compute PvsT at each tap and layer, averaged over data sets.

    Parameters
    ----------
    taps : mapping of str to mapping
        By tap and data set ``(sample, kind, layer, hidden)``.
    resamples : int
        Number of bootstrap resamples of contents, the same for all taps.
    seed : int
        Same seed, same draws.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(tap, layer)`` and ``draws`` ``(draw, tap, layer)`` at layers 1 … L.

    Raises
    ------
    ParameterError
        If no tap is given.
    """
    if not taps:
        message = "No taps given; the comparison needs resid_post and taps inside the block."
        raise ParameterError(message)
    found = [alignment.curve(means, resamples=resamples, seed=seed) for means in taps.values()]
    layers = next(iter(taps.values()))
    last = int(next(iter(layers.values()))["layer"].max())
    index = xr.DataArray(list(taps), dims="tap", name="tap")
    joined = xr.concat(
        [
            part[["estimate", "draws"]].mean("dataset").sel(layer=range(1, last + 1))
            for part in found
        ],
        dim=index,
    )
    return joined.assign_attrs(found[0].attrs)


def norm_curves(family: Family, *, resamples: int = 1000, seed: int = 0) -> xr.Dataset:
    """Average the median norm of tokens at each tap over samples and data sets.

    Parameters
    ----------
    family : Family
        Caches of one language model.
    resamples, seed : int
        Of contents.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(tap, kind, layer)`` and ``draws`` ``(draw, tap, kind, layer)`` at layers
        1 … L.
    """
    found = {
        tap: norms.averages(family.arrays(f"norms/{tap}/median"), resamples=resamples, seed=seed)
        for tap in family.taps()
    }
    return _joined(found, layers=family.layers[1:])


def drift_curves(family: Family, *, resamples: int = 1000, seed: int = 0) -> xr.Dataset:
    """Average each token's cosine with itself at the same tap one block on.

    Parameters
    ----------
    family : Family
        Caches of one language model that keep tokens.
    resamples, seed : int
        Of contents.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(tap, kind, layer)`` and ``draws`` ``(draw, tap, kind, layer)`` at layers
        1 … L-1, the earlier block's.

    Raises
    ------
    CacheError
        If a cache keeps no tokens.
    """
    found = {}
    for tap in family.taps():
        # Says which cache keeps no tokens, if one does not.
        family.arrays(f"tokens/{tap}/state")
        given = {"resamples": resamples, "seed": seed}
        found[tap] = norms.kept_changes(family.trees, tap=tap, ways=["cosine"], **given)["cosine"]
    return _joined(found, layers=family.layers[1:-1])


def _joined(found: Mapping[str, xr.Dataset], *, layers: Sequence[int]) -> xr.Dataset:
    index = xr.DataArray(list(found), dims="tap", name="tap")
    parts = [part.mean("dataset").sel(layer=list(layers)) for part in found.values()]
    first = next(iter(found.values()))
    return xr.concat(parts, dim=index).assign_attrs(first.attrs)


def margin(found: xr.Dataset, *, level: float = 0.95) -> Interval:
    """Measure F3.3: by how much the least similar tap inside the block exceeds the residual stream.

    Parameters
    ----------
    found : xarray.Dataset
        From :func:`curves`, with ``resid_post`` among the taps.
    level : float
        Coverage, simultaneous over taps.

    Returns
    -------
    Interval
        Minimum over taps inside the block of their PvsT minus that of the residual stream, each
        averaged over layers.
    """
    own = [tap for tap in INSIDE if tap in found["tap"].values]
    if not own or RESIDUAL not in found["tap"].values:
        held = ", ".join(found["tap"].values)
        message = f"F3.3 needs {RESIDUAL} and a tap of {', '.join(INSIDE)}; found {held}."
        raise ParameterError(message)
    averaged = found[["estimate", "draws"]].mean("layer")
    gap = averaged.sel(tap=own) - averaged.sel(tap=RESIDUAL, drop=True)
    low, high = band(gap["draws"], level=level)
    return minimum(gap["estimate"], low=low, high=high, n=int(found.attrs["samples"]))
