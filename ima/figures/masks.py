"""Figures of pruning masks (F2, I4): overlaps of masks, scores with masks, sparsity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ima.figures.contrast import set_readable_numerals
from ima.figures.labels import number_title, split_series
from ima.figures.palette import SERIES_COLOURS, get_list_style
from ima.figures.phone import SMALL_TEXT, also_for_phones
from ima.figures.style import (
    open_axes,
    open_panel_grid,
    plot_interval_points,
    plot_layer_curve,
    plot_null_line,
)
from ima.measures.overlap import compute_chance_iou

#: Cells of more columns are too narrow for their numbers.
_MOST_NUMBERS = 14
_LINES = ("-", "--", "-.", ":")
#: Horizontal distance of two masks of the same sparsity, so that their error bars do not overlap.
_OFFSET = 0.007


def plot_heatmap(
    matrix: pd.DataFrame, *, label: str, xlabel: str = "", ylabel: str = "", **options: Any
) -> Figure:
    """Plot a heat map with its numbers, for example of overlaps of masks, or of task scores.

    Parameters
    ----------
    matrix : pandas.DataFrame
        Numbers with named rows and columns.
    label : str
        What the numbers are.
    xlabel, ylabel : str
        What the columns and the rows are.
    **options
        Passed to ``seaborn.heatmap``.

    Returns
    -------
    matplotlib.figure.Figure
        Long names of columns are slanted. Of more than 14 columns, colours alone show the numbers.

    Examples
    --------
    >>> figure = plot_heatmap(pd.DataFrame({"q": [0.25]}, index=["block 1"]), label="sparsity")
    >>> figure.axes[0].texts[0].get_text()
    '0.25'
    """
    # Slanted names of columns need room below the map.
    longest = max(len(str(name)) for name in matrix.columns)
    numbers = matrix.shape[1] <= _MOST_NUMBERS
    with open_axes(0.36 * max(len(matrix), 2) + 1.2 + 0.05 * longest) as (figure, axes):
        style = {"annot": numbers, "fmt": ".2f", "cmap": "cividis"}
        style |= {"annot_kws": {"fontsize": SMALL_TEXT}} if numbers else {}
        if not numbers:
            style["xticklabels"] = -(-matrix.shape[1] // _MOST_NUMBERS)  # every so many
        sns.heatmap(matrix, ax=axes, cbar_kws={"label": label}, **style | options)
        set_readable_numerals(axes)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.tick_params(left=False, bottom=False)
        axes.grid(visible=False)  # it would show through empty cells
        axes.set_yticklabels(axes.get_yticklabels(), rotation=0)
        if longest > 3:
            axes.set_xticklabels(axes.get_xticklabels(), rotation=30, ha="right")
    return figure


def plot_overlap_by_linear(
    overlap: xr.DataArray, *, chance: float, nulls: Mapping[str, xr.DataArray]
) -> Figure:
    """Plot overlaps over blocks as a heat map: their curves would coincide.

    Parameters
    ----------
    overlap : xarray.DataArray
        ``(linear, layer)``.
    chance : float
        Expected overlap of independent masks.
    nulls : mapping of str to xarray.DataArray
        Other nulls by name, ``(linear, layer)``; the mean over linear layers is plotted.

    Returns
    -------
    matplotlib.figure.Figure
        A row per linear layer; below a line, a row per null.

    Examples
    --------
    >>> plot_overlap_by_linear(parts, chance=1 / 3, nulls=overlaps.nulls)  # doctest: +SKIP
    """
    linears, layers = overlap["linear"].to_index(), overlap["layer"].to_index()
    rows = {f"null: {name}": values.mean("linear").to_numpy() for name, values in nulls.items()}
    rows["null: chance"] = np.full(len(layers), chance)
    table = pd.concat(
        [
            pd.DataFrame(overlap.to_numpy(), linears, layers),
            pd.DataFrame(list(rows.values()), list(rows), layers),
        ]
    )
    figure = plot_heatmap(table, label="overlap (IoU)", xlabel="block")
    figure.axes[0].axhline(len(linears), color="white", linewidth=4)
    return figure


@also_for_phones
def plot_overlap_by_modality(
    overlaps: Mapping[float, Mapping[str, xr.DataArray]],
    *,
    nulls: Mapping[float, Mapping[str, xr.DataArray]],
) -> Figure:
    """Plot overlaps over blocks, a curve per modality, a panel per sparsity.

    Parameters
    ----------
    overlaps : mapping of float to mapping
        By sparsity and modality, ``(layer,)``.
    nulls : mapping of float to mapping
        By sparsity, nulls as in :func:`plot_overlap_by_linear`.

    Returns
    -------
    matplotlib.figure.Figure
        Panels with the same y axis, with chance.

    Examples
    --------
    >>> plot_overlap_by_modality({0.5: by_modality}, nulls={0.5: overlaps.nulls})
    ... # doctest: +SKIP
    """
    titles = [f"sparsity {sparsity:.0%}" for sparsity in overlaps]
    with open_panel_grid(
        titles, columns=len(titles), xlabel="block", ylabel="overlap (IoU)", legend_columns=4,
        sharey=True,
    ) as (figure, panels):  # fmt: skip
        for axes, (sparsity, by_modality) in zip(panels, overlaps.items(), strict=True):
            for name, values in by_modality.items():
                plot_layer_curve(axes, values=values, name=name)
            _plot_nulls(axes, nulls[sparsity], chance=compute_chance_iou(sparsity))
    return figure


def _plot_nulls(axes: Axes, nulls: Mapping[str, xr.DataArray], *, chance: float) -> None:
    for (name, values), line in zip(nulls.items(), ("--", "-."), strict=True):
        mean = values.mean("linear")
        axes.plot(mean["layer"], mean, color=SERIES_COLOURS["null"], linestyle=line, label=name)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    plot_null_line(axes, chance, label="chance")


@also_for_phones
def plot_score_by_sparsity(sweep: pd.DataFrame) -> Figure:
    """Plot the score of each mask over its sparsity.

    Parameters
    ----------
    sweep : pandas.DataFrame
        ``task``, ``mask``, ``sparsity``, ``value``, ``low``, ``high``, and ``whole``: the score of
        the whole model.

    Returns
    -------
    matplotlib.figure.Figure
        A panel per task, a curve per mask with 95 % intervals; the dotted line is the whole model.

    Examples
    --------
    >>> plot_score_by_sparsity(sweep)  # doctest: +SKIP
    """
    masks = list(dict.fromkeys(sweep["mask"]))
    tasks = list(dict.fromkeys(sweep["task"]))
    sparsities = sweep["sparsity"]
    parts = split_series(masks)
    shown = [(task, part, number) for task in tasks for number, part in enumerate(parts)]
    titles = [number_title(task, number, len(parts)) for task, _, number in shown]
    with open_panel_grid(
        titles, xlabel="sparsity (fraction of weights)", ylabel="task score", sharey=True,
        sharex=True,
    ) as (figure, panels):  # fmt: skip
        for axes, (task, part, _) in zip(panels, shown, strict=True):
            own = sweep[sweep["task"] == task]
            axes.axhline(own["whole"].iloc[0], color=SERIES_COLOURS["null"], linestyle=":")
            for place, mask in enumerate(part):
                rows = own[own["mask"] == mask].sort_values("sparsity")
                offset = (place - (len(part) - 1) / 2) * _OFFSET
                number = masks.index(mask)
                plot_interval_points(
                    axes, rows["sparsity"] + offset, rows, **get_list_style(number),
                    linestyle=_LINES[number % len(_LINES)], label=mask,
                )  # fmt: skip
            axes.margins(x=0.1)
            if len(set(sparsities)) == 1:
                # The offsets alone would set the scale.
                axes.set_xlim(sparsities.iloc[0] - 0.1, sparsities.iloc[0] + 0.1)
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.tick_params(labelbottom=True)
    return figure


def plot_vote_agreement(agreement: pd.DataFrame, *, chance_agreement: pd.Series[float]) -> Figure:
    """Plot how many tasks drop a weight, among the weights that at least one task drops.

    Parameters
    ----------
    agreement : pandas.DataFrame
        From :func:`ima.pruning.mask_comparison.compute_vote_agreement`: linear layers in rows.
    chance_agreement : pandas.Series
        From :func:`ima.pruning.mask_comparison.compute_chance_agreement`.

    Returns
    -------
    matplotlib.figure.Figure
        A heat map with a row per linear layer; below a line, what is expected of independent tasks.

    Examples
    --------
    >>> chance = compute_chance_agreement(6, sparsity=0.5)  # doctest: +SKIP
    >>> plot_vote_agreement(compute_vote_agreement(masks), chance_agreement=chance)
    ... # doctest: +SKIP
    """
    table = pd.concat([agreement, chance_agreement.to_frame("if tasks chose independently").T])
    label = "number of tasks whose mask drops a weight"
    figure = plot_heatmap(table, label="fraction of removed weights", xlabel=label, vmin=0)
    figure.axes[0].axhline(len(agreement), color="white", linewidth=4)
    return figure
