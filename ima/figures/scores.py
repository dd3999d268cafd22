"""Figures of task scores: models between their floors and ceilings, and scores along training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ima.figures.labels import add_outside_legend, number_title, split_series
from ima.figures.palette import SERIES_COLOURS, SERIES_MARKERS, get_list_style
from ima.figures.phone import also_for_phones
from ima.figures.style import (
    make_error_bars,
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
        ends = make_error_bars(value, low=row[f"{prefix}low"], high=row[f"{prefix}high"])
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
    """Plot scores along training, one panel per task and modality, one line per model.

    Parameters
    ----------
    scores : pandas.DataFrame
        From :func:`ima.metrics.score_tables.tabulate_checkpoint_scores`, with ``group``, the task,
        and ``name``, the label of the curve.
    ylabel : str
        Name of the score, and its unit.

    Returns
    -------
    matplotlib.figure.Figure
        A row per modality with a panel per task; at most six models in a panel. A model looks the
        same in all panels.

    Examples
    --------
    >>> scores = tabulate_checkpoint_scores(cards)  # doctest: +SKIP
    >>> rows = scores.assign(group=scores["task"], name=scores["model"])  # doctest: +SKIP
    >>> plot_training_curves(rows, ylabel="fraction of samples")  # doctest: +SKIP
    """
    panels: dict[str, pd.DataFrame] = {}
    # Models of one modality follow each other, so that no two of a panel have the same colour.
    every = list(dict.fromkeys(scores.sort_values("modality", kind="stable")["name"]))
    groups = list(dict.fromkeys(scores["group"]))
    for modality, own in scores.groupby("modality", sort=False):
        names = list(dict.fromkeys(own["name"]))
        parts = split_series(names)
        for number, part in enumerate(parts):
            for group in groups:
                title = number_title(f"{modality} {group}", number, len(parts))
                rows = own[(own["group"] == group) & own["name"].isin(part)]
                panels |= {title: rows} if len(rows) else {}
    label = "training steps of the connector"
    with open_panel_grid(
        panels, columns=len(groups), row_height=2.1, xlabel=label, ylabel=ylabel, sharey=True
    ) as (figure, places):
        for axes, rows in zip(places, panels.values(), strict=True):
            for name, run in rows.groupby("name", sort=False):
                style = get_list_style(every.index(str(name)))
                plot_interval_line(axes, run, x="step", label=name, markersize=3.5, **style)
            axes.set_ylim(-0.03, 1.03)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    return figure
