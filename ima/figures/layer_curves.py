"""Figures of curves over layers, with intervals, and of t-SNE embeddings layer by layer."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from ima.figures.style import (
    SERIES_COLOURS,
    SERIES_MARKERS,
    add_outside_legend,
    open_figure,
    open_panel_grid,
    plot_layer_curve,
    plot_named_curves,
    plot_null_line,
)
from ima.stats.intervals import compute_percentile_interval

_X_LABEL = "layer (0: input of the language model)"


def plot_curve_panels(
    panels: Mapping[str, xr.Dataset],
    *,
    dim: str,
    ylabel: str,
    columns: int = 3,
    legend_columns: int = 2,
    logarithmic: bool = False,
    sharey: bool = True,
    null: float | None = None,
    null_label: str = "",
) -> Figure:
    """Plot curves over layers, one for each label of a dim, in a panel per model or data set.

    Parameters
    ----------
    panels : mapping of str to xarray.Dataset
        By title, ``estimate`` ``(dim, layer)`` and ``draws`` ``(draw, dim, layer)``.
    dim : str
        Its labels are the names of the series. Curves without a finite value are left out.
    ylabel : str
        Quantity and unit.
    columns, legend_columns : int
        Panels in a row, and columns of the legend.
    logarithmic : bool
        Logarithmic y axis.
    sharey : bool
        The same y axis for all panels.
    null : float or None
        A value to mark in each panel, labelled ``null_label``.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per entry, with 95 % percentile intervals.

    Examples
    --------
    >>> panels = {"opt-mini (ST)": norms.mean("dataset")}  # doctest: +SKIP
    >>> plot_curve_panels(panels, dim="kind", ylabel="median L2 norm")  # doctest: +SKIP
    """
    with open_panel_grid(
        len(panels), columns=columns, base_height=1.1, row_height=2.3, sharey=sharey, ylabel=ylabel
    ) as (figure, grid, places):
        for axes, (title, curves) in zip(places, panels.items(), strict=True):
            low, high = compute_percentile_interval(curves["draws"])
            plot_named_curves(axes, curves["estimate"], dim=dim, low=low, high=high)
            if null is not None:
                plot_null_line(axes, null, label=null_label)
            axes.set(title=title, xlabel="layer")
            if logarithmic:
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter(ScalarFormatter())
                axes.yaxis.set_minor_formatter(NullFormatter())
        add_outside_legend(figure, grid[0, 0], columns=legend_columns)
    return figure


def plot_similarity_curves(
    averaged: xr.Dataset, *, low: xr.DataArray, high: xr.DataArray
) -> Figure:
    """Plot the similarities of F1.1 over layers.

    Parameters
    ----------
    averaged : xarray.Dataset
        From :func:`ima.measures.cones.average_terms_by_curve`.
    low, high : xarray.DataArray
        Pointwise interval, ``(curve, layer)``.

    Returns
    -------
    matplotlib.figure.Figure
        One curve per similarity.

    Examples
    --------
    >>> low, high = compute_percentile_interval(averaged["draws"])  # doctest: +SKIP
    >>> plot_similarity_curves(averaged, low=low, high=high)  # doctest: +SKIP
    """
    with open_figure(height=3.8) as (figure, grid):
        axes = grid[0, 0]
        plot_named_curves(axes, averaged["estimate"], dim="curve", low=low, high=high)
        axes.set(xlabel=_X_LABEL, ylabel="mean cosine similarity")
        add_outside_legend(figure, axes, columns=2)
    return figure


def plot_modality_similarity(
    parts: Mapping[str, xr.Dataset], *, intervals: Mapping[str, tuple[xr.DataArray, xr.DataArray]]
) -> Figure:
    """Plot the similarities within each modality, in panels with the same y axis.

    Parameters
    ----------
    parts : mapping of str to xarray.Dataset
        By modality, from :func:`ima.measures.cones.average_terms_by_curve`.
    intervals : mapping of str to (low, high)
        By modality, the pointwise interval, each ``(curve, layer)``.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per modality.

    Examples
    --------
    >>> intervals = {"image": (low, high)}  # doctest: +SKIP
    >>> plot_modality_similarity({"image": averaged}, intervals=intervals)  # doctest: +SKIP
    """
    with open_figure(columns=len(parts), height=3.4, sharey=True) as (figure, grid):
        for axes, (modality, part) in zip(grid[0], parts.items(), strict=True):
            low, high = intervals[modality]
            plot_named_curves(axes, part["estimate"], dim="curve", low=low, high=high)
            axes.set(title=modality, xlabel="layer")
        grid[0, 0].set_ylabel("mean cosine similarity")
        fullest = max(grid[0], key=lambda axes: len(axes.lines))
        add_outside_legend(figure, fullest, columns=2)
    return figure


def plot_token_similarity(similarity_by_reduction: Mapping[str, xr.DataArray]) -> Figure:
    """Plot similarities of single tokens, one panel for each way to reduce pairs of tokens.

    Parameters
    ----------
    similarity_by_reduction : mapping of str to xarray.DataArray
        ``(curve, layer)``, from :func:`ima.measures.token_pairs.average_token_pair_terms`.

    Returns
    -------
    matplotlib.figure.Figure
        Panels with the same y axis.

    Examples
    --------
    >>> plot_token_similarity(average_token_pair_terms(terms))  # doctest: +SKIP
    """
    with open_panel_grid(
        len(similarity_by_reduction), base_height=0.8, row_height=2.2, sharey=True,
        ylabel="cosine of tokens",
    ) as (figure, grid, panels):  # fmt: skip
        for axes, (title, values) in zip(panels, similarity_by_reduction.items(), strict=True):
            plot_named_curves(axes, values, dim="curve")
            axes.set(title=title, xlabel="layer")
        add_outside_legend(figure, grid[0, 0], columns=3)
    return figure


def plot_cone_gaps(gap: xr.Dataset, *, low: xr.DataArray, high: xr.DataArray) -> Figure:
    """Plot how far PvsT lies below PvsP and TvsT.

    Parameters
    ----------
    gap : xarray.Dataset
        From :func:`ima.measures.cones.compute_cone_gaps`.
    low, high : xarray.DataArray
        Simultaneous band, ``(side, layer)``.

    Returns
    -------
    matplotlib.figure.Figure
        Two curves and the null.

    Examples
    --------
    >>> low, high = compute_simultaneous_band(gap["draws"])  # doctest: +SKIP
    >>> plot_cone_gaps(gap, low=low, high=high)  # doctest: +SKIP
    """
    with open_figure(height=3.0) as (figure, grid):
        axes = grid[0, 0]
        plot_named_curves(axes, gap["estimate"], dim="side", low=low, high=high, suffix=" − PvsT")
        plot_null_line(axes, 0, label="null: no difference")
        axes.set(xlabel=_X_LABEL, ylabel="difference of cosines")
        add_outside_legend(figure, axes)
    return figure


def plot_probe_accuracy(
    accuracies: Mapping[str, xr.Dataset], *, names: Mapping[str, str] | None = None
) -> Figure:
    """Plot the accuracy of linear probes over layers, with chance and permuted labels.

    Parameters
    ----------
    accuracies : mapping of str to xarray.Dataset
        By title, from :func:`ima.measures.separability.evaluate_linear_probe`.
    names : mapping of str to str or None
        By title, the series that selects the colour.

    Returns
    -------
    matplotlib.figure.Figure
        Panels with the same y axis.

    Examples
    --------
    >>> plot_probe_accuracy({"four modalities": accuracy})  # doctest: +SKIP
    """
    with open_panel_grid(
        len(accuracies), base_height=0.6, row_height=2.4, sharey=True, ylabel="balanced accuracy"
    ) as (figure, grid, panels):
        for axes, (title, probe) in zip(panels, accuracies.items(), strict=True):
            plot_layer_curve(
                axes, values=probe["accuracy"], low=probe["low"], high=probe["high"],
                name=(names or {}).get(title, "perceptual"), label="held-out samples",
            )  # fmt: skip
            plot_null_line(axes, probe.attrs["chance"], label="chance")
            if probe.sizes.get("permutation"):
                null = probe["null"]
                axes.fill_between(
                    probe["layer"], null.min("permutation"), null.max("permutation"),
                    color=SERIES_COLOURS["null"], alpha=0.3, linewidth=0,
                    label="permuted labels (range)",
                )  # fmt: skip
            axes.set(title=title, xlabel="layer", ylim=(0, 1.04))
        add_outside_legend(figure, grid[0, 0])
    return figure


def plot_silhouette_curves(silhouettes: xr.Dataset) -> Figure:
    """Plot the silhouette of each modality and of all over layers, with permuted classes.

    Parameters
    ----------
    silhouettes : xarray.Dataset
        From :func:`ima.measures.separability.compute_silhouette`.

    Returns
    -------
    matplotlib.figure.Figure
        A curve per class, and the mean over classes with its interval.

    Examples
    --------
    >>> plot_silhouette_curves(compute_silhouette(states, labels=labels))  # doctest: +SKIP
    """
    with open_figure(height=3.4) as (figure, grid):
        axes = grid[0, 0]
        plot_named_curves(axes, silhouettes["by_class"], dim="class")
        low, high = (silhouettes["draws"].quantile(q, "draw") for q in (0.025, 0.975))
        plot_layer_curve(
            axes, values=silhouettes["estimate"], low=low, high=high, name="perceptual",
            label="all",
        )  # fmt: skip
        axes.plot(
            silhouettes["layer"], silhouettes["null"].mean("permutation"),
            color=SERIES_COLOURS["null"], linestyle="--", label="permuted classes",
        )  # fmt: skip
        plot_null_line(axes, 0, label="null: on the border")
        axes.set(xlabel=_X_LABEL, ylabel="silhouette (cosine)")
        add_outside_legend(figure, axes)
    return figure


def plot_tsne_by_layer(
    embedding: xr.DataArray, *, classes: pd.Series[str], columns: int = 4
) -> Figure:
    """Plot the points of a t-SNE embedding, a panel per layer.

    Parameters
    ----------
    embedding : xarray.DataArray
        ``(layer, point, axis)``.
    classes : pandas.Series
        Modality of each point.
    columns : int
        Panels in a row.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per layer.

    Examples
    --------
    >>> plot_tsne_by_layer(compute_tsne(states), classes=listed["modality"])  # doctest: +SKIP
    """
    layers = embedding["layer"].to_numpy()
    with open_panel_grid(len(layers), columns=columns, base_height=0.7, row_height=1.9) as (
        figure,
        grid,
        panels,
    ):
        for axes, layer in zip(panels, layers, strict=True):
            for name in sorted(classes.unique()):
                x, y = embedding.sel(layer=layer).to_numpy()[(classes == name).to_numpy()].T
                axes.scatter(
                    x, y, s=7, alpha=0.6, linewidth=0, rasterized=True, label=name,
                    color=SERIES_COLOURS[name], marker=SERIES_MARKERS[name],
                )  # fmt: skip
            axes.set(title=f"layer {layer}", xticks=[], yticks=[])
        add_outside_legend(figure, grid[0, 0], columns=4)
        for handle in figure.legends[0].legend_handles:
            handle.set(sizes=[30], alpha=1)  # type: ignore[union-attr]
    return figure


def plot_norm_curves(norms: xr.DataArray, *, ylabel: str = "L2 norm") -> Figure:
    """Plot the norm of perceptual and textual tokens over layers, with the spread over samples.

    Parameters
    ----------
    norms : xarray.DataArray
        ``(sample, kind, layer)``.
    ylabel : str
        Label of the y axis.

    Returns
    -------
    matplotlib.figure.Figure
        Medians with the interquartile range of the samples.

    Examples
    --------
    >>> tree = ima.open_cache("data/caches/opt-image-qa.zarr")  # doctest: +SKIP
    >>> plot_norm_curves(tree["norms/resid_post/median"])  # doctest: +SKIP
    """
    with open_figure(height=3.0) as (figure, grid):
        axes = grid[0, 0]
        kinds = norms.dropna("kind", how="all")
        low, middle, high = (kinds.quantile(q, "sample") for q in (0.25, 0.5, 0.75))
        plot_named_curves(axes, middle, dim="kind", low=low, high=high)
        axes.set(xlabel="layer", ylabel=ylabel)
        add_outside_legend(figure, axes)
    return figure


def plot_paper_compat_curves(panels: Mapping[str, Mapping[str, xr.DataArray]]) -> Figure:
    """Plot curves computed here beside those of the released code.

    Parameters
    ----------
    panels : mapping of str to mapping
        By title, ``fixed`` and ``released`` ``(layer,)``, from
        :func:`ima.studies.paper_compat.compute_paper_compat_curves`. A title consists of the
        quantity and the difference, separated by a colon.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels in a row.

    Examples
    --------
    >>> plot_paper_compat_curves(compute_paper_compat_curves(cache_set))  # doctest: +SKIP
    """
    with open_panel_grid(len(panels), columns=2, base_height=0.6, row_height=2.4) as (
        figure,
        _,
        places,
    ):
        for axes, (title, curves) in zip(places, panels.items(), strict=True):
            for name, values in curves.items():
                plot_layer_curve(axes, values=values, name=name)
            quantity, _, difference = title.partition(": ")
            axes.set_title(difference, fontsize=9)
            axes.set(xlabel="layer", ylabel=quantity)
        add_outside_legend(figure, places[0])
    return figure
