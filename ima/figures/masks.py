"""Figures of pruning masks (F2, I4): overlaps of masks, scores with masks, sparsity."""

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
    get_numbered_style,
    open_figure,
    open_panel_grid,
    plot_layer_curve,
    plot_null_line,
)
from ima.measures.overlap import compute_chance_iou

_LINES = ("-", "--", "-.", ":")
#: Horizontal distance of two masks of the same sparsity, so that their error bars do not overlap.
_OFFSET = 0.007


def plot_overlap_heatmap(matrix: pd.DataFrame) -> Figure:
    """Plot the overlaps of all pairs of masks as a heat map.

    Parameters
    ----------
    matrix : pandas.DataFrame
        Symmetric, with named rows and columns, 1 on the diagonal.

    Examples
    --------
    >>> plot_overlap_heatmap(overlaps.matrix)  # doctest: +SKIP
    """
    with open_figure(height=0.42 * len(matrix) + 1.6) as (figure, grid):
        bar = {"label": "overlap (IoU)", "shrink": 0.8}
        _plot_heatmap(
            grid[0, 0], matrix, angle=45, annot_kws={"size": 7}, square=True, cbar_kws=bar
        )
    return figure


def plot_overlap_by_linear(
    overlap: xr.DataArray, *, chance: float, nulls: Mapping[str, xr.DataArray]
) -> Figure:
    """Plot overlaps over blocks, a curve per linear layer.

    Parameters
    ----------
    overlap : xarray.DataArray
        ``(linear, layer)``.
    chance : float
        Expected overlap of independent masks.
    nulls : mapping of str to xarray.DataArray
        Other nulls by name, ``(linear, layer)``; the mean over linear layers is plotted.

    Examples
    --------
    >>> plot_overlap_by_linear(parts, chance=1 / 3, nulls=overlaps.nulls)  # doctest: +SKIP
    """
    palette = sns.color_palette("colorblind", overlap.sizes["linear"])
    with open_figure(height=3.6) as (figure, grid):
        axes = grid[0, 0]
        for i, name in enumerate(overlap["linear"].to_numpy()):
            curve = overlap.sel(linear=name)
            axes.plot(
                curve["layer"], curve, color=palette[i], linestyle=("-", "--", ":", "-.")[i % 4],
                marker="os^vDXP"[i % 7], label=str(name),
            )  # fmt: skip
        _plot_nulls(axes, nulls, chance=chance)
        axes.set(xlabel="block", ylabel="overlap (IoU)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        add_outside_legend(figure, axes)
    return figure


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
    with open_figure(columns=len(overlaps), height=3.2, sharey=True) as (figure, grid):
        for axes, (sparsity, by_modality) in zip(grid[0], overlaps.items(), strict=True):
            for name, values in by_modality.items():
                plot_layer_curve(axes, values=values, name=name)
            _plot_nulls(axes, nulls[sparsity], chance=compute_chance_iou(sparsity))
            axes.set(title=f"sparsity {sparsity:.0%}", xlabel="block")
        grid[0, 0].set_ylabel("overlap (IoU)")
        add_outside_legend(figure, grid[0, 0], columns=4)
    return figure


def _plot_nulls(axes: Axes, nulls: Mapping[str, xr.DataArray], *, chance: float) -> None:
    for (name, values), line in zip(nulls.items(), ("--", "-."), strict=True):
        mean = values.mean("linear")
        axes.plot(mean["layer"], mean, color=SERIES_COLOURS["null"], linestyle=line, label=name)
    plot_null_line(axes, chance, label="chance")


def plot_mask_score_heatmap(
    matrix: pd.DataFrame, *, ylabel: str = "weights of the mask of …", xlabel: str = "task"
) -> Figure:
    """Plot the scores of tasks with masks as a heat map.

    Parameters
    ----------
    matrix : pandas.DataFrame
        Masks in rows, tasks in columns, scores in [0, 1].
    ylabel, xlabel : str
        Labels of rows and columns.

    Examples
    --------
    >>> plot_mask_score_heatmap(tabulate_mask_scores(rows, titles=titles))  # doctest: +SKIP
    """
    # Slanted names of columns need room below the map.
    longest = max(len(str(name)) for name in matrix.columns)
    with open_figure(height=0.36 * max(len(matrix), 2) + 1.2 + 0.05 * longest) as (figure, grid):
        axes, bar = grid[0, 0], {"label": "task score"}
        _plot_heatmap(axes, matrix, angle=30, vmin=0, vmax=1, cbar_kws=bar)
        axes.set(xlabel=xlabel, ylabel=ylabel)
    return figure


def _plot_heatmap(axes: Axes, matrix: pd.DataFrame, *, angle: int, **options: Any) -> None:
    sns.heatmap(matrix, ax=axes, annot=True, fmt=".2f", cmap="cividis", **options)
    axes.tick_params(left=False, bottom=False)
    axes.set_xticklabels(axes.get_xticklabels(), rotation=angle, ha="right")


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
    with open_panel_grid(
        len(tasks), columns=3, base_height=1.0, row_height=2.2, sharey=True, sharex=True,
        ylabel="task score",
    ) as (figure, grid, panels):  # fmt: skip
        for axes, task in zip(panels, tasks, strict=True):
            own = sweep[sweep["task"] == task]
            axes.axhline(own["whole"].iloc[0], color=SERIES_COLOURS["null"], linestyle=":")
            for i, mask in enumerate(masks):
                rows = own[own["mask"] == mask].sort_values("sparsity")
                offset = (i - (len(masks) - 1) / 2) * _OFFSET
                axes.errorbar(
                    rows["sparsity"] + offset, rows["value"],
                    yerr=[rows["value"] - rows["low"], rows["high"] - rows["value"]],
                    **get_numbered_style(i),
                    linestyle=_LINES[i % len(_LINES)], elinewidth=0.8, label=mask,
                )  # fmt: skip
            axes.set_title(task)
            axes.margins(x=0.1)
            if len(set(sparsities)) == 1:
                # The offsets alone would set the scale.
                axes.set_xlim(sparsities.iloc[0] - 0.1, sparsities.iloc[0] + 0.1)
            axes.tick_params(labelbottom=True)
        for axes in panels[-grid.shape[1] :]:
            axes.set_xlabel("sparsity")
        add_outside_legend(figure, panels[0], columns=3)
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
        A curve per linear layer; the dotted line is the expectation for independent tasks.

    Examples
    --------
    >>> chance = compute_chance_agreement(6, sparsity=0.5)  # doctest: +SKIP
    >>> plot_vote_agreement(compute_vote_agreement(masks), chance_agreement=chance)
    ... # doctest: +SKIP
    """
    with open_figure(height=3.8) as (figure, grid):
        axes = grid[0, 0]
        for i, (name, ratios) in enumerate(agreement.iterrows()):
            line = _LINES[i % len(_LINES)]
            axes.plot(ratios.index, ratios, **get_numbered_style(i), linestyle=line, label=name)
        axes.plot(
            chance_agreement.index, chance_agreement, color=SERIES_COLOURS["null"], linestyle=":",
            label="if tasks chose independently",
        )  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(
            xlabel="number of tasks whose mask drops a weight", ylabel="fraction of removed weights"
        )
        axes.set_ylim(bottom=0)
        add_outside_legend(figure, axes, columns=3)
    return figure


def plot_sparsity_heatmap(sparsities: pd.DataFrame) -> Figure:
    """Plot the sparsity of each linear layer as a heat map.

    Parameters
    ----------
    sparsities : pandas.DataFrame
        From :func:`ima.pruning.alpha_subnet.compute_layer_sparsity`: blocks in rows.

    Returns
    -------
    matplotlib.figure.Figure
        Linear layers in rows, blocks in columns.

    Examples
    --------
    >>> plot_sparsity_heatmap(compute_layer_sparsity(mask))  # doctest: +SKIP
    """
    with open_figure(height=0.36 * sparsities.shape[1] + 1.3) as (figure, grid):
        axes = grid[0, 0]
        sns.heatmap(
            sparsities.T, ax=axes, annot=True, fmt=".2f", cmap="cividis",
            annot_kws={"size": "small"}, cbar_kws={"label": "sparsity"},
        )  # fmt: skip
        axes.tick_params(left=False, bottom=False)
        axes.set(xlabel="block", ylabel="")
    return figure
