"""Figures of subnetworks (F2): how far kept weights overlap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ima.figures.style import (
    SERIES_COLOURS,
    add_outside_legend,
    open_figure,
    plot_layer_curve,
    plot_null_line,
)

_LINES = ("-", "--", ":", "-.")


def plot_overlap_heatmap(matrix: pd.DataFrame) -> Figure:
    """Draw overlaps of all pairs of masks.

    Parameters
    ----------
    matrix : pandas.DataFrame
        Symmetric, named rows and columns, 1 on the diagonal.

    Returns
    -------
    matplotlib.figure.Figure
        A heat map with the numbers in it.
    """
    side = 0.42 * len(matrix) + 1.6
    with open_figure(height=side) as (figure, grid):
        axes = grid[0, 0]
        bar = {"label": "overlap (IoU)", "shrink": 0.8}
        _heat(axes, matrix, angle=45, annot_kws={"size": 7}, square=True, cbar_kws=bar)
    return figure


def plot_overlap_by_linear(
    overlap: xr.DataArray, *, chance: float, nulls: Mapping[str, xr.DataArray]
) -> Figure:
    """Draw overlaps over blocks, a curve per linear layer.

    Parameters
    ----------
    overlap : xarray.DataArray
        ``(linear, layer)``.
    chance : float
        Overlap of independent masks.
    nulls : mapping of str to xarray.DataArray
        Other nulls by name, ``(linear, layer)``; their means over linear layers are drawn.

    Returns
    -------
    matplotlib.figure.Figure
        One panel.
    """
    palette = sns.color_palette("colorblind", overlap.sizes["linear"])
    with open_figure(height=3.6) as (figure, grid):
        axes = grid[0, 0]
        for at, name in enumerate(overlap["linear"].to_numpy()):
            own = overlap.sel(linear=name)
            axes.plot(
                own["layer"],
                own,
                color=palette[at],
                linestyle=_LINES[at % len(_LINES)],
                marker="os^vDXP"[at % 7],
                label=str(name),
            )
        _nulls(axes, nulls, chance=chance)
        axes.set(xlabel="block", ylabel="overlap (IoU)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        add_outside_legend(figure, axes)
    return figure


def plot_overlap_by_modality(
    found: Mapping[float, Mapping[str, xr.DataArray]],
    *,
    nulls: Mapping[float, Mapping[str, xr.DataArray]],
) -> Figure:
    """Draw overlaps over blocks, a curve per modality, a panel per share left out.

    Parameters
    ----------
    found : mapping of float to mapping
        Share left out to modality to ``(layer,)``.
    nulls : mapping of float to mapping
        Share left out to nulls as of :func:`plot_overlap_by_linear`.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per share, on one scale, with chance.
    """
    from ima.measures.overlap import compute_chance_iou

    with open_figure(columns=len(found), height=3.2, sharey=True) as (figure, grid):
        for axes, (sparsity, parts) in zip(grid[0], found.items(), strict=True):
            for name, values in parts.items():
                plot_layer_curve(axes, values=values, name=name)
            _nulls(axes, nulls[sparsity], chance=compute_chance_iou(sparsity))
            axes.set(title=f"{sparsity:.0%} left out", xlabel="block")
        grid[0, 0].set_ylabel("overlap (IoU)")
        add_outside_legend(figure, grid[0, 0], columns=4)
    return figure


def _nulls(axes: Axes, nulls: Mapping[str, xr.DataArray], *, chance: float) -> None:
    """Draw what overlaps must exceed, in grey, each with dashes of its own."""
    for (name, values), line in zip(nulls.items(), ("--", "-."), strict=True):
        mean = values.mean("linear")
        axes.plot(mean["layer"], mean, color=SERIES_COLOURS["null"], linestyle=line, label=name)
    plot_null_line(axes, chance, label="chance")


def plot_mask_score_heatmap(
    matrix: pd.DataFrame, *, ylabel: str = "weights of the mask of …", xlabel: str = "task"
) -> Figure:
    """Draw scores of tasks with masks.

    Parameters
    ----------
    matrix : pandas.DataFrame
        Masks in rows, tasks in columns, scores in [0, 1].
    ylabel, xlabel : str
        What the rows are, and the columns.

    Returns
    -------
    matplotlib.figure.Figure
        A heat map with the numbers in it.
    """
    # Names of columns slant below the map: long ones need room of their own.
    longest = max(len(str(name)) for name in matrix.columns)
    with open_figure(height=0.36 * max(len(matrix), 2) + 1.2 + 0.05 * longest) as (figure, grid):
        axes = grid[0, 0]
        _heat(axes, matrix, angle=30, vmin=0, vmax=1, cbar_kws={"label": "task score"})
        axes.set(xlabel=xlabel, ylabel=ylabel)
    return figure


def _heat(axes: Axes, matrix: pd.DataFrame, *, angle: int, **given: Any) -> None:
    """Draw a heat map with its numbers, names of columns slanting."""
    sns.heatmap(matrix, ax=axes, annot=True, fmt=".2f", cmap="cividis", **given)
    axes.tick_params(left=False, bottom=False)
    axes.set_xticklabels(axes.get_xticklabels(), rotation=angle, ha="right")
