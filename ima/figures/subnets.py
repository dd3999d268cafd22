"""Figures of subnetworks (I4): scores over sparsity, and where weights leave."""

from __future__ import annotations

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
)

_LINES = ("-", "--", "-.", ":")
#: Between the marks of two masks at one sparsity, so that their bars can be told apart.
_APART = 0.007


def plot_score_by_sparsity(swept: pd.DataFrame) -> Figure:
    """Draw the score of each mask over the share of weights that it removes.

    Parameters
    ----------
    swept : pandas.DataFrame
        ``task``, ``mask``, ``sparsity``, ``value``, ``low``, ``high`` and ``whole``, the score with
        nothing removed.

    Returns
    -------
    matplotlib.figure.Figure
        A panel a task, a curve a mask, its 95 % intervals as bars beside one another; dotted, the
        whole model.
    """
    masks = list(dict.fromkeys(swept["mask"]))
    tasks = list(dict.fromkeys(swept["task"]))
    given = {"sharey": True, "sharex": True}
    with open_panel_grid(len(tasks), columns=3, base=1.0, row=2.2, **given) as (
        figure,
        grid,
        panels,
    ):
        for axes, task in zip(panels, tasks, strict=True):
            own = swept[swept["task"] == task]
            axes.axhline(own["whole"].iloc[0], color=SERIES_COLOURS["null"], linestyle=":")
            for at, mask in enumerate(masks):
                rows = own[own["mask"] == mask].sort_values("sparsity")
                beside = (at - (len(masks) - 1) / 2) * _APART
                axes.errorbar(
                    rows["sparsity"] + beside, rows["value"],
                    yerr=[rows["value"] - rows["low"], rows["high"] - rows["value"]],
                    **get_numbered_style(at),
                    linestyle=_LINES[at % len(_LINES)], elinewidth=0.8, label=mask,
                )  # fmt: skip
            axes.set_title(task)
            axes.margins(x=0.1)
            if len(set(swept["sparsity"])) == 1:
                # One level, whose marks stand beside one another, is no scale.
                axes.set_xlim(swept["sparsity"].iloc[0] - 0.1, swept["sparsity"].iloc[0] + 0.1)
            axes.tick_params(labelbottom=True)
        for axes in grid[:, 0]:
            axes.set_ylabel("task score")
        for axes in panels[-grid.shape[1] :]:
            axes.set_xlabel("share removed")
        add_outside_legend(figure, panels[0], columns=3)
    return figure


def plot_vote_agreement(agreement: pd.DataFrame, *, independent: pd.Series[float]) -> Figure:
    """Draw how many tasks drop the weights that any of them drops.

    Parameters
    ----------
    agreement : pandas.DataFrame
        From :func:`ima.pruning.mask_comparison.compute_vote_agreement`: linear layers in rows.
    independent : pandas.Series
        From :func:`ima.pruning.mask_comparison.compute_chance_agreement`.

    Returns
    -------
    matplotlib.figure.Figure
        A curve a linear layer; dotted, what tasks would do that know nothing of one another.
    """
    with open_figure(height=3.8) as (figure, grid):
        axes = grid[0, 0]
        for at, (name, shares) in enumerate(agreement.iterrows()):
            line = _LINES[at % len(_LINES)]
            axes.plot(shares.index, shares, **get_numbered_style(at), linestyle=line, label=name)
        axes.plot(
            independent.index, independent, color=SERIES_COLOURS["null"], linestyle=":",
            label="if tasks chose independently",
        )  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(
            xlabel="number of tasks whose mask drops a weight", ylabel="share of those removed"
        )
        axes.set_ylim(bottom=0)
        add_outside_legend(figure, axes, columns=3)
    return figure


def plot_sparsity_heatmap(shares: pd.DataFrame) -> Figure:
    """Draw which share of each linear layer's weights is removed.

    Parameters
    ----------
    shares : pandas.DataFrame
        From :func:`ima.pruning.alpha_subnet.compute_layer_sparsity`: layers in rows.

    Returns
    -------
    matplotlib.figure.Figure
        A heat map, linear layers in rows, blocks in columns.
    """
    with open_figure(height=0.36 * shares.shape[1] + 1.3) as (figure, grid):
        axes = grid[0, 0]
        sns.heatmap(
            shares.T, ax=axes, annot=True, fmt=".2f", cmap="cividis", annot_kws={"size": "small"},
            cbar_kws={"label": "share removed"},
        )  # fmt: skip
        axes.tick_params(left=False, bottom=False)
        axes.set(xlabel="block", ylabel="")
    return figure
