"""Hook points compared (F3.3): alignment, norms and drift inside the block and on the stream.

Figure 8 of the paper: a model is a residual stream with steering blocks. With the PvsT of
:mod:`ima.measures.alignment` at hook point h, averaged over data sets and layers 1 … L::

    F3.3 as stated = min over h inside the block of PvsT(h, l) − PvsT(resid_post, l)
    F3.3 as tested = min over h in attn_out, mlp_post, mlp_out of PvsT(h, l) − PvsT(resid_post, l−1)

Block l reads the stream of layer l−1, here called ``resid_pre``. Where PvsT changes with depth, a
comparison with the stream that the block writes is off by (last − first) / L.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import xarray as xr

from ima.errors import CacheError, ParameterError
from ima.measures.alignment import compute_alignment_curve, stack_alignment_curves
from ima.measures.cones import WITHIN_CURVES, average_terms_by_curve, compute_similarity_terms
from ima.measures.norms import average_over_samples, average_token_changes
from ima.measures.treatments import name_least_treatment
from ima.stats.intervals import Interval, compute_lowest_point

#: Hook points inside a block, off the residual stream.
BLOCK_HOOK_POINTS = ("ln1", "attn_out", "ln2", "mlp_post", "mlp_out")
#: The stream of the same layer, and the stream that the block reads.
WRITTEN_STREAM, READ_STREAM = "resid_post", "resid_pre"
_LEVEL_CURVES = ("PvsT", *WITHIN_CURVES)


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
        1 … L. If ``resid_post`` is given, ``resid_pre`` is there too: the stream that the block of
        a layer reads.

    Raises
    ------
    ParameterError
        If no hook point is given.

    Examples
    --------
    >>> coords = {"kind": ["perceptual", "textual"], "layer": [0, 1]}
    >>> states = [[[[1.0], [1.0]], [[-1.0], [1.0]]]]  # of one sample, opposite at the input
    >>> states = xr.DataArray(states, coords, ("sample", "kind", "layer", "hidden"))
    >>> curves = compute_hook_point_alignment({"resid_post": {"caption": states}}, resamples=2)
    >>> curves["estimate"].to_series().to_dict()
    {('resid_post', 1): 1.0, ('resid_pre', 1): -1.0}
    """
    if not means_by_hook_point:
        raise ParameterError(
            "No hook points given; F3.3 compares resid_post with those inside the block."
        )
    curves = {
        hook_point: compute_alignment_curve(means, resamples=resamples, seed=seed)
        for hook_point, means in means_by_hook_point.items()
    }
    if WRITTEN_STREAM in curves:
        layers = curves[WRITTEN_STREAM]["layer"]
        earlier = curves[WRITTEN_STREAM].isel(layer=slice(None, -1))
        curves[READ_STREAM] = earlier.assign_coords(layer=layers[1:].to_numpy())
    return _stack(curves)


def tabulate_levels(
    means_by_hook_point: Mapping[str, Mapping[str, xr.DataArray]],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Tabulate how alike the states of a hook point are, within each kind and between both.

    Where all states of a hook point point one way, PvsT is high whatever they mean. The similarity
    within the kinds is this level.

    Parameters
    ----------
    means_by_hook_point, resamples, seed
        As for :func:`compute_hook_point_alignment`.

    Returns
    -------
    pandas.DataFrame
        By hook point, means over data sets and layers 1 … L with 95 % intervals: PvsT, P intra and
        T intra (:mod:`ima.measures.cones`), and PvsT minus the mean of the other two.

    Raises
    ------
    ParameterError
        If a data set has fewer than four samples.

    Examples
    --------
    >>> coords = {"kind": ["perceptual", "textual"], "layer": [1]}
    >>> states = xr.DataArray(
    ...     [[[[1.0]], [[-1.0]]]] * 4, coords, ("sample", "kind", "layer", "hidden")
    ... )
    >>> tabulate_levels({"mlp_out": {"caption": states}}, resamples=2).loc["mlp_out"].tolist()
    ['-1.000 [-1.000, -1.000]', '1.000 [1.000, 1.000]', '1.000 [1.000, 1.000]', \
'-2.000 [-2.000, -2.000]']
    """
    rows = {}
    for hook_point, means in means_by_hook_point.items():
        terms = compute_similarity_terms(means, resamples=resamples, seed=seed)
        curves, n = average_terms_by_curve(terms)[["estimate", "draws"]], terms.attrs["samples"]
        parts = {hook_point: curves.sel(layer=slice(1, None))}
        if hook_point == WRITTEN_STREAM:
            parts[READ_STREAM] = curves.isel(layer=slice(None, -1))
        for name, part in parts.items():
            averaged = part.mean("layer")
            levels = {curve: averaged.sel(curve=curve, drop=True) for curve in _LEVEL_CURVES}
            own = averaged.sel(curve=list(WITHIN_CURVES)).mean("curve")
            levels["PvsT − mean of both"] = levels["PvsT"] - own
            rows[name] = {title: _format_interval(one, n=n) for title, one in levels.items()}
    return pd.DataFrame(rows).T.rename_axis("hook point")


def _format_interval(averaged: xr.Dataset, *, n: int) -> str:
    one = Interval.of_draws(float(averaged["estimate"]), averaged["draws"], n=n)
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


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
    contents: Mapping[str, Sequence[str]],
    hook_points: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Average each token's cosine with itself one block later, at each hook point.

    Parameters
    ----------
    trees : mapping of str to xarray.DataTree
        By data set: caches of one language model that contain single tokens.
    contents : mapping of str to sequence of str
        As in :func:`ima.measures.norms.average_token_changes`.
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
    >>> given = {"contents": {"caption": ids}, "hook_points": ["resid_post"]}  # doctest: +SKIP
    >>> compute_hook_point_drift({"caption": cache}, **given)  # doctest: +SKIP
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
            trees,
            contents=contents,
            hook_point=hook_point,
            measures=["cosine"],
            resamples=resamples,
            seed=seed,
        )
        drift[hook_point] = changes["cosine"]
    return _stack(drift)


def _stack(by_hook_point: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Average over data sets and stack along the hook points."""
    # Only the residual stream has a layer 0.
    parts = {name: part.sel(layer=slice(1, None)) for name, part in by_hook_point.items()}
    return stack_alignment_curves(parts, dim="hook_point")


def compute_block_gaps(
    curves: xr.Dataset,
    *,
    hook_points: Sequence[str] = BLOCK_HOOK_POINTS,
    stream: str = WRITTEN_STREAM,
) -> xr.Dataset:
    """Compute how far PvsT at each hook point inside the block exceeds that of the residual stream.

    Parameters
    ----------
    curves : xarray.Dataset
        From :func:`compute_hook_point_alignment`, with ``resid_post`` among the hook points.
    hook_points : sequence of str
        The hook points; those that the model does not have are left out.
    stream : {"resid_post", "resid_pre"}
        The stream of the same layer, or the stream that the block reads.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(hook_point,)`` and ``draws`` ``(draw, hook_point)``, each a difference of
        cosines, mean over layers 1 … L. The attribute ``stream`` names the stream.

    Raises
    ------
    ParameterError
        If the residual stream or all hook points inside the block are missing.

    Examples
    --------
    >>> curve = {"estimate": (("hook_point", "layer"), [[0.5, 0.5], [0.25, 0.25]])}
    >>> curves = xr.Dataset(curve, {"hook_point": ["ln1", "resid_post"]}, {"samples": 8})
    >>> gaps = compute_block_gaps(curves.assign(draws=curves["estimate"].expand_dims("draw")))
    >>> gaps["estimate"].to_series().to_dict()
    {'ln1': 0.25}
    """
    present = curves["hook_point"].to_numpy().tolist()
    inside = [hook_point for hook_point in hook_points if hook_point in present]
    if not inside or stream not in present:
        raise ParameterError(
            f"F3.3 needs {stream} and one of {', '.join(hook_points)}; found {', '.join(present)}."
        )
    averaged = curves[["estimate", "draws"]].mean("layer")
    gaps = averaged.sel(hook_point=inside) - averaged.sel(hook_point=stream, drop=True)
    return gaps.assign_attrs(curves.attrs, stream=stream)


def compute_block_margin(gaps: xr.Dataset) -> Interval:
    """Measure F3.3: the smallest gap between a hook point inside the block and the residual stream.

    Parameters
    ----------
    gaps : xarray.Dataset
        From :func:`compute_block_gaps`: of all hook points and the stream of the same layer for
        *as stated*; of :data:`ima.hook_points.OUTPUT_HOOK_POINTS` and the stream that the block
        reads for *as tested*, with several treatments on the dim ``treatment``.

    Returns
    -------
    Interval
        Minimum over hook points and treatments, with the interval of a minimum.

    Examples
    --------
    >>> gap = xr.DataArray([0.5, 0.25], {"hook_point": ["ln1", "mlp_out"]})
    >>> gaps = xr.Dataset({"estimate": gap, "draws": gap.expand_dims("draw")}, attrs={"samples": 8})
    >>> print(compute_block_margin(gaps))
    0.250 [0.250, 0.250], n = 8
    """
    return compute_lowest_point(gaps, n=gaps.attrs["samples"])


def describe_block_gaps(gaps: xr.Dataset) -> str:
    """Describe in one sentence at how many hook points the gap is positive, and the smallest.

    Parameters
    ----------
    gaps : xarray.Dataset
        From :func:`compute_block_gaps`; several treatments are on the dim ``treatment``.

    Examples
    --------
    >>> gap = xr.DataArray([0.5, -0.25], {"hook_point": ["ln1", "mlp_out"]})
    >>> gaps = xr.Dataset({"estimate": gap}, attrs={"stream": "resid_pre"})
    >>> print(describe_block_gaps(gaps))
    At 1 of 2 hook points inside the block, percepts and text are more similar than in the \
stream that the block reads; the smallest difference of cosines is -0.250, at mlp_out.
    """
    estimate = gaps["estimate"]
    if "treatment" in estimate.dims:
        smallest = estimate.min("hook_point").to_series()
        own = gaps.sel(treatment=smallest.idxmin(), drop=True)
        return name_least_treatment(describe_block_gaps(own), smallest.to_dict(), quantity="gap")
    lowest = estimate["hook_point"].to_numpy()[estimate.argmin("hook_point")]
    streams = {WRITTEN_STREAM: "of the same layer", READ_STREAM: "that the block reads"}
    return (
        f"At {int((estimate > 0).sum())} of {estimate.size} hook points inside the block, percepts "
        f"and text are more similar than in the stream {streams[gaps.attrs['stream']]}; the "
        f"smallest difference of cosines is {float(estimate.min()):.3f}, at {lowest}."
    )
