"""Figures of findings: curves over layers, and points in two dimensions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from ima.figures.style import (
    SERIES_COLOURS,
    SERIES_MARKERS,
    add_outside_legend,
    open_figure,
    open_panel_grid,
    plot_layer_curve,
    plot_null_line,
)


def plot_similarity_curves(
    averaged: xr.Dataset, *, low: xr.DataArray, high: xr.DataArray
) -> Figure:
    """Draw the similarities of F1.1 over layers.

    Parameters
    ----------
    averaged : xarray.Dataset
        From :func:`ima.measures.cones.average_terms_by_curve`.
    low, high : xarray.DataArray
        Interval at each point, ``(curve, layer)``.

    Returns
    -------
    matplotlib.figure.Figure
        One curve per similarity.
    """
    with open_figure(height=3.8) as (figure, grid):
        axes = grid[0, 0]
        for name in averaged["curve"].to_numpy():
            own = (side.sel(curve=name) for side in (averaged["estimate"], low, high))
            values, bottom, top = own
            plot_layer_curve(axes, values=values, low=bottom, high=top, name=str(name))
        axes.set(xlabel="layer (0: input of the language model)", ylabel="mean cosine similarity")
        add_outside_legend(figure, axes, columns=2)
    return figure


def plot_modality_similarity(
    parts: Mapping[str, xr.Dataset], *, intervals: Mapping[str, tuple[xr.DataArray, xr.DataArray]]
) -> Figure:
    """Draw the similarities within each modality, one panel each, on one scale.

    Parameters
    ----------
    parts : mapping of str to xarray.Dataset
        Modality to its curves, from :func:`ima.measures.cones.average_terms_by_curve`.
    intervals : mapping of str to (low, high)
        Modality to the interval at each point, ``(curve, layer)``.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per modality.
    """
    with open_figure(columns=len(parts), height=3.4, sharey=True) as (figure, grid):
        for axes, (modality, part) in zip(grid[0], parts.items(), strict=True):
            low, high = intervals[modality]
            for name in part["curve"].to_numpy():
                own = (side.sel(curve=name) for side in (part["estimate"], low, high))
                values, bottom, top = own
                plot_layer_curve(axes, values=values, low=bottom, high=top, name=str(name))
            axes.set(title=modality, xlabel="layer")
        grid[0, 0].set_ylabel("mean cosine similarity")
        fullest = max(grid[0], key=lambda axes: len(axes.lines))
        add_outside_legend(figure, fullest, columns=2)
    return figure


def plot_token_similarity(found: Mapping[str, xr.DataArray]) -> Figure:
    """Draw similarities of single tokens, one panel per way to reduce pairs of tokens.

    Parameters
    ----------
    found : mapping of str to xarray.DataArray
        From :func:`ima.measures.token_pairs.average_token_pair_terms`: reduction to ``(curve, layer)``.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per entry, on one scale.
    """
    with open_panel_grid(len(found), base=0.8, row=2.2, sharey=True) as (figure, grid, panels):
        for axes, (title, values) in zip(panels, found.items(), strict=True):
            for name in values["curve"].to_numpy():
                plot_layer_curve(axes, values=values.sel(curve=name), name=str(name))
            axes.set(title=title, xlabel="layer")
        for axes in grid[:, 0]:
            axes.set_ylabel("cosine of tokens")
        add_outside_legend(figure, grid[0, 0], columns=3)
    return figure


def plot_cone_gaps(gap: xr.Dataset, *, low: xr.DataArray, high: xr.DataArray) -> Figure:
    """Draw how far PvsT lies below the other two, against zero.

    Parameters
    ----------
    gap : xarray.Dataset
        From :func:`ima.measures.cones.compute_cone_gaps`.
    low, high : xarray.DataArray
        Simultaneous band, ``(side, layer)``.

    Returns
    -------
    matplotlib.figure.Figure
        A curve per side and the null.
    """
    with open_figure(height=3.0) as (figure, grid):
        axes = grid[0, 0]
        for name in gap["side"].to_numpy():
            own = (side.sel(side=name) for side in (gap["estimate"], low, high))
            values, bottom, top = own
            plot_layer_curve(
                axes, values=values, low=bottom, high=top, name=str(name), label=f"{name} − PvsT"
            )
        plot_null_line(axes, 0, label="null: no difference")
        axes.set(xlabel="layer (0: input of the language model)", ylabel="difference of cosines")
        add_outside_legend(figure, axes)
    return figure


def plot_probe_accuracy(
    probed: Mapping[str, xr.Dataset], *, names: Mapping[str, str] | None = None
) -> Figure:
    """Draw held-out accuracy over layers, one panel per question, with chance and permuted labels.

    Parameters
    ----------
    probed : mapping of str to xarray.Dataset
        Title to the result of :func:`ima.measures.separability.evaluate_linear_probe`.
    names : mapping of str to str or None
        Title to the name that chooses the colour.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per entry, on one scale.
    """
    with open_panel_grid(len(probed), base=0.6, row=2.4, sharey=True) as (figure, grid, panels):
        for axes, (title, part) in zip(panels, probed.items(), strict=True):
            name = (names or {}).get(title, "perceptual")
            plot_layer_curve(
                axes,
                values=part["accuracy"],
                low=part["low"],
                high=part["high"],
                name=name,
                label="held-out samples",
            )
            plot_null_line(axes, part.attrs["chance"], label="chance")
            if part.sizes.get("permutation"):
                layer, null = part["layer"], part["null"]
                axes.fill_between(
                    layer,
                    null.min("permutation"),
                    null.max("permutation"),
                    color=SERIES_COLOURS["null"],
                    alpha=0.3,
                    linewidth=0,
                    label="permuted labels (range)",
                )
            axes.set(title=title, xlabel="layer", ylim=(0, 1.04))
        for axes in grid[:, 0]:
            axes.set_ylabel("balanced accuracy")
        add_outside_legend(figure, grid[0, 0])
    return figure


def plot_silhouette_curves(scored: xr.Dataset) -> Figure:
    """Draw the silhouette of each modality and of all over layers, with permuted classes.

    Parameters
    ----------
    scored : xarray.Dataset
        From :func:`ima.measures.separability.compute_silhouette`.

    Returns
    -------
    matplotlib.figure.Figure
        A curve per class, their mean in bold with its interval.
    """
    with open_figure(height=3.4) as (figure, grid):
        axes = grid[0, 0]
        for name in scored["class"].to_numpy():
            plot_layer_curve(axes, values=scored["by_class"].sel({"class": name}), name=str(name))
        low, high = (scored["draws"].quantile(q, "draw") for q in (0.025, 0.975))
        plot_layer_curve(
            axes, values=scored["estimate"], low=low, high=high, name="perceptual", label="all"
        )
        axes.plot(
            scored["layer"],
            scored["null"].mean("permutation"),
            color=SERIES_COLOURS["null"],
            linestyle="--",
            label="permuted classes",
        )
        plot_null_line(axes, 0, label="null: on the border")
        axes.set(xlabel="layer (0: input of the language model)", ylabel="silhouette (cosine)")
        add_outside_legend(figure, axes)
    return figure


def plot_tsne_by_layer(
    embedded: xr.DataArray, *, classes: pd.Series[str], columns: int = 4
) -> Figure:
    """Draw points in two dimensions, a panel per layer.

    Parameters
    ----------
    embedded : xarray.DataArray
        ``(layer, point, axis)``.
    classes : pandas.Series
        Modality of each point, in the order of the points.
    columns : int
        Panels in a row.

    Returns
    -------
    matplotlib.figure.Figure
        The strip.
    """
    layers = embedded["layer"].to_numpy()
    with open_panel_grid(len(layers), columns=columns, base=0.7, row=1.9) as (figure, grid, panels):
        for axes, layer in zip(panels, layers, strict=True):
            for name in sorted(classes.unique()):
                x, y = embedded.sel(layer=layer).to_numpy()[(classes == name).to_numpy()].T
                axes.scatter(
                    x,
                    y,
                    s=7,
                    alpha=0.6,
                    linewidth=0,
                    rasterized=True,
                    label=name,
                    color=SERIES_COLOURS[name],
                    marker=SERIES_MARKERS[name],
                )
            axes.set(title=f"layer {layer}", xticks=[], yticks=[])
        add_outside_legend(figure, grid[0, 0], columns=4)
        for handle in figure.legends[0].legend_handles:
            handle.set(sizes=[30], alpha=1)  # type: ignore[union-attr]
    return figure


def plot_norm_curves(norms: xr.DataArray, *, ylabel: str = "L2 norm") -> Figure:
    """Draw the norm of perceptual and textual tokens over layers, with the spread over samples.

    Parameters
    ----------
    norms : xarray.DataArray
        ``(sample, kind, layer)``.
    ylabel : str
        Label of the y axis.

    Returns
    -------
    matplotlib.figure.Figure
        Medians with the middle half of the samples.
    """
    with open_figure(height=3.0) as (figure, grid):
        axes = grid[0, 0]
        for kind in norms["kind"].to_numpy():
            own = norms.sel(kind=kind)
            if not np.isfinite(own).any():
                continue
            low, middle, high = (own.quantile(q, "sample") for q in (0.25, 0.5, 0.75))
            plot_layer_curve(axes, values=middle, low=low, high=high, name=str(kind))
        axes.set(xlabel="layer", ylabel=ylabel)
        add_outside_legend(figure, axes)
    return figure
