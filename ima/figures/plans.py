"""Figures of token reduction (I3): scores against cost, skipped tokens against pruned tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ima.figures.contrast import set_readable_numerals
from ima.figures.labels import name_points
from ima.figures.palette import LIST_COLOURS, SERIES_COLOURS, get_list_style, get_series_style
from ima.figures.phone import SMALL_TEXT, also_for_phones
from ima.figures.style import (
    make_error_bars,
    open_axes,
    open_figure,
    open_panel_grid,
    plot_interval_line,
    plot_interval_points,
    plot_null_line,
)

#: Short labels of the costs in a report: of the prompt, and the time of prompt and answer.
_COST_LABELS = {
    "gflops ratio": "operations",
    "cached ratio": "KV cache",
    "whole ratio": "time",
}


@also_for_phones
def plot_plans(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Plot the score and the costs of each plan, a row per plan.

    Parameters
    ----------
    tables : mapping of str to pandas.DataFrame
        By title, from :func:`ima.token_reduction.report.compare_plans`, all with the same plans.

    Returns
    -------
    matplotlib.figure.Figure
        A panel per table with scores and their 95 % intervals, and a panel per cost that the first
        table has. The dotted lines are the score and the cost of the unreduced model.

    Examples
    --------
    >>> plot_plans({"questions": compare_plans(model, samples, plans).table})  # doctest: +SKIP
    """
    first = next(iter(tables.values()))
    costs = {name: label for name, label in _COST_LABELS.items() if name in first}
    places = range(len(first))
    columns = len(tables) + len(costs)
    height = 0.9 + 0.21 * len(first)
    with open_figure(columns=columns, height=height, sharey=True) as (figure, grid):
        panels = iter(grid[0])
        for (title, table), axes in zip(tables.items(), panels, strict=False):
            for place, row in zip(places, table.to_dict("records"), strict=True):
                _plot_row(axes, row, place, value="score", color=LIST_COLOURS[0], marker="o")
            axes.axvline(table["score"].iloc[0], color=SERIES_COLOURS["null"], linestyle=":")
            metric = table["metric"].iloc[0].replace("_", " ")
            axes.set_xlim(left=0)
            axes.set_xlabel(fill(f"{title} ({metric})", width=9), fontsize=SMALL_TEXT)
        for (cost, label), axes in zip(costs.items(), panels, strict=True):
            axes.plot(first[cost], places, linestyle="", color=LIST_COLOURS[3], marker="s")
            axes.axvline(1, color=SERIES_COLOURS["null"], linestyle=":")
            axes.set_xlabel(f"{label}\n(ratio)", fontsize=SMALL_TEXT)
        for axes in grid[0]:
            axes.xaxis.set_major_locator(MaxNLocator(2))
            axes.tick_params(labelsize=SMALL_TEXT)
        _name_rows(grid[0, 0], list(first["plan"]))
    return figure


@also_for_phones
def plot_relative_scores(table: pd.DataFrame, *, threshold: float) -> Figure:
    """Plot the relative score of models under a few plans, a row per plan.

    Parameters
    ----------
    table : pandas.DataFrame
        ``model``, ``plan``, ``task``, and the interval of the relative score: ``value``, ``low``
        and ``high``.
    threshold : float
        The least relative score that counts as kept.

    Returns
    -------
    matplotlib.figure.Figure
        A panel per model with a marker per task; dotted at the score of the unreduced model, dashed
        at the threshold.

    Examples
    --------
    >>> row = {"model": "a", "plan": "half", "task": "captions", "value": 1, "low": 0.9, "high": 1}
    >>> figure = plot_relative_scores(pd.DataFrame([row]), threshold=0.9)
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['half']
    """
    models = list(dict.fromkeys(table["model"]))
    plans = list(dict.fromkeys(table["plan"]))
    tasks = list(dict.fromkeys(table["task"]))
    with open_panel_grid(
        models,
        row_height=max(1.0, 0.36 * len(plans)),
        xlabel="relative score (ratio)",
        sharex=True,
        sharey=True,
    ) as (figure, panels):
        for model, axes in zip(models, panels, strict=True):
            axes.axvline(1, color=SERIES_COLOURS["null"], linestyle=":")
            axes.axvline(threshold, color=SERIES_COLOURS["null"], linestyle="--")
            for row in table[table["model"] == model].to_dict("records"):
                number = tasks.index(row["task"])
                place = plans.index(row["plan"]) + 0.2 * (number - (len(tasks) - 1) / 2)
                style = get_list_style(number)
                _plot_row(axes, row, place, value="value", label=row["task"], **style)
            axes.set_xlim(left=0)
        _name_rows(panels[0], plans)
    return figure


def _plot_row(axes: Axes, row: Any, place: float, *, value: str, **style: Any) -> None:
    """Plot a value with its interval along the x axis."""
    ends = make_error_bars(row[value], low=row["low"], high=row["high"])
    axes.errorbar(row[value], place, xerr=ends, elinewidth=0.8, linestyle="", **style)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Write the names of rows on the y axis, the first at the top."""
    axes.set_yticks(range(len(names)), list(names), fontsize=SMALL_TEXT)
    axes.set_ylim(len(names) - 0.5, -0.5)


@also_for_phones
def plot_interval_sweep(
    sweep: pd.DataFrame,
    *,
    panel: str,
    line: str,
    x: str,
    xlabel: str,
    ylabel: str,
    columns: int = 3,
) -> Figure:
    """Plot scores over a setting, for example over the layer after which tokens are pruned.

    Parameters
    ----------
    sweep : pandas.DataFrame
        ``value``, ``low``, ``high`` and the columns that are named below.
    panel, line : str
        The columns that tell panels and lines apart. A line is named after its series: a key of
        :data:`SERIES_COLOURS`.
    x : str
        The column of the setting.
    xlabel, ylabel : str
        Labels of the axes.
    columns : int
        Panels in a row.

    Returns
    -------
    matplotlib.figure.Figure
        Lines with 95 % intervals; a vertical line marks 0 if the setting has both signs.

    Examples
    --------
    >>> plot_interval_sweep(
    ...     sweep_steering(model, vectors, ...),
    ...     panel="metric", line="direction", x="amount", xlabel="shift", ylabel="fraction",
    ... )  # doctest: +SKIP
    """
    parts = dict(list(sweep.groupby(panel, sort=False)))
    titles = [str(name).replace("_", " ") for name in parts]
    with open_panel_grid(
        titles, columns=columns, xlabel=xlabel, ylabel=ylabel, legend_columns=2
    ) as (figure, places):
        for axes, own in zip(places, parts.values(), strict=True):
            for name, rows in own.groupby(line, sort=False):
                plot_interval_line(axes, rows, x=x, label=name, **get_series_style(str(name)))
            if own[x].min() < 0:
                axes.axvline(0, color="0.8", linewidth=0.8, zorder=0)
            if own[x].dtype.kind == "i":
                axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    return figure


@also_for_phones
def plot_divergence_by_layer(divergence: Mapping[int, float], *, threshold: float) -> Figure:
    """Plot how much a plan changes the next token, over the layer at which it prunes.

    Parameters
    ----------
    divergence : mapping of int to float
        By layer, the mean KL divergence from the unchanged model, in nats.
    threshold : float
        Largest divergence that counts as unchanged.

    Returns
    -------
    matplotlib.figure.Figure
        One curve and the threshold (dotted). The y axis is linear below the threshold and
        logarithmic above it.

    Examples
    --------
    >>> figure = plot_divergence_by_layer({2: 0.4, 6: 0.01, 10: 0.001}, threshold=0.01)
    >>> figure.axes[0].get_yscale()
    'symlog'
    """
    with open_axes(2.4, xlabel="pruned after layer", ylabel="KL divergence (nats)") as (
        figure,
        axes,
    ):
        layers = sorted(divergence)
        axes.plot(
            layers, [divergence[layer] for layer in layers], color=LIST_COLOURS[0], marker="o"
        )
        plot_null_line(axes, threshold, label="threshold")
        axes.set_yscale("symlog", linthresh=threshold)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_ylim(0, 2 * max(divergence.values()))
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    return figure


def plot_skip_grid(table: pd.DataFrame) -> Figure:
    """Plot the fraction of the score that remains, over the first layer and the ratio of tokens.

    Parameters
    ----------
    table : pandas.DataFrame
        ``choose``, ``start``, ``ratio`` and ``kept``: a row per plan.

    Returns
    -------
    matplotlib.figure.Figure
        A heat map for each rule that chooses tokens, with the same colour scale.

    Examples
    --------
    >>> row = {"choose": "strided", "start": 2, "ratio": 0.5, "kept": 0.9}
    >>> plot_skip_grid(pd.DataFrame([row])).axes[0].texts[0].get_text()
    '0.90'
    """
    rules = list(dict.fromkeys(table["choose"]))
    height = 0.4 * table["start"].nunique()
    with open_panel_grid(
        rules, columns=len(rules), base_height=1.2, row_height=height, sharey=True
    ) as (figure, panels):
        for axes, rule in zip(panels, rules, strict=True):
            rows = table[table["choose"] == rule]
            cells = rows.pivot_table(index="start", columns="ratio", values="kept")
            cells.columns = [f"{ratio:.0%}" for ratio in cells.columns]
            sns.heatmap(
                cells, ax=axes, vmin=0, vmax=1, cmap="cividis", annot=True, fmt=".2f",
                annot_kws={"fontsize": SMALL_TEXT}, cbar=False,
            )  # fmt: skip
            set_readable_numerals(axes)
            axes.set(xlabel="skipped perceptual tokens", ylabel="")
            axes.tick_params(axis="y", labelrotation=0)
        panels[0].set_ylabel("from layer")
    return figure


@also_for_phones
def plot_score_by_tokens(table: pd.DataFrame) -> Figure:
    """Plot scores against the length of the prompts.

    Parameters
    ----------
    table : pandas.DataFrame
        ``before``, ``rows`` (tokens of the prompt), ``score``, ``low``, ``high``: a row for each
        kind of prompt.

    Returns
    -------
    matplotlib.figure.Figure
        A named marker per kind of prompt, with its 95 % interval.

    Examples
    --------
    >>> plot_score_by_tokens(table)  # doctest: +SKIP
    """
    with open_axes(
        3.2, xlabel="tokens of the prompt (mean)", ylabel="exact answers (fraction)"
    ) as (figure, axes):
        rows = table.to_dict("records")
        for i, row in enumerate(rows):
            plot_interval_points(
                axes, row["rows"], row, y="score", **get_list_style(i), linestyle=""
            )
        axes.set_ylim(0, 1.05)
        axes.set_xlim(left=0)
        figure.draw_without_rendering()  # the size of the panel decides which names overlap
        name_points(axes, [(row["rows"], row["score"], row["before"]) for row in rows])
    return figure
