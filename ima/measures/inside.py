"""Inside the block and on the residual stream (F3.3): a stream with steering blocks."""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from ima.errors import ParameterError
from ima.measures import alignment
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
