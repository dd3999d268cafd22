"""Figures of task scores: models between their floors and ceilings, and scores along training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ima.figures.phone import also_for_phones
from ima.figures.style import (
    SERIES_COLOURS,
    SERIES_MARKERS,
    add_outside_legend,
    get_series_style,
    open_axes,
    open_figure,
    open_panel_grid,
    plot_interval_line,
)

#: Marker and label of a reference score, by the prefix of its columns.
_REFERENCES = {
    "majority": ("+", "most frequent answer"),
    "none": ("x", "no perceptual tokens"),
    "words": ("|", "text-only ceiling"),
}
_ROW = 0.25  # inches
_TITLE = 0.45


@also_for_phones
def plot_scores_with_floors(
    scores: pd.DataFrame, *, xlabel: str, names: tuple[str, str] = ("score", "floor")
) -> Figure:
    """Plot scores with intervals beside their floors.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns ``name``, ``modality``, ``value``, ``low``, ``high``, and the last three with the
        prefix ``floor_``; NaN if there is no floor.
    xlabel : str
        Name of the score, and its unit.
    names : tuple of str
        Labels of scores and floors.

    Returns
    -------
    matplotlib.figure.Figure
        A row per model: a filled marker for the score, an open marker for the floor.

    Examples
    --------
    >>> row = {"name": "opt-mini", "modality": "text", "value": 0.9, "low": 0.8, "high": 1.0}
    >>> figure = plot_scores_with_floors(pd.DataFrame([row | {"floor_value": np.nan}]), xlabel="")
    >>> figure.axes[0].get_yticklabels()[0].get_text()
    'opt-mini'
    """
    height = 0.9 + 0.34 * len(scores)
    with open_axes(height, xlabel=xlabel, legend_columns=4) as (figure, axes):
        for place, row in enumerate(scores.to_dict("records")):
            _plot_dot(axes, row, place, "floor_", label=names[1])
            _plot_dot(axes, row, place, "", label=names[0])
        _name_rows(axes, scores)
    return figure


@also_for_phones
def plot_zoo_scores(scores: pd.DataFrame, *, xlabel: str) -> Figure:
    """Plot the score of every model between its floors and its ceiling, one panel per task.

    Parameters
    ----------
    scores : pandas.DataFrame
        From :func:`ima.metrics.score_tables.select_main_scores`, with ``group``, the title of the
        panel, and ``name``, the label of the row.
    xlabel : str
        Name of the score, and its unit.

    Returns
    -------
    matplotlib.figure.Figure
        Filled markers for scores, open markers for scores with the perceptual tokens of another
        sample, both with intervals.

    Examples
    --------
    >>> scores = select_main_scores(tabulate_card_scores(list_models()))  # doctest: +SKIP
    >>> rows = scores.assign(group=scores["task"], name=scores["model"])  # doctest: +SKIP
    >>> plot_zoo_scores(rows, xlabel="fraction of test samples")  # doctest: +SKIP
    """
    groups = list(dict.fromkeys(scores["group"]))
    sizes = [int((scores["group"] == group).sum()) for group in groups]
    ratios = [_ROW * size + _TITLE for size in sizes]
    with open_figure(
        rows=len(groups), height=sum(ratios) + 1.0, sharex=True, height_ratios=ratios
    ) as (figure, grid):
        for axes, group in zip(grid[:, 0], groups, strict=True):
            rows = scores[scores["group"] == group]
            for place, row in enumerate(rows.to_dict("records")):
                for prefix, (sign, label) in _REFERENCES.items():
                    size = 14 if sign == "|" else 6
                    value = row[f"{prefix}_value"]
                    axes.plot(value, place, sign, color="#4D4D4D", markersize=size, label=label)
                _plot_dot(axes, row, place, "floor_", label="tokens of another sample")
                _plot_dot(axes, row, place, "", label="score")
            _name_rows(axes, rows)
            axes.set_title(group)
        grid[-1, 0].set(xlabel=xlabel, xlim=(-0.03, 1.03))
        add_outside_legend(figure, grid[:, 0], columns=3)
    return figure


def _plot_dot(axes: Axes, row: Any, place: int, prefix: str, *, label: str) -> None:
    value, modality = row[f"{prefix}value"], row["modality"]
    if np.isfinite(value):
        ends = [[value - row[f"{prefix}low"]], [row[f"{prefix}high"] - value]]
        axes.errorbar(
            value, place, xerr=ends, capsize=2, fmt=SERIES_MARKERS[modality],
            color=SERIES_COLOURS[modality], fillstyle="none" if prefix else "full",
            label=f"{modality}: {label}",
        )  # fmt: skip


def _name_rows(axes: Axes, scores: pd.DataFrame) -> None:
    axes.set(yticks=range(len(scores)), ylim=(len(scores) - 0.5, -0.5))
    axes.set_yticklabels(scores["name"])


@also_for_phones
def plot_training_curves(scores: pd.DataFrame, *, ylabel: str) -> Figure:
    """Plot scores along training, one panel per task, one line per model.

    Parameters
    ----------
    scores : pandas.DataFrame
        From :func:`ima.metrics.score_tables.tabulate_checkpoint_scores`, with ``group``, the title
        of the panel.
    ylabel : str
        Name of the score, and its unit.

    Examples
    --------
    >>> scores = tabulate_checkpoint_scores(cards)  # doctest: +SKIP
    >>> plot_training_curves(scores.assign(group=scores["task"]), ylabel="exact match")
    ... # doctest: +SKIP
    """
    groups = list(dict.fromkeys(scores["group"]))
    label = "training steps of the connector"
    with open_panel_grid(groups, columns=len(groups), xlabel=label, ylabel=ylabel, sharey=True) as (
        figure,
        panels,
    ):
        for axes, group in zip(panels, groups, strict=True):
            rows = scores[scores["group"] == group]
            for (_, modality), run in rows.groupby(["model", "modality"], sort=False):
                style = get_series_style(modality)
                plot_interval_line(axes, run, x="step", label=modality, **style)
            axes.set_ylim(-0.03, 1.03)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    return figure
