"""Figures of curves over layers, with intervals, and of t-SNE embeddings layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from ima.figures.labels import number_title, split_series
from ima.figures.palette import SERIES_COLOURS, SERIES_MARKERS
from ima.figures.phone import also_for_phones
from ima.figures.style import (
    open_panel_grid,
    plot_layer_curve,
    plot_named_curves,
    plot_null_line,
    set_log_scale,
)
from ima.stats.intervals import compute_simultaneous_band


@also_for_phones
def plot_curve_panels(
    panels: Mapping[str, xr.Dataset],
    *,
    dim: str,
    ylabel: str | Mapping[str, str],
    xlabel: str = "layer",
    columns: int = 3,
    logarithmic: bool = False,
    sharey: bool = True,
    suffix: str = "",
    null: float | None = None,
    null_label: str = "",
) -> Figure:
    """Plot curves over layers, one for each label of a dim, in a panel per model or data set.

    Parameters
    ----------
    panels : mapping of str to xarray.Dataset
        By title, ``estimate`` ``(dim, layer)``, and either ``low`` and ``high``, the ends of an
        interval, or ``draws`` ``(draw, dim, layer)``, or neither.
    dim : str
        Its labels are the names of the series. Curves without a finite value are left out.
    ylabel : str or mapping of str to str
        Quantity and unit, of all panels or by title.
    xlabel : str
        Quantity and unit.
    columns : int
        Panels in a row.
    logarithmic : bool
        Logarithmic y axis.
    sharey : bool
        The same y axis for all panels.
    suffix : str
        Appended to the names in the legend; empty takes the labels of the series.
    null : float or None
        A value to mark in each panel, labelled ``null_label``.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per entry, or several where it has more than six curves; of draws, 95 %
        percentile intervals.

    Examples
    --------
    >>> panels = {"opt-mini (ST)": norms.mean("dataset")}  # doctest: +SKIP
    >>> plot_curve_panels(panels, dim="kind", ylabel="median L2 norm")  # doctest: +SKIP
    """
    parts = dict(_split_panels(panels, dim=dim))
    with open_panel_grid(
        parts, columns=columns, base_height=1.0, xlabel=xlabel, legend_columns=2, sharey=sharey,
        ylabel=ylabel if isinstance(ylabel, str) else "",
    ) as (figure, places):  # fmt: skip
        for axes, (title, curves) in zip(places, parts.items(), strict=True):
            if not isinstance(ylabel, str):
                axes.set_ylabel(ylabel[title])
            plot_named_curves(axes, curves, dim=dim, suffix=suffix)
            if null is not None:
                plot_null_line(axes, null, label=null_label)
            if logarithmic:
                set_log_scale(axes)
    return figure


def _split_panels(
    panels: Mapping[str, xr.Dataset], *, dim: str
) -> Iterator[tuple[str, xr.Dataset]]:
    """Yield panels of at most six curves, without those that have no finite value."""
    for title, curves in panels.items():
        finite = curves["estimate"].dropna(dim, how="all")
        parts = split_series(list(finite[dim].to_numpy()))
        for number, names in enumerate(parts):
            yield number_title(title, number, len(parts)), curves.sel({dim: names})


@also_for_phones
def plot_class_separation(silhouette: xr.Dataset, neighbours: xr.Dataset) -> Figure:
    """Plot the silhouette of each class, and how many states have a neighbour of their class.

    Parameters
    ----------
    silhouette : xarray.Dataset
        From :func:`ima.measures.separability.compute_silhouette`.
    neighbours : xarray.Dataset
        From :func:`ima.measures.neighbours.compare_nearest_neighbours`.

    Returns
    -------
    matplotlib.figure.Figure
        A panel each, with a curve per class; both nulls are dotted. The silhouette has a
        simultaneous band over layers and classes, the fraction over all classes its interval.

    Examples
    --------
    >>> plot_class_separation(silhouette, neighbours)  # doctest: +SKIP
    """
    low, high = compute_simultaneous_band(silhouette["draws"], estimate=silhouette["estimate"])
    panels = ("silhouette (cosine)", "neighbour of the same class")
    with open_panel_grid(panels, columns=2, xlabel="layer", base_height=0.9, legend_columns=4) as (
        figure,
        (left, right),
    ):
        plot_named_curves(left, silhouette.assign(low=low, high=high), dim="class")
        plot_null_line(left, 0, label="null")
        own = neighbours["by_class"].to_dataset(name="estimate")
        plot_named_curves(right, own, dim="class")
        right.fill_between(
            neighbours["layer"], neighbours["low"], neighbours["high"],
            color=SERIES_COLOURS["null"], alpha=0.3, linewidth=0, label="interval of all classes",
        )  # fmt: skip
        plot_null_line(right, neighbours.attrs["expected"], label="null")
        left.set_ylabel("mean silhouette")
        right.set(ylabel="fraction of states", ylim=(0, 1.04))
    return figure


@also_for_phones
def plot_tsne_by_layer(embedding: xr.DataArray, *, classes: pd.Series[str]) -> Figure:
    """Plot the points of a t-SNE embedding, a panel per layer.

    Parameters
    ----------
    embedding : xarray.DataArray
        ``(layer, point, axis)``.
    classes : pandas.Series
        Modality of each point.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per layer.

    Examples
    --------
    >>> plot_tsne_by_layer(compute_tsne(states), classes=listed["modality"])  # doctest: +SKIP
    """
    layers = embedding["layer"].to_numpy()
    titles = [f"layer {layer}" for layer in layers]
    with open_panel_grid(titles, columns=4, row_height=1.9, legend_columns=4) as (figure, panels):
        for axes, layer in zip(panels, layers, strict=True):
            for name in sorted(classes.unique()):
                x, y = embedding.sel(layer=layer).to_numpy()[(classes == name).to_numpy()].T
                axes.scatter(
                    x, y, s=7, alpha=0.6, linewidth=0, rasterized=True, label=name,
                    color=SERIES_COLOURS[name], marker=SERIES_MARKERS[name],
                )  # fmt: skip
            axes.set(xticks=[], yticks=[])
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes)]
    for handle in next(legend for legend in legends if legend is not None).legend_handles:
        handle.set(sizes=[30], alpha=1)  # type: ignore[union-attr]
    return figure


@also_for_phones
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
    kinds = norms.dropna("kind", how="all")
    quartiles = kinds.quantile([0.25, 0.5, 0.75], "sample")
    curves = quartiles.assign_coords(quantile=["low", "estimate", "high"]).to_dataset("quantile")
    return plot_curve_panels({"": curves}, dim="kind", ylabel=ylabel)


@also_for_phones
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
    with open_panel_grid(panels, columns=2, xlabel="layer") as (figure, places):
        for axes, (title, curves) in zip(places, panels.items(), strict=True):
            for name, values in curves.items():
                plot_layer_curve(axes, values=values, name=name)
            quantity, _, difference = title.partition(": ")
            axes.set_title(difference, fontsize=9)
            axes.set_ylabel(quantity)
    return figure
