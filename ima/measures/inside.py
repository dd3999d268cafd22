"""Inside the block and on the residual stream (F3.3): a stream with steering blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from ima.errors import CacheError, ParameterError
from ima.measures import alignment, norms
from ima.stats.intervals import Interval, compute_minimum_interval, compute_simultaneous_band

#: Taps inside a block, off the residual stream.
BLOCK_HOOK_POINTS = ("ln1", "sa", "ln2", "fc1", "fc2")
RESIDUAL_HOOK_POINT = "resid_post"


def compute_hook_point_alignment(
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
    found = [
        alignment.compute_alignment_curve(means, resamples=resamples, seed=seed)
        for means in taps.values()
    ]
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


def compute_hook_point_norms(
    medians: Mapping[str, Mapping[str, xr.DataArray]], *, resamples: int = 1000, seed: int = 0
) -> xr.Dataset:
    """Average the median norm of tokens at each tap over samples and data sets.

    Parameters
    ----------
    medians : mapping of str to mapping
        By tap and data set ``(sample, kind, layer)``.
    resamples, seed : int
        Of contents.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(tap, kind, layer)`` and ``draws`` ``(draw, tap, kind, layer)`` at layers
        1 … L.
    """
    found = {
        tap: norms.average_over_samples(values, resamples=resamples, seed=seed)
        for tap, values in medians.items()
    }
    return _joined(found)


def compute_hook_point_drift(
    trees: Mapping[str, xr.DataTree],
    *,
    taps: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Average each token's cosine with itself at the same tap one block on.

    Parameters
    ----------
    trees : mapping of str to xarray.DataTree
        By data set: caches of one language model that keep tokens.
    taps : sequence of str
        Which taps.
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
    without = [name for name, tree in trees.items() if "tokens" not in tree.children]
    if without:
        message = (
            f"The caches of {', '.join(without)} keep no tokens. Make them with --keep-tokens; "
            "see `ima cache create --help`."
        )
        raise CacheError(message)
    given: dict[str, Any] = {"resamples": resamples, "seed": seed, "ways": ["cosine"]}
    found = {tap: norms.average_token_changes(trees, tap=tap, **given)["cosine"] for tap in taps}
    return _joined(found)


def _joined(found: Mapping[str, xr.Dataset]) -> xr.Dataset:
    index = xr.DataArray(list(found), dims="tap", name="tap")
    # Only the residual stream has a layer 0.
    parts = [part.mean("dataset").sel(layer=slice(1, None)) for part in found.values()]
    first = next(iter(found.values()))
    return xr.concat(parts, dim=index).assign_attrs(first.attrs)


def compute_block_margin(found: xr.Dataset, *, level: float = 0.95) -> Interval:
    """Measure F3.3: by how much the least similar tap inside the block exceeds the residual stream.

    Parameters
    ----------
    found : xarray.Dataset
        From :func:`compute_hook_point_alignment`, with ``resid_post`` among the taps.
    level : float
        Coverage, simultaneous over taps.

    Returns
    -------
    Interval
        Minimum over taps inside the block of their PvsT minus that of the residual stream, each
        averaged over layers.
    """
    own = [tap for tap in BLOCK_HOOK_POINTS if tap in found["tap"].values]
    if not own or RESIDUAL_HOOK_POINT not in found["tap"].values:
        held = ", ".join(found["tap"].values)
        message = f"F3.3 needs {RESIDUAL_HOOK_POINT} and a tap of {', '.join(BLOCK_HOOK_POINTS)}; found {held}."
        raise ParameterError(message)
    averaged = found[["estimate", "draws"]].mean("layer")
    gap = averaged.sel(tap=own) - averaged.sel(tap=RESIDUAL_HOOK_POINT, drop=True)
    low, high = compute_simultaneous_band(gap["draws"], level=level)
    return compute_minimum_interval(
        gap["estimate"], low=low, high=high, n=int(found.attrs["samples"])
    )
