"""Figures of implicit alignment (F3): curves of PvsT, layer against layer, rivals, hook points."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ima.figures.style import (
    SERIES_COLOURS,
    SERIES_LABELS,
    SERIES_MARKERS,
    add_outside_legend,
    open_figure,
    open_panel_grid,
    plot_layer_curve,
    plot_null_line,
)
from ima.stats.intervals import Interval, compute_percentile_interval

#: Markers and dashes of runs that are no modality.
_OTHER = tuple(zip("oPv*Xph<", ("-", "--", ":", "-.") * 2, strict=True))


def plot_layer_similarity(panels: Mapping[str, xr.DataArray], *, columns: int = 3) -> Figure:
    """Draw the similarity of perceptual tokens of each layer with textual ones of each layer.

    Parameters
    ----------
    panels : mapping of str to xarray.DataArray
        Title to the result of :func:`ima.measures.alignment.compute_cross_layer_cosine`.
    columns : int
        Panels in a row.

    Returns
    -------
    matplotlib.figure.Figure
        One heat map per entry, on one scale.
    """
    low = min(float(matrix.min()) for matrix in panels.values())
    high = max(float(matrix.max()) for matrix in panels.values())
    with open_panel_grid(len(panels), columns=columns, base=0.6, row=2.4) as (figure, grid, places):
        image: Any = None
        for axes, (title, matrix) in zip(places, panels.items(), strict=True):
            layers = matrix["textual"].to_numpy()
            extent = (layers[0] - 0.5, layers[-1] + 0.5) * 2
            image = axes.imshow(
                matrix,
                origin="lower",
                extent=extent,
                vmin=low,
                vmax=high,
                cmap=sns.color_palette("cividis", as_cmap=True),
            )
            axes.set(title=title, xlabel="layer of textual tokens")
            axes.grid(visible=False)
        for axes in grid[:, 0]:
            axes.set_ylabel("layer of perceptual tokens")
        figure.colorbar(image, ax=grid.ravel().tolist(), label="mean cosine", shrink=0.8)
    return figure


def plot_alignment_baselines(found: Mapping[str, xr.Dataset]) -> Figure:
    """Draw the rivals of the IMA score over layers, a panel for each, a curve per data set.

    Parameters
    ----------
    found : mapping of str to xarray.Dataset
        Name of a modality to the result of :func:`ima.measures.baselines.compute_baseline_curves`.

    Returns
    -------
    matplotlib.figure.Figure
        Four panels with 95 % intervals; dotted, the null of each curve.
    """
    rivals = next(iter(found.values()))["baseline"].to_numpy()
    with open_figure(rows=2, columns=2, height=5.4) as (figure, grid):
        for axes, rival in zip(grid.flat, rivals, strict=True):
            for name, part in found.items():
                own = part.sel(baseline=rival)
                plot_layer_curve(
                    axes, values=own["estimate"], low=own["low"], high=own["high"], name=name
                )
                axes.plot(
                    own["layer"],
                    own["null"],
                    color=SERIES_COLOURS[name],
                    linestyle=":",
                    linewidth=1,
                )
            axes.set(title=rival, xlabel="layer")
        plot_null_line(
            grid[0, 0], float("nan"), label="null: shuffled pairs, or halves of the text"
        )
        add_outside_legend(figure, grid[0, 0], columns=2)
    return figure


def plot_score_by_step(
    panels: Mapping[str, Mapping[str, Mapping[int, Interval]]], *, ylabel: str
) -> Figure:
    """Draw a score against the training step, a panel per version, a curve per run.

    Parameters
    ----------
    panels : mapping
        Title to run to step to the score. A run that is named by its modality has the modality's
        colour; others are black, each with a marker and dashes of its own.
    ylabel : str
        What is drawn.

    Returns
    -------
    matplotlib.figure.Figure
        Steps on a scale of square roots, which shows the first ones.
    """
    with open_figure(columns=len(panels), height=3.2, sharey=True) as (figure, grid):
        for axes, (title, runs) in zip(grid[0], panels.items(), strict=True):
            others = cycle(_OTHER)
            for name, steps in runs.items():
                values, low, high = (
                    [getattr(score, side) for score in steps.values()]
                    for side in ("value", "low", "high")
                )
                colour = SERIES_COLOURS.get(name, SERIES_COLOURS["textual"])
                marker, line = (
                    (SERIES_MARKERS[name], "-") if name in SERIES_MARKERS else next(others)
                )
                axes.plot(
                    list(steps), values, color=colour, marker=marker, linestyle=line, label=name,
                    clip_on=False,
                )  # fmt: skip
                axes.fill_between(list(steps), low, high, color=colour, alpha=0.18, linewidth=0)
            axes.set_xscale("function", functions=(np.sqrt, np.square))
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.set_xlim(left=0)
            axes.set(title=SERIES_LABELS.get(title, title), xlabel="training step")
        grid[0, 0].set_ylabel(ylabel)
        add_outside_legend(figure, grid[0, 0])
    return figure


def plot_layer_curves_by_step(
    panels: Mapping[str, Mapping[int, xr.DataArray]],
    *,
    first: str = "before training",
    last: str = "last step",
) -> Figure:
    """Draw curves over layers at steps, as those of training, a panel per run.

    Parameters
    ----------
    panels : mapping
        Title to step to ``(layer,)``.
    first, last : str
        Names of the first and of the last step.

    Returns
    -------
    matplotlib.figure.Figure
        Later steps are darker.
    """
    most = max(len(steps) for steps in panels.values())
    palette = sns.color_palette("cividis_r", most)
    count = len(panels)
    with open_panel_grid(count, columns=4, base=1.0, row=2.4, sharey=True) as (figure, grid, drawn):
        for axes, (title, steps) in zip(drawn, panels.items(), strict=True):
            for at, values in enumerate(steps.values()):
                label = first if at == 0 else last
                axes.plot(
                    values["layer"],
                    values,
                    color=palette[at],
                    linewidth=2.4 if at in (0, len(steps) - 1) else 1.2,
                    linestyle="--" if at == 0 else "-",
                    label=label if at in (0, len(steps) - 1) else None,
                )
            axes.set(title=title, xlabel="layer")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in grid[:, 0]:
            axes.set_ylabel("mean cosine (PvsT)")
        add_outside_legend(figure, grid[0, 0])
    return figure


def plot_hook_point_statistics(rows: Mapping[str, xr.Dataset], *, logarithmic: str = "") -> Figure:
    """Draw statistics of hook points, perceptual tokens on the left and textual ones on the right.

    Parameters
    ----------
    rows : mapping of str to xarray.Dataset
        What is drawn to ``estimate`` ``(hook_point, kind, layer)`` and ``draws``.
    logarithmic : str
        The row whose scale is.

    Returns
    -------
    matplotlib.figure.Figure
        A row of two panels per entry, on one scale.
    """
    height = 1.1 + 2.3 * len(rows)
    with open_figure(rows=len(rows), columns=2, height=height, sharey="row") as (figure, grid):
        for line, (title, found) in zip(grid, rows.items(), strict=True):
            low, high = compute_percentile_interval(found["draws"])
            for axes, kind in zip(line, found["kind"].to_numpy(), strict=True):
                for hook_point in found["hook_point"].to_numpy():
                    own = [
                        s.sel(hook_point=hook_point, kind=kind)
                        for s in (found["estimate"], low, high)
                    ]
                    plot_layer_curve(
                        axes, values=own[0], low=own[1], high=own[2], name=str(hook_point)
                    )
                axes.set(title=f"{kind} tokens", xlabel="layer")
                if title == logarithmic:
                    axes.set_yscale("log")
            line[0].set_ylabel(title)
        add_outside_legend(figure, grid[0, 0], columns=2)
    return figure
