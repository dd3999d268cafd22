"""Figures of token reduction (I3): scores against cost, skipped tokens against pruned tokens."""

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

#: Labels of the costs in a report.
_COST_LABELS = {
    "whole ratio": "time of prompt and answer",
    "gflops ratio": "operations of the prompt",
    "cached ratio": "tokens in the KV cache",
}


def plot_score_by_cost(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Plot the score of each plan against its cost.

    Parameters
    ----------
    tables : mapping of str to pandas.DataFrame
        By title, from :func:`ima.token_reduction.report.compare_plans`, all with the same plans.

    Returns
    -------
    matplotlib.figure.Figure
        A row per table, a column per cost that was measured, a marker per plan with its 95 %
        interval; the dotted line is the score of the unchanged model.

    Examples
    --------
    >>> plot_score_by_cost({"questions": compare_plans(model, plans, ...)})  # doctest: +SKIP
    """
    first = next(iter(tables.values()))
    costs = {name: label for name, label in _COST_LABELS.items() if name in first}
    styles = {plan: get_numbered_style(i) for i, plan in enumerate(first["plan"])}
    height = 1.4 + 2.4 * len(tables) + 0.12 * len(first)
    with open_figure(rows=len(tables), columns=len(costs), height=height, sharey="row") as (
        figure,
        grid,
    ):
        for row, (title, table) in zip(grid, tables.items(), strict=True):
            for axes, (cost, label) in zip(row, costs.items(), strict=True):
                axes.axhline(table["score"].iloc[0], color=SERIES_COLOURS["null"], linestyle=":")
                for _, plan in table.iterrows():
                    ends = [[plan["score"] - plan["low"]], [plan["high"] - plan["score"]]]
                    axes.errorbar(
                        plan[cost], plan["score"], yerr=ends, **styles[plan["plan"]],
                        elinewidth=0.8, linestyle="", label=plan["plan"],
                    )  # fmt: skip
                axes.set_xlabel(f"{label} (ratio)", fontsize="small")
                axes.xaxis.set_major_locator(MaxNLocator(4))
            row[0].set_ylabel(f"{title}: {table['metric'].iloc[0].replace('_', ' ')}")
        add_outside_legend(figure, grid[0, 0], columns=2)
    return figure


def plot_skipped_and_pruned(sweep: pd.DataFrame) -> Figure:
    """Plot the score if perceptual tokens are not updated after a layer, or are pruned there.

    Parameters
    ----------
    sweep : pandas.DataFrame
        ``task``, ``way`` (``not updated``, ``pruned``), ``layer``, ``score``, ``low``, ``high``.

    Returns
    -------
    matplotlib.figure.Figure
        A panel per task, a curve per way with its 95 % interval.

    Examples
    --------
    >>> plot_skipped_and_pruned(sweep)  # doctest: +SKIP
    """
    styles = {"not updated": ("#0072B2", "o", "-"), "pruned": ("#D55E00", "X", "--")}
    tasks = list(dict.fromkeys(sweep["task"]))
    with open_panel_grid(
        len(tasks), columns=2, base_height=0.8, row_height=2.6, ylabel="score"
    ) as (figure, _, places):
        for axes, task in zip(places, tasks, strict=True):
            for way, style in styles.items():
                rows = sweep[(sweep["task"] == task) & (sweep["way"] == way)]
                rows = rows.rename(columns={"score": "value"})
                plot_interval_line(axes, rows, x="layer", label=way, style=style)
            axes.set(title=task, xlabel="after layer")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        add_outside_legend(figure, places[0], columns=2)
    return figure


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
    with open_figure(height=2.4) as (figure, grid):
        axes = grid[0, 0]
        layers = sorted(divergence)
        axes.plot(layers, [divergence[layer] for layer in layers], color="#0072B2", marker="o")
        axes.axhline(threshold, color=SERIES_COLOURS["null"], linestyle=":")
        axes.set_yscale("symlog", linthresh=threshold)
        top = 2 * max(divergence.values())
        axes.set(xlabel="pruned after layer", ylabel="KL divergence (nats)", ylim=(0, top))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
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
    starts = table["start"].nunique()
    with open_figure(columns=len(rules), height=1.2 + 0.4 * starts, sharey=True) as (figure, grid):
        for axes, rule in zip(grid[0], rules, strict=True):
            rows = table[table["choose"] == rule]
            cells = rows.pivot_table(index="start", columns="ratio", values="kept")
            cells.columns = [f"{ratio:.0%}" for ratio in cells.columns]
            sns.heatmap(
                cells, ax=axes, vmin=0, vmax=1, cmap="viridis", annot=True, fmt=".2f",
                annot_kws={"fontsize": "x-small"}, cbar=False,
            )  # fmt: skip
            axes.set(title=rule, xlabel="skipped perceptual tokens", ylabel="")
        grid[0, 0].set_ylabel("from layer")
    return figure


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
        A marker per kind of prompt, with its 95 % interval.

    Examples
    --------
    >>> plot_score_by_tokens(table)  # doctest: +SKIP
    """
    with open_figure(height=2.8) as (figure, grid):
        axes = grid[0, 0]
        for i, row in enumerate(table.to_dict("records")):
            ends = [[row["score"] - row["low"]], [row["high"] - row["score"]]]
            axes.errorbar(
                row["rows"], row["score"], yerr=ends, **get_numbered_style(i), elinewidth=0.8,
                linestyle="", label=row["before"],
            )  # fmt: skip
        axes.set(xlabel="tokens of the prompt (mean)", ylabel="exact answers", ylim=(0, 1.05))
        axes.set_xlim(left=0)
        add_outside_legend(figure, axes, columns=2)
    return figure
