"""Figures of skipping (I3): score against cost, and rows that stay against rows that leave."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ima.figures.style import (
    SERIES_COLOURS,
    add_outside_legend,
    get_numbered_style,
    open_figure,
    open_panel_grid,
    plot_interval_line,
)

#: Columns of a report that the chart is drawn over, with what they are called.
_COST_LABELS = {
    "whole ratio": "time, prompt and answer",
    "gflops ratio": "operations of the prompt",
    "cached ratio": "rows of the cache",
}


def plot_score_by_cost(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the score of each plan against what it costs.

    Parameters
    ----------
    tables : mapping of str to pandas.DataFrame
        By what is answered, from :func:`ima.token_reduction.report.compare_plans`, all of the same plans.

    Returns
    -------
    matplotlib.figure.Figure
        A row a table, a column for each of :data:`_COST_LABELS` that was measured, a marker of its own
        for each plan, with 95 % intervals; dotted, the score with nothing left out.
    """
    first = next(iter(tables.values()))
    costs = {name: title for name, title in _COST_LABELS.items() if name in first}
    plans = list(first["plan"])
    looks = {plan: get_numbered_style(at) for at, plan in enumerate(plans)}
    with open_figure(
        rows=len(tables), columns=len(costs), height=1.4 + 2.4 * len(tables) + 0.12 * len(plans),
        sharey="row",
    ) as (figure, grid):  # fmt: skip
        for row, (title, table) in zip(grid, tables.items(), strict=True):
            for axes, (cost, name) in zip(row, costs.items(), strict=True):
                axes.axhline(table["score"].iloc[0], color=SERIES_COLOURS["null"], linestyle=":")
                for _, one in table.iterrows():
                    ends = [[one["score"] - one["low"]], [one["high"] - one["score"]]]
                    axes.errorbar(
                        one[cost], one["score"], yerr=ends, **looks[one["plan"]],
                        elinewidth=0.8, linestyle="", label=one["plan"],
                    )  # fmt: skip
                axes.set_xlabel(f"{name} (share)", fontsize="small")
                axes.xaxis.set_major_locator(MaxNLocator(4))
            row[0].set_ylabel(f"{title}: {table['metric'].iloc[0].replace('_', ' ')}")
        add_outside_legend(figure, grid[0, 0], columns=2)
    return figure


def plot_skipped_and_pruned(swept: pd.DataFrame) -> Figure:
    """Draw the score when percepts stay as they are behind a layer, and when they leave there.

    Parameters
    ----------
    swept : pandas.DataFrame
        ``task``, ``way`` (``not updated``, ``pruned``), ``layer``, ``score``, ``low``, ``high``.

    Returns
    -------
    matplotlib.figure.Figure
        A panel a task, a curve a way with its 95 % interval.
    """
    looks = {"not updated": ("#0072B2", "o", "-"), "pruned": ("#D55E00", "X", "--")}
    tasks = list(dict.fromkeys(swept["task"]))
    with open_panel_grid(len(tasks), columns=2, base=0.8, row=2.6) as (figure, grid, places):
        for axes, task in zip(places, tasks, strict=True):
            for way, look in looks.items():
                own = swept[(swept["task"] == task) & (swept["way"] == way)]
                own = own.rename(columns={"score": "value"})
                plot_interval_line(axes, own, x="layer", label=way, look=look)
            axes.set(title=task, xlabel="from behind layer")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in grid[:, 0]:
            axes.set_ylabel("score")
        add_outside_legend(figure, places[0], columns=2)
    return figure


def plot_divergence_by_layer(divergence: Mapping[int, float], *, threshold: float) -> Figure:
    """Draw how far a plan moves the next word, over the layer at which it acts.

    Parameters
    ----------
    divergence : mapping of int to float
        By layer, the mean KL divergence from the plain model, in nats.
    threshold : float
        Up to which the move counts as none.

    Returns
    -------
    matplotlib.figure.Figure
        One curve, and the threshold dotted; the scale is linear below it and logarithmic above.
    """
    with open_figure(height=2.4) as (figure, grid):
        axes = grid[0, 0]
        layers = sorted(divergence)
        axes.plot(layers, [divergence[at] for at in layers], color="#0072B2", marker="o")
        axes.axhline(threshold, color=SERIES_COLOURS["null"], linestyle=":")
        axes.set_yscale("symlog", linthresh=threshold)
        top = 2 * max(divergence.values())
        axes.set(xlabel="pruned after layer", ylabel="KL divergence (nats)", ylim=(0, top))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def plot_skip_grid(table: pd.DataFrame) -> Figure:
    """Draw which share of the score is kept, over where rows begin to bypass and how many do.

    Parameters
    ----------
    table : pandas.DataFrame
        ``choose``, ``start``, ``ratio`` and ``kept``: a row for each plan.

    Returns
    -------
    matplotlib.figure.Figure
        A heat map for each choice of rows, all of one colour scale.
    """
    choices = list(dict.fromkeys(table["choose"]))
    starts = table["start"].nunique()
    with open_figure(columns=len(choices), height=1.2 + 0.4 * starts, sharey=True) as (
        figure,
        grid,
    ):
        for axes, choice in zip(grid[0], choices, strict=True):
            own = table[table["choose"] == choice]
            cells = own.pivot_table(index="start", columns="ratio", values="kept")
            cells.columns = [f"{ratio:.0%}" for ratio in cells.columns]
            sns.heatmap(
                cells, ax=axes, vmin=0, vmax=1, cmap="viridis", annot=True, fmt=".2f",
                annot_kws={"fontsize": "x-small"}, cbar=False,
            )  # fmt: skip
            axes.set(title=choice, xlabel="percepts that bypass", ylabel="")
        grid[0, 0].set_ylabel("from layer")
    return figure


def plot_score_by_tokens(table: pd.DataFrame) -> Figure:
    """Draw scores against the rows of the prompts that they took.

    Parameters
    ----------
    table : pandas.DataFrame
        ``before``, ``rows``, ``score``, ``low``, ``high``: one row for each kind of prompt.

    Returns
    -------
    matplotlib.figure.Figure
        A colour and a marker each, with its 95 % interval.
    """
    with open_figure(height=2.8) as (figure, grid):
        axes = grid[0, 0]
        for at, one in enumerate(table.to_dict("records")):
            ends = [[one["score"] - one["low"]], [one["high"] - one["score"]]]
            axes.errorbar(
                one["rows"], one["score"], yerr=ends, **get_numbered_style(at), elinewidth=0.8,
                linestyle="", label=one["before"],
            )  # fmt: skip
        axes.set(xlabel="rows of the prompt (mean)", ylabel="exact answers", ylim=(0, 1.05))
        axes.set_xlim(left=0)
        add_outside_legend(figure, axes, columns=2)
    return figure
