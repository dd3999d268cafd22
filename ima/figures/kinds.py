"""Figures that set perceptual beside textual tokens, a panel for each model or data set."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from ima.figures.style import canvas, curve, null_line, outside_legend
from ima.measures.inference import percentile


def kind_panels(
    panels: Mapping[str, xr.Dataset],
    *,
    ylabel: str,
    columns: int = 3,
    logarithmic: bool = False,
    sharey: bool = True,
    null: float | None = None,
    null_label: str = "",
) -> Figure:
    """Draw a statistic of perceptual and of textual tokens over layers.

    Parameters
    ----------
    panels : mapping of str to xarray.Dataset
        Title to ``estimate`` ``(kind, layer)`` and ``draws`` ``(draw, kind, layer)``.
    ylabel : str
        What is drawn, with its unit.
    columns : int
        Panels in a row.
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
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    with canvas(rows=rows, columns=columns, height=0.7 + 2.3 * rows, sharey=sharey) as (
        figure,
        grid,
    ):
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        for axes, (title, found) in zip(grid.flat, panels.items(), strict=False):
            low, high = percentile(found["draws"])
            for kind in found["kind"].to_numpy():
                own = [side.sel(kind=kind) for side in (found["estimate"], low, high)]
                if np.isfinite(own[0]).any():
                    curve(axes, values=own[0], low=own[1], high=own[2], name=str(kind))
            if null is not None:
                null_line(axes, null, label=null_label)
            axes.set_title(title)
            axes.set_xlabel("layer")
            if logarithmic:
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter(ScalarFormatter())
                axes.yaxis.set_minor_formatter(NullFormatter())
        for axes in grid[:, 0]:
            axes.set_ylabel(ylabel)
        outside_legend(figure, grid[0, 0])
    return figure


def divergence_panels(panels: Mapping[str, xr.Dataset], *, columns: int = 3) -> Figure:
    """Draw divergences between distributions over the vocabulary, a panel per model.

    Parameters
    ----------
    panels : mapping of str to xarray.Dataset
        Title to the result of :func:`ima.measures.vocabulary.curves`.
    columns : int
        Panels in a row.

    Returns
    -------
    matplotlib.figure.Figure
        A curve per sort of divergence, averaged over data sets or pairs of them.
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    height = 0.9 + 2.3 * rows
    with canvas(rows=rows, columns=columns, height=height, sharey=True) as (figure, grid):
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        for axes, (title, found) in zip(grid.flat, panels.items(), strict=False):
            for name in dict.fromkeys(found["curve"].to_numpy().tolist()):
                own = found.isel(term=found["curve"].to_numpy() == name).mean("term")
                low, high = percentile(own["draws"])
                curve(axes, values=own["estimate"], low=low, high=high, name=str(name))
            axes.set(title=title, xlabel="layer")
        for axes in grid[:, 0]:
            axes.set_ylabel("divergence (nats)")
        outside_legend(figure, grid[0, 0], columns=2)
    return figure


def reading_panels(panels: Mapping[str, Mapping[str, xr.DataArray]]) -> Figure:
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
    rows = -(-len(panels) // 2)
    with canvas(rows=rows, columns=2, height=0.6 + 2.4 * rows) as (figure, grid):
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        for axes, (title, curves) in zip(grid.flat, panels.items(), strict=False):
            for name, values in curves.items():
                curve(axes, values=values, name=name)
            what, _, how = title.partition(": ")
            axes.set_title(how, fontsize=9)
            axes.set(xlabel="layer", ylabel=what)
        outside_legend(figure, grid[0, 0])
    return figure
