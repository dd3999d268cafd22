"""Curves over layers in panels: a statistic with intervals, and both readings of a formula."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from ima.figures.style import add_outside_legend, open_panel_grid, plot_layer_curve, plot_null_line
from ima.stats.intervals import compute_percentile_interval


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
    """Draw curves over layers that one dim tells apart, a panel for each model or data set.

    Parameters
    ----------
    panels : mapping of str to xarray.Dataset
        Title to ``estimate`` ``(dim, layer)`` and ``draws`` ``(draw, dim, layer)``.
    dim : str
        Its labels choose colours and names. One that has no finite number is left out.
    ylabel : str
        What is drawn, with its unit.
    columns, legend_columns : int
        Panels and entries of the legend in a row.
    logarithmic : bool
        Whether the y axis is.
    sharey : bool
        Whether all panels have one scale.
    null : float or None
        A value to mark in each panel, named ``null_label``.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per entry, with 95 % percentile intervals.
    """
    with open_panel_grid(len(panels), columns=columns, base=1.1, row=2.3, sharey=sharey) as (
        figure,
        grid,
        places,
    ):
        for axes, (title, found) in zip(places, panels.items(), strict=True):
            low, high = compute_percentile_interval(found["draws"])
            for name in found[dim].to_numpy():
                own = [side.sel({dim: name}) for side in (found["estimate"], low, high)]
                if np.isfinite(own[0]).any():
                    plot_layer_curve(axes, values=own[0], low=own[1], high=own[2], name=str(name))
            if null is not None:
                plot_null_line(axes, null, label=null_label)
            axes.set(title=title, xlabel="layer")
            if logarithmic:
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter(ScalarFormatter())
                axes.yaxis.set_minor_formatter(NullFormatter())
        for axes in grid[:, 0]:
            axes.set_ylabel(ylabel)
        add_outside_legend(figure, grid[0, 0], columns=legend_columns)
    return figure


def plot_paper_compat_curves(panels: Mapping[str, Mapping[str, xr.DataArray]]) -> Figure:
    """Draw curves as they are computed here beside those of the released code.

    Parameters
    ----------
    panels : mapping of str to mapping
        Title to ``fixed`` and ``released``, each ``(layer,)``.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels in a row.
    """
    with open_panel_grid(len(panels), columns=2, base=0.6, row=2.4) as (figure, _, places):
        for axes, (title, curves) in zip(places, panels.items(), strict=True):
            for name, values in curves.items():
                plot_layer_curve(axes, values=values, name=name)
            what, _, how = title.partition(": ")
            axes.set_title(how, fontsize=9)
            axes.set(xlabel="layer", ylabel=what)
        add_outside_legend(figure, places[0])
    return figure
