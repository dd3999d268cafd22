"""Figures of implicit alignment (F3): layers, baselines, training, hook points, controls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ima.figures.labels import name_series, number_title, split_series
from ima.figures.palette import (
    LIST_COLOURS,
    SERIES_COLOURS,
    SERIES_LABELS,
    SERIES_MARKERS,
    get_list_style,
)
from ima.figures.phone import also_for_phones, is_narrow
from ima.figures.style import (
    open_figure,
    open_panel_grid,
    plot_interval_line,
    plot_layer_curve,
    plot_named_curves,
    set_log_scale,
)
from ima.measures.control_comparison import CONTROLS, UNCHANGED
from ima.stats.intervals import Interval, compute_percentile_interval

#: What the measures that panels are named after are counted in.
_UNITS = {
    "retrieval@1": "fraction of samples",
    "mutual k-NN": "fraction of neighbours",
    "linear CKA": "CKA (1: the same)",
    "Fréchet distance": "distance / spread",
    "IMA score": "cosine",
    "matched minus all pairs": "cosine",
}
#: Groups of hook points, each with few enough curves for a panel.
_STREAM = ("ln1", "resid_mid", "ln2", "resid_post")
_STREAM_TITLE, _OUTPUT_TITLE = "stream and norm layers", "inside attention and MLP"
_MOST_STEPS = 6


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
        Four panels with 95 % intervals; dotted, the median and range of the data sets' nulls.

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
            chosen = {name: own.sel(baseline=baseline) for name, own in baseline_curves.items()}
            for name, curve in chosen.items():
                plot_layer_curve(
                    axes, values=curve["estimate"], low=curve["low"], high=curve["high"], name=name
                )
            nulls = xr.concat([curve["null"] for curve in chosen.values()], "modality")
            plot_layer_curve(
                axes, values=nulls.median("modality"), low=nulls.min("modality"),
                high=nulls.max("modality"), name="null", label="null",
            )  # fmt: skip
            axes.set_ylabel(_UNITS.get(str(baseline), str(baseline)))
    return figure


@also_for_phones
def plot_score_by_step(
    panels: Mapping[str, Mapping[str, Mapping[int, Interval]]],
) -> Figure:
    """Plot scores against the training step, a panel per score and a curve per run.

    Parameters
    ----------
    panels : mapping
        By name of the score, run and step, the score. A panel may lack runs and steps.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per score, or several where there are more than six runs; a run looks the same
        in all of them. The x axis has a square-root scale, which spreads the first steps.

    Examples
    --------
    >>> scores = {0: Interval(0.1, 0.0, 0.2, n=60), 100: Interval(0.3, 0.2, 0.4, n=60)}
    >>> figure = plot_score_by_step({"IMA score": {"image": scores}})
    >>> figure.axes[0].get_xlabel()
    'training step'
    """
    names = list(dict.fromkeys(name for runs in panels.values() for name in runs))
    parts = split_series(names)
    titles = [
        number_title(title, number, len(parts)) for title in panels for number in range(len(parts))
    ]
    shown = [(title, runs, part) for title, runs in panels.items() for part in parts]
    with open_panel_grid(titles, columns=2, xlabel="training step") as (figure, places):
        for axes, (title, runs, part) in zip(places, shown, strict=True):
            for name in (each for each in part if each in runs):
                table = pd.DataFrame(map(vars, runs[name].values())).assign(step=list(runs[name]))
                style = get_list_style(names.index(name))
                plot_interval_line(axes, table, x="step", label=name, clip_on=False, **style)
            axes.set_ylabel(_UNITS.get(title, title))
            axes.set_xscale("function", functions=(np.sqrt, np.square))
            axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
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
        Later steps are darker. Of more than six, the first, the last and four between them are
        curves; the band is the range of all.

    Examples
    --------
    >>> curves = {step: curve["estimate"].mean("dataset") for step, curve in by_step.items()}
    ... # doctest: +SKIP
    >>> plot_layer_curves_by_step({"image": curves})  # doctest: +SKIP
    """
    dark = LIST_COLOURS[0]
    ramp = sns.light_palette(dark, as_cmap=True)
    with open_panel_grid(
        panels, columns=4, xlabel="layer", ylabel="mean cosine (PvsT)", sharey=True
    ) as (figure, places):
        for axes, steps in zip(places, panels.values(), strict=True):
            curves, last_step = list(steps.values()), len(steps) - 1
            shown = np.unique(np.linspace(0, last_step, min(_MOST_STEPS, len(steps))).astype(int))
            if len(shown) < len(steps):
                every = xr.concat(curves, "step", join="override")
                axes.fill_between(
                    every["layer"], every.min("step"), every.max("step"), color=dark, alpha=0.07,
                    linewidth=0,
                )  # fmt: skip
            looks = {i: {"color": ramp(0.3 + 0.6 * i / max(last_step, 1))} for i in shown}
            looks[last_step] = {"color": dark, "linewidth": 2.2, "label": last}
            looks[0] = {"color": SERIES_COLOURS.get(first, dark), "label": first} | {
                "linewidth": 2.2, "linestyle": "--",
            }  # fmt: skip
            for i in shown:
                axes.plot(curves[i]["layer"], curves[i], **{"linewidth": 1.0} | looks[i])
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
        For each statistic, a row of two panels for the stream and the norm layers, which rescale
        it, and a row for what attention and the MLP compute.

    Examples
    --------
    >>> norms = compute_hook_point_norms(cache_set.read_norms())  # doctest: +SKIP
    >>> plot_hook_point_statistics({"L2 norm": norms}, log_statistic="L2 norm")  # doctest: +SKIP
    """
    rows = [
        (title, group, curves.sel(hook_point=own))
        for title, curves in statistics.items()
        for group, own in _group_hook_points(curves).items()
    ]
    height = 0.9 + 1.9 * len(rows)
    with open_figure(rows=len(rows), columns=2, height=height, sharey="row") as (figure, grid):
        for row, (title, group, curves) in zip(grid, rows, strict=True):
            for axes, kind in zip(row, curves["kind"].to_numpy(), strict=True):
                plot_named_curves(axes, curves.sel(kind=kind), dim="hook_point")
                axes.set(title=f"{kind} tokens: {group}", xlabel="layer")
                if title == log_statistic:
                    set_log_scale(axes)
            for axes in row if is_narrow() else row[:1]:
                axes.set_ylabel(title)
        name_series(figure, list(grid.flat), columns=2)
    return figure


def _group_hook_points(curves: xr.Dataset) -> dict[str, list[str]]:
    names = [str(name) for name in curves["hook_point"].to_numpy()]
    stream = [name for name in names if name in _STREAM]
    groups = {_STREAM_TITLE: stream, _OUTPUT_TITLE: [name for name in names if name not in stream]}
    return {title: own for title, own in groups.items() if own}


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
    with open_panel_grid(panels, columns=4, ylabel="IMA score (cosine)", legend_columns=2) as (
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
