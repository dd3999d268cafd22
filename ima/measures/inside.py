"""Inside the block and on the residual stream (F3.3): a stream with steering blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from ima.errors import CacheError, ParameterError
from ima.measures import alignment, norms
from ima.stats.intervals import Interval, compute_minimum_interval, compute_simultaneous_band

#: Hook points inside a block, off the residual stream.
BLOCK_HOOK_POINTS = ("ln1", "attn_out", "ln2", "mlp_post", "mlp_out")
RESIDUAL_HOOK_POINT = "resid_post"


def compute_hook_point_alignment(
    hook_points: Mapping[str, Mapping[str, xr.DataArray]], *, resamples: int = 1000, seed: int = 0
) -> xr.Dataset:
    """Compute PvsT at each hook point and layer, averaged over data sets.

    Parameters
    ----------
    hook_points : mapping of str to mapping
        By hook point and data set ``(sample, kind, layer, hidden)``.
    resamples : int
        Number of bootstrap resamples of contents, the same for all hook points.
    seed : int
        Same seed, same draws.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(hook_point, layer)`` and ``draws`` ``(draw, hook_point, layer)`` at layers 1 … L.

    Raises
    ------
    ParameterError
        If no hook point is given.
    """
    if not hook_points:
        message = "No hook points given; the comparison needs resid_post and hook points inside the block."
        raise ParameterError(message)
    found = [
        alignment.compute_alignment_curve(means, resamples=resamples, seed=seed)
        for means in hook_points.values()
    ]
    layers = next(iter(hook_points.values()))
    last = int(next(iter(layers.values()))["layer"].max())
    index = xr.DataArray(list(hook_points), dims="hook_point", name="hook_point")
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
    """Average the median norm of tokens at each hook point over samples and data sets.

    Parameters
    ----------
    medians : mapping of str to mapping
        By hook point and data set ``(sample, kind, layer)``.
    resamples, seed : int
        Of contents.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(hook_point, kind, layer)`` and ``draws`` ``(draw, hook_point, kind, layer)`` at layers
        1 … L.
    """
    found = {
        hook_point: norms.average_over_samples(values, resamples=resamples, seed=seed)
        for hook_point, values in medians.items()
    }
    return _joined(found)


def compute_hook_point_drift(
    trees: Mapping[str, xr.DataTree],
    *,
    hook_points: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Average each token's cosine with itself at the same hook point one block on.

    Parameters
    ----------
    trees : mapping of str to xarray.DataTree
        By data set: caches of one language model that keep tokens.
    hook_points : sequence of str
        Which hook points.
    resamples, seed : int
        Of contents.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(hook_point, kind, layer)`` and ``draws`` ``(draw, hook_point, kind, layer)`` at layers
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
    found = {
        hook_point: norms.average_token_changes(trees, hook_point=hook_point, **given)["cosine"]
        for hook_point in hook_points
    }
    return _joined(found)


def _joined(found: Mapping[str, xr.Dataset]) -> xr.Dataset:
    index = xr.DataArray(list(found), dims="hook_point", name="hook_point")
    # Only the residual stream has a layer 0.
    parts = [part.mean("dataset").sel(layer=slice(1, None)) for part in found.values()]
    first = next(iter(found.values()))
    return xr.concat(parts, dim=index).assign_attrs(first.attrs)


def compute_block_margin(found: xr.Dataset, *, level: float = 0.95) -> Interval:
    """Measure F3.3: by how much the least similar hook point inside the block exceeds the residual stream.

    Parameters
    ----------
    found : xarray.Dataset
        From :func:`compute_hook_point_alignment`, with ``resid_post`` among the hook points.
    level : float
        Coverage, simultaneous over hook points.

    Returns
    -------
    Interval
        Minimum over hook points inside the block of their PvsT minus that of the residual stream, each
        averaged over layers.
    """
    own = [
        hook_point for hook_point in BLOCK_HOOK_POINTS if hook_point in found["hook_point"].values
    ]
    if not own or RESIDUAL_HOOK_POINT not in found["hook_point"].values:
        held = ", ".join(found["hook_point"].values)
        message = f"F3.3 needs {RESIDUAL_HOOK_POINT} and a hook point of {', '.join(BLOCK_HOOK_POINTS)}; found {held}."
        raise ParameterError(message)
    averaged = found[["estimate", "draws"]].mean("layer")
    gap = averaged.sel(hook_point=own) - averaged.sel(hook_point=RESIDUAL_HOOK_POINT, drop=True)
    low, high = compute_simultaneous_band(gap["draws"], level=level)
    return compute_minimum_interval(
        gap["estimate"], low=low, high=high, n=int(found.attrs["samples"])
    )
