"""Figures of the zoo: how good its models are, and how they came to be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ima.figures.style import SERIES_COLOURS, SERIES_MARKERS, add_outside_legend, open_figure

#: Marker and name of what stands beside a score, by the prefix of its columns.
_BESIDE = {
    "majority": ("+", "most frequent answer"),
    "none": ("x", "no percepts"),
    "words": ("|", "ceiling: told in words"),
}
_ROW = 0.25  # inches
_TITLE = 0.45


def plot_zoo_scores(scores: pd.DataFrame, *, xlabel: str) -> Figure:
    """Draw every model's score between its floors and its ceiling, one panel a task.

    Parameters
    ----------
    scores : pandas.DataFrame
        From :func:`ima.metrics.score_tables.select_main_scores`, with ``group``, the panel's title, and
        ``name``, the row's.
    xlabel : str
        What the score is, with its unit.

    Returns
    -------
    matplotlib.figure.Figure
        Filled: the score; open: with another sample's percepts; both with intervals.
    """
    groups = list(dict.fromkeys(scores["group"]))
    sizes = [int((scores["group"] == group).sum()) for group in groups]
    ratios = [_ROW * size + _TITLE for size in sizes]
    with open_figure(
        rows=len(groups), height=sum(ratios) + 1.0, sharex=True, height_ratios=ratios
    ) as (
        figure,
        grid,
    ):
        for axes, group in zip(grid[:, 0], groups, strict=True):
            _rungs(axes, scores[scores["group"] == group])
            axes.set_title(group)
        grid[-1, 0].set(xlabel=xlabel, xlim=(-0.03, 1.03))
        add_outside_legend(figure, grid[:, 0], columns=3)
    return figure


def _rungs(axes: Axes, scores: pd.DataFrame) -> None:
    for place, row in enumerate(scores.to_dict("records")):
        colour, marker = SERIES_COLOURS[row["modality"]], SERIES_MARKERS[row["modality"]]
        for prefix, (sign, label) in _BESIDE.items():
            size = 14 if sign == "|" else 6
            axes.plot(
                row[f"{prefix}_value"], place, sign, color="#4D4D4D", markersize=size, label=label
            )
        _dot(axes, row, place, "floor_", color=colour, fmt=marker, fillstyle="none")
        _dot(axes, row, place, "", color=colour, fmt=marker)
    axes.set(yticks=range(len(scores)), ylim=(len(scores) - 0.5, -0.5))
    axes.set_yticklabels(scores["name"])


def _dot(axes: Axes, row: Any, place: int, prefix: str, **style: Any) -> None:
    value = row[f"{prefix}value"]
    if np.isfinite(value):
        ends = [[value - row[f"{prefix}low"]], [row[f"{prefix}high"] - value]]
        label = f"{row['modality']}: " + ("another's percepts" if prefix else "score")
        axes.errorbar(value, place, xerr=ends, capsize=2, label=label, **style)


def plot_training_curves(scores: pd.DataFrame, *, ylabel: str) -> Figure:
    """Draw scores along training, one panel a task, one line a model.

    Parameters
    ----------
    scores : pandas.DataFrame
        From :func:`ima.metrics.score_tables.tabulate_checkpoint_scores`, with ``group``, the panel's title.
    ylabel : str
        What the score is, with its unit.
    """
    groups = list(dict.fromkeys(scores["group"]))
    with open_figure(columns=len(groups), height=3.2, sharey=True) as (figure, grid):
        for axes, group in zip(grid[0], groups, strict=True):
            for (_, modality), line in scores[scores["group"] == group].groupby(
                ["model", "modality"], sort=False
            ):
                at = line.sort_values("step")
                axes.plot(
                    at["step"],
                    at["value"],
                    color=SERIES_COLOURS[modality],
                    marker=SERIES_MARKERS[modality],
                    label=modality,
                )
                axes.fill_between(
                    at["step"],
                    at["low"],
                    at["high"],
                    color=SERIES_COLOURS[modality],
                    alpha=0.18,
                    lw=0,
                )
            axes.set(title=group, xlabel="training steps of the connector", ylim=(-0.03, 1.03))
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        grid[0, 0].set_ylabel(ylabel)
        add_outside_legend(figure, grid[0], columns=3)
    return figure
