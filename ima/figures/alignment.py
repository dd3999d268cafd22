"""Figures of implicit alignment (F3): layers, baselines, training, hook points, controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ima.figures.phone import also_for_phones
from ima.figures.style import (
    SERIES_COLOURS,
    SERIES_LABELS,
    SERIES_MARKERS,
    add_outside_legend,
    open_figure,
    open_panel_grid,
    plot_interval_line,
    plot_layer_curve,
    plot_named_curves,
    plot_null_line,
)
from ima.measures.control_comparison import CONTROLS, UNCHANGED
from ima.stats.intervals import Interval, compute_percentile_interval

#: Markers and dashes of runs that are not named by a modality.
_OTHER_RUNS = tuple(zip("oPv*Xph<", ("-", "--", ":", "-.") * 2, strict=True))


@also_for_phones
def plot_layer_similarity(panels: Mapping[str, xr.DataArray]) -> Figure:
    """Plot the similarity of perceptual tokens of each layer with textual tokens of each layer.

    Parameters
    ----------
    panels : mapping of str to xarray.DataArray
        By title, from :func:`ima.measures.alignment.compute_cross_layer_cosine`.

    Returns
    -------
    matplotlib.figure.Figure
        Heat maps with the same colour scale.

    Examples
    --------
    >>> plot_layer_similarity({"image": compute_cross_layer_cosine(means)})  # doctest: +SKIP
    """
    low = min(float(matrix.min()) for matrix in panels.values())
    high = max(float(matrix.max()) for matrix in panels.values())
    with open_panel_grid(
        panels, xlabel="layer of textual tokens", ylabel="layer of perceptual tokens"
    ) as (figure, places):
        image: Any = None
        for axes, matrix in zip(places, panels.values(), strict=True):
            image = axes.pcolormesh(
                matrix["textual"], matrix["perceptual"], matrix, shading="nearest",
                vmin=low, vmax=high, cmap=sns.color_palette("cividis", as_cmap=True),
                rasterized=True,
            )  # fmt: skip
            axes.set_aspect("equal")
            axes.grid(visible=False)
        figure.colorbar(image, ax=places, label="mean cosine", shrink=0.8)
    return figure


@also_for_phones
def plot_alignment_baselines(baseline_curves: Mapping[str, xr.Dataset]) -> Figure:
    """Plot the baselines of the IMA score over layers, a panel per baseline, a curve per data set.

    Parameters
    ----------
    baseline_curves : mapping of str to xarray.Dataset
        By modality, from :func:`ima.measures.baselines.compute_baseline_curves`.

    Returns
    -------
    matplotlib.figure.Figure
        Four panels with 95 % intervals; the dotted lines are the nulls.

    Examples
    --------
    >>> plot_alignment_baselines({"image": compute_baseline_curves(means)})  # doctest: +SKIP
    """
    baselines = next(iter(baseline_curves.values()))["baseline"].to_numpy()
    with open_panel_grid(baselines, columns=2, xlabel="layer", legend_columns=2) as (
        figure,
        panels,
    ):
        for axes, baseline in zip(panels, baselines, strict=True):
            for name, curves in baseline_curves.items():
                curve = curves.sel(baseline=baseline)
                plot_layer_curve(
                    axes, values=curve["estimate"], low=curve["low"], high=curve["high"], name=name
                )
                axes.plot(
                    curve["layer"], curve["null"], color=SERIES_COLOURS[name], linestyle=":",
                    linewidth=1,
                )  # fmt: skip
        label = "null: shuffled pairs, or halves of the text"
        plot_null_line(panels[0], float("nan"), label=label)
    return figure


@also_for_phones
def plot_score_by_step(
    panels: Mapping[str, Mapping[str, Mapping[int, Interval]]],
) -> Figure:
    """Plot scores against the training step, a panel per score and a curve per run.

    Parameters
    ----------
    panels : mapping
        By name of the score, run and step, the score. A run whose name ends in its modality has the
        modality's colour and marker; the others are black. Runs of one colour differ in dashes or
        markers. A panel may lack runs and steps.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per score. The x axis has a square-root scale, which spreads the first steps.

    Examples
    --------
    >>> scores = {0: Interval(0.1, 0.0, 0.2, n=60), 100: Interval(0.3, 0.2, 0.4, n=60)}
    >>> figure = plot_score_by_step({"IMA score": {"image": scores}})
    >>> figure.axes[0].get_xlabel()
    'training step'
    """
    with open_panel_grid(panels, columns=2, xlabel="training step") as (figure, places):
        for axes, runs in zip(places, panels.values(), strict=True):
            others, drawn = cycle(_OTHER_RUNS), Counter[str]()
            for name, scores in runs.items():
                modality = name.rpartition(", ")[2]
                table = pd.DataFrame(map(vars, scores.values())).assign(step=list(scores))
                colour = SERIES_COLOURS.get(modality, SERIES_COLOURS["textual"])
                if modality in SERIES_MARKERS:
                    dashes = ("-", "--", ":", "-.")[drawn[modality] % 4]
                    marker, line = SERIES_MARKERS[modality], dashes
                else:
                    marker, line = next(others)
                drawn[modality] += 1
                plot_interval_line(
                    axes, table, x="step", color=colour, marker=marker, linestyle=line, label=name,
                    clip_on=False,
                )  # fmt: skip
            axes.set_xscale("function", functions=(np.sqrt, np.square))
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.set_xlim(left=0)
    return figure


@also_for_phones
def plot_layer_curves_by_step(
    panels: Mapping[str, Mapping[int, xr.DataArray]],
    *,
    first: str = "before training",
    last: str = "last step",
) -> Figure:
    """Plot curves over layers at several steps, for example of training, a panel per run.

    Parameters
    ----------
    panels : mapping
        By title and step, ``(layer,)``.
    first, last : str
        Labels of the first and the last step.

    Returns
    -------
    matplotlib.figure.Figure
        Later steps are darker.

    Examples
    --------
    >>> curves = {step: curve["estimate"].mean("dataset") for step, curve in by_step.items()}
    ... # doctest: +SKIP
    >>> plot_layer_curves_by_step({"image": curves})  # doctest: +SKIP
    """
    palette = sns.color_palette("cividis_r", max(len(steps) for steps in panels.values()))
    with open_panel_grid(
        panels, columns=4, xlabel="layer", ylabel="mean cosine (PvsT)", sharey=True
    ) as (figure, places):
        for axes, steps in zip(places, panels.values(), strict=True):
            labels = {len(steps) - 1: last, 0: first}
            for i, values in enumerate(steps.values()):
                axes.plot(
                    values["layer"], values, color=palette[i], label=labels.get(i),
                    linewidth=2.4 if i in labels else 1.2, linestyle="--" if i == 0 else "-",
                )  # fmt: skip
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure


@also_for_phones
def plot_hook_point_statistics(
    statistics: Mapping[str, xr.Dataset], *, log_statistic: str = ""
) -> Figure:
    """Plot statistics at hook points, perceptual tokens on the left, textual tokens on the right.

    Parameters
    ----------
    statistics : mapping of str to xarray.Dataset
        By name, ``estimate`` ``(hook_point, kind, layer)`` and ``draws``.
    log_statistic : str
        The statistic with a logarithmic y axis.

    Returns
    -------
    matplotlib.figure.Figure
        A row of two panels per statistic, with the same y axis.

    Examples
    --------
    >>> norms = compute_hook_point_norms(cache_set.read_norms())  # doctest: +SKIP
    >>> plot_hook_point_statistics({"L2 norm": norms}, log_statistic="L2 norm")  # doctest: +SKIP
    """
    rows = len(statistics)
    with open_figure(rows=rows, columns=2, height=1.1 + 2.3 * rows, sharey="row") as (figure, grid):
        for row, (title, curves) in zip(grid, statistics.items(), strict=True):
            for axes, kind in zip(row, curves["kind"].to_numpy(), strict=True):
                plot_named_curves(axes, curves.sel(kind=kind), dim="hook_point")
                axes.set(title=f"{kind} tokens", xlabel="layer")
                if title == log_statistic:
                    axes.set_yscale("log")
            row[0].set_ylabel(title)
        add_outside_legend(figure, grid[0], columns=2)
    return figure


@also_for_phones
def plot_block_gaps(panels: Mapping[str, Mapping[str, xr.Dataset]]) -> Figure:
    """Plot how far the similarity at each hook point exceeds that of the residual stream.

    Parameters
    ----------
    panels : mapping of str to mapping
        By title and series: a stream (``"stream of the same layer"``, ``"stream that it reads"``)
        or a treatment of the means, from
        :func:`ima.measures.hook_point_comparison.compute_block_gaps`.

    Returns
    -------
    matplotlib.figure.Figure
        A panel per title, a row per hook point, a point per series with its 95 % interval.

    Examples
    --------
    >>> gaps = compute_block_gaps(curves)  # doctest: +SKIP
    >>> plot_block_gaps({"opt-mini (ST)": {"stream of the same layer": gaps}})  # doctest: +SKIP
    """
    with open_panel_grid(
        panels, columns=2, base_height=1.0, xlabel="difference of PvsT (cosine)", legend_columns=2,
        sharex=True, sharey=True,
    ) as (figure, places):  # fmt: skip
        for axes, series in zip(places, panels.values(), strict=True):
            step = min(0.25, 0.7 / len(series))
            for number, (name, gaps) in enumerate(series.items()):
                low, high = compute_percentile_interval(gaps["draws"])
                rows = np.arange(gaps.sizes["hook_point"]) + step * number
                colour, marker = SERIES_COLOURS[name], SERIES_MARKERS[name]
                axes.hlines(rows, low, high, color=colour)
                axes.plot(
                    gaps["estimate"], rows, label=SERIES_LABELS.get(name, name), linestyle="",
                    color=colour, marker=marker,
                )  # fmt: skip
            axes.axvline(0, color=SERIES_COLOURS["null"], linestyle=":", linewidth=1.4)
            names = gaps["hook_point"].to_numpy()
            axes.set_yticks(np.arange(len(names)) + step * (len(series) - 1) / 2, names)
        places[0].invert_yaxis()
    return figure


@also_for_phones
def plot_control_draws(panels: Mapping[str, xr.Dataset]) -> Figure:
    """Plot the score of a model beside the scores of its controls in every draw.

    Parameters
    ----------
    panels : mapping of str to xarray.Dataset
        By title, from :func:`ima.measures.control_comparison.compute_draw_scores`.

    Returns
    -------
    matplotlib.figure.Figure
        A panel per title: a line for the model, a point per draw of each control.

    Examples
    --------
    >>> plot_control_draws({"opt-mini (ST)": compute_draw_scores(fixed, drawn)})  # doctest: +SKIP
    """
    with open_panel_grid(panels, columns=4, ylabel="IMA score", legend_columns=2) as (
        figure,
        places,
    ):
        for axes, scores in zip(places, panels.values(), strict=True):
            estimate = scores["estimate"]
            axes.axhline(
                float(estimate.sel(condition=UNCHANGED)[0]), label="model as it is",
                color=SERIES_COLOURS[UNCHANGED],
            )  # fmt: skip
            shown = [name for name in CONTROLS if name in estimate["condition"]]
            for at, name in enumerate(shown):
                values = np.unique(estimate.sel(condition=name))
                # Beside each other in order, else equal draws would hide each other.
                x = at + np.linspace(-0.3, 0.3, len(values)) if len(values) > 1 else [at]
                axes.plot(
                    x, values, label=SERIES_LABELS.get(name, name), linestyle="", alpha=0.7,
                    color=SERIES_COLOURS[name], marker=SERIES_MARKERS[name],
                )  # fmt: skip
            axes.set_xticks([])
    return figure
