"""Hook points compared (F3.3): alignment, norms and drift inside the block and on the stream.

Figure 8 of the paper: a model is a residual stream with steering blocks. With the PvsT of
:mod:`ima.measures.alignment` at hook point h, averaged over data sets and layers 1 … L::

    F3.3 = min over h inside the block of PvsT(h) − PvsT(resid_post)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import xarray as xr

from ima.errors import CacheError, ParameterError
from ima.measures.alignment import compute_alignment_curve, stack_alignment_curves
from ima.measures.norms import average_over_samples, average_token_changes
from ima.stats.intervals import Interval, compute_lowest_point

#: Hook points inside a block, off the residual stream.
BLOCK_HOOK_POINTS = ("ln1", "attn_out", "ln2", "mlp_post", "mlp_out")
RESIDUAL_HOOK_POINT = "resid_post"


def compute_hook_point_alignment(
    means_by_hook_point: Mapping[str, Mapping[str, xr.DataArray]],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Compute PvsT at each hook point and layer, averaged over data sets.

    Parameters
    ----------
    means_by_hook_point : mapping of str to mapping
        By hook point and data set ``(sample, kind, layer, hidden)``.
    resamples : int
        Number of bootstrap resamples of contents, the same at all hook points.
    seed : int
        Same seed, same draws.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(hook_point, layer)`` and ``draws`` ``(draw, hook_point, layer)`` at layers
        1 … L.

    Raises
    ------
    ParameterError
        If no hook point is given.

    Examples
    --------
    >>> coords = {"kind": ["perceptual", "textual"], "layer": [0, 1]}
    >>> states = xr.DataArray([[[[1.0], [1.0]]] * 2], coords, ("sample", "kind", "layer", "hidden"))
    >>> curves = compute_hook_point_alignment({"resid_post": {"caption": states}}, resamples=2)
    >>> curves["estimate"].values
    array([[1.]])
    """
    if not means_by_hook_point:
        raise ParameterError(
            "No hook points given; F3.3 compares resid_post with those inside the block."
        )
    curves = {
        hook_point: compute_alignment_curve(means, resamples=resamples, seed=seed)
        for hook_point, means in means_by_hook_point.items()
    }
    return _stack(curves)


def compute_hook_point_norms(
    medians: Mapping[str, Mapping[str, xr.DataArray]], *, resamples: int = 1000, seed: int = 0
) -> xr.Dataset:
    """Average the median norm of tokens at each hook point over samples and data sets.

    Parameters
    ----------
    medians : mapping of str to mapping
        By hook point and data set ``(sample, kind, layer)``.
    resamples, seed : int
        As in :func:`compute_hook_point_alignment`.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(hook_point, kind, layer)`` and ``draws``
        ``(draw, hook_point, kind, layer)`` at layers 1 … L.

    Examples
    --------
    >>> coords = {"kind": ["perceptual", "textual"], "layer": [0, 1]}
    >>> norms = xr.DataArray([[[9.0, 4.0], [9.0, 1.0]]], coords, ("sample", "kind", "layer"))
    >>> compute_hook_point_norms({"resid_post": {"caption": norms}}, resamples=2)["estimate"].values
    array([[[4.],
            [1.]]])
    """
    return _stack(
        {
            hook_point: average_over_samples(values, resamples=resamples, seed=seed)
            for hook_point, values in medians.items()
        }
    )


def compute_hook_point_drift(
    trees: Mapping[str, xr.DataTree],
    *,
    hook_points: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Average each token's cosine with itself one block later, at each hook point.

    Parameters
    ----------
    trees : mapping of str to xarray.DataTree
        By data set: caches of one language model that contain single tokens.
    hook_points : sequence of str
        Names of the hook points.
    resamples, seed : int
        As in :func:`compute_hook_point_alignment`.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(hook_point, kind, layer)`` and ``draws``
        ``(draw, hook_point, kind, layer)`` at layers 1 … L-1, with the label of the earlier block.

    Raises
    ------
    CacheError
        If a cache contains no single tokens.

    Examples
    --------
    >>> cache = ima.open_cache("caption.zarr")  # doctest: +SKIP
    >>> compute_hook_point_drift({"caption": cache}, hook_points=["resid_post"])  # doctest: +SKIP
    """
    without = [name for name, tree in trees.items() if "tokens" not in tree.children]
    if without:
        raise CacheError(
            f"The caches of {', '.join(without)} contain no single tokens. Make them with "
            "--keep-tokens; see `ima cache create --help`."
        )
    drift = {}
    for hook_point in hook_points:
        changes = average_token_changes(
            trees, hook_point=hook_point, measures=["cosine"], resamples=resamples, seed=seed
        )
        drift[hook_point] = changes["cosine"]
    return _stack(drift)


def _stack(by_hook_point: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Average over data sets and stack along the hook points."""
    # Only the residual stream has a layer 0.
    parts = {name: part.sel(layer=slice(1, None)) for name, part in by_hook_point.items()}
    return stack_alignment_curves(parts, dim="hook_point")


def compute_block_margin(curves: xr.Dataset) -> Interval:
    """Measure F3.3: how far the lowest PvsT inside the block exceeds that of the residual stream.

    Parameters
    ----------
    curves : xarray.Dataset
        From :func:`compute_hook_point_alignment`, with ``resid_post`` among the hook points.

    Returns
    -------
    Interval
        Minimum over hook points inside the block of their PvsT minus that of the residual stream,
        each averaged over layers.

    Raises
    ------
    ParameterError
        If the residual stream or all hook points inside the block are missing.

    Examples
    --------
    >>> curve = {"estimate": (("hook_point", "layer"), [[0.5, 0.5], [0.25, 0.25]])}
    >>> curves = xr.Dataset(curve, {"hook_point": ["ln1", "resid_post"]}, {"samples": 8})
    >>> print(compute_block_margin(curves.assign(draws=curves["estimate"].expand_dims("draw"))))
    0.250 [0.250, 0.250], n = 8
    """
    present = curves["hook_point"].values.tolist()
    inside = [hook_point for hook_point in BLOCK_HOOK_POINTS if hook_point in present]
    if not inside or RESIDUAL_HOOK_POINT not in present:
        raise ParameterError(
            f"F3.3 needs {RESIDUAL_HOOK_POINT} and one of {', '.join(BLOCK_HOOK_POINTS)}; found "
            f"{', '.join(present)}."
        )
    averaged = curves[["estimate", "draws"]].mean("layer")
    gap = averaged.sel(hook_point=inside) - averaged.sel(hook_point=RESIDUAL_HOOK_POINT, drop=True)
    return compute_lowest_point(gap, n=curves.attrs["samples"])
