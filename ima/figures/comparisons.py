"""Figures of the implications (I1, I2): models against their scores, proxies, steering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ima.figures.style import (
    SERIES_COLOURS,
    SERIES_LABELS,
    SERIES_MARKERS,
    add_outside_legend,
    open_figure,
    open_panel_grid,
    plot_interval_line,
    plot_null_line,
)
from ima.stats import FloatArray
from ima.stats.intervals import Interval
from ima.studies.model_comparison import ModelComparison
from ima.studies.model_summary import ModelSummary

#: With more points their names would cover each other.
_MAX_NAMED_MODELS = 9


def plot_models_by_proxy(
    comparisons: Sequence[ModelComparison], *, name: str, xlabel: str, columns: int = 3
) -> Figure:
    """Draw models by a proxy and their score, a panel for each comparison.

    Parameters
    ----------
    comparisons : sequence of Comparison
        At least one.
    name : str
        Which proxy is on the x axis.
    xlabel : str
        What it is called.
    columns : int
        Panels in a row.

    Returns
    -------
    matplotlib.figure.Figure
        A point a model with its 95 % intervals over samples, in the colour of its modality; weights
        of one run joined in the order of training, the last one filled black.
    """
    with open_panel_grid(len(comparisons), columns=columns, base=0.9, row=2.5) as (
        figure,
        grid,
        places,
    ):
        for axes, one in zip(places, comparisons, strict=True):
            _models(axes, one, name)
            axes.set_title(_broken(one.title), fontsize="small")
            axes.set_ylabel(one.metric.replace("_", " "))
        for axes in places[-grid.shape[1] :]:
            axes.set_xlabel(xlabel)
        seen = {_modality(point) for one in comparisons for point in one.summaries.values()}
        handles = [
            Line2D(
                [],
                [],
                color=SERIES_COLOURS[m],
                marker=SERIES_MARKERS[m],
                linestyle="",
                label=SERIES_LABELS.get(m, m),
            )
            for m in ("image", "video", "audio")
            if m in seen
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _models(axes: Axes, one: ModelComparison, name: str) -> None:
    kept = {title: p for title, p in one.summaries.items() if one.metric in p.scores}
    xs = [_interval(point.proxies[name], point) for point in kept.values()]
    ys = [_interval(point.scores[one.metric], point) for point in kept.values()]
    if one.kind == "training":
        axes.plot([x.value for x in xs], [y.value for y in ys], color="0.6", linewidth=0.9)
    for (title, point), x, y in zip(kept.items(), xs, ys, strict=True):
        modality = _modality(point)
        last = one.kind == "training" and title == list(kept)[-1]
        axes.errorbar(
            x.value, y.value,
            xerr=[[x.value - x.low], [x.high - x.value]],
            yerr=[[y.value - y.low], [y.high - y.value]],
            color=SERIES_COLOURS[modality], marker=SERIES_MARKERS[modality], elinewidth=0.7,
            markerfacecolor="black" if last else SERIES_COLOURS[modality],
        )  # fmt: skip
        if len(kept) <= _MAX_NAMED_MODELS and one.kind != "training":
            axes.annotate(
                title, (x.value, y.value), xytext=(4, 4), textcoords="offset points",
                fontsize="xx-small",
            )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.margins(0.15)


def _interval(values: FloatArray, point: ModelSummary) -> Interval:
    draws = values[1:] if len(values) > 1 else values
    return Interval.of_draws(values[0], draws, n=point.samples)


def _modality(point: ModelSummary) -> str:
    return next((m for m in SERIES_COLOURS if m in point.dataset.split("-")), "text")


def _broken(title: str) -> str:
    """Break a long title behind a comma or a slash, near its middle."""
    if len(title) < 30:
        return title
    places = [i + 1 for i, letter in enumerate(title) if letter in ",/ "]
    at = min(places, key=lambda place: abs(place - len(title) / 2), default=len(title))
    return f"{title[:at].rstrip()}\n{title[at:].lstrip()}"


def plot_proxy_correlations(table: pd.DataFrame, *, level: float = 0.05) -> Figure:
    """Draw how well each proxy goes with the score, in each comparison.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`ima.studies.model_comparison.correlate_comparisons`.
    level : float
        Adjusted p below which a number has a star.

    Returns
    -------
    matplotlib.figure.Figure
        A heat map of Spearman's correlations: comparisons in rows, with their number of models.
    """
    spearman = table[table["coefficient"] == "spearman"]
    order = list(dict.fromkeys(spearman["comparison"]))
    proxies = list(dict.fromkeys(spearman["proxy"]))
    values = spearman.pivot_table(index="comparison", columns="proxy", values="value")
    p = spearman.pivot_table(index="comparison", columns="proxy", values="p adjusted")
    stars = p < level
    values, stars = values.loc[order, proxies], stars.loc[order, proxies]
    told = values.map(lambda v: "" if np.isnan(v) else f"{v:.2f}") + stars.map(
        lambda star: "*" if star else ""
    )
    counts = spearman.drop_duplicates("comparison").set_index("comparison")["models"]
    values.index = [f"{title} ({counts[title]})" for title in order]
    with open_figure(height=0.34 * len(order) + 1.9) as (figure, grid):
        axes = grid[0, 0]
        sns.heatmap(
            values, ax=axes, annot=told.to_numpy(), fmt="", cmap="RdBu_r", vmin=-1, vmax=1,
            annot_kws={"fontsize": "x-small"}, cbar_kws={"label": "Spearman correlation"},
        )  # fmt: skip
        axes.set(xlabel="", ylabel="")
        axes.tick_params(left=False, bottom=False, labelsize="x-small")
        axes.set_xticklabels(axes.get_xticklabels(), rotation=30, ha="right")
    return figure


def plot_object_auc(found: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw how well percepts tell the words of what is there from other words, by layer.

    Parameters
    ----------
    found : mapping of str to pandas.DataFrame
        By model: ``layer``, ``estimate``, ``low``, ``high`` and ``modality``, the same in all rows.

    Returns
    -------
    matplotlib.figure.Figure
        A panel a modality, in shades of its colour a curve a model with its 95 % interval; one half
        says nothing.
    """
    grouped: dict[str, dict[str, pd.DataFrame]] = {}
    for title, curve in found.items():
        grouped.setdefault(str(curve["modality"].iloc[0]), {})[title] = curve
    with open_panel_grid(len(grouped), columns=3, base=1.6, row=2.4, sharey=True) as (
        figure,
        grid,
        places,
    ):
        for axes, (modality, curves) in zip(places, grouped.items(), strict=True):
            shades = sns.light_palette(SERIES_COLOURS[modality], len(curves) + 2)[2:]
            for shade, line, (title, curve) in zip(
                shades, cycle(("-", "--", "-.", ":")), curves.items(), strict=False
            ):
                axes.plot(
                    curve["layer"], curve["estimate"], color=shade, linestyle=line,
                    marker=SERIES_MARKERS[modality], markersize=3, label=title,
                )  # fmt: skip
                axes.fill_between(
                    curve["layer"], curve["low"], curve["high"], color=shade, alpha=0.12,
                    linewidth=0,
                )  # fmt: skip
            plot_null_line(axes, 0.5, label="no difference")
            axes.set(title=SERIES_LABELS.get(modality, modality), xlabel="layer")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        grid[0, 0].set_ylabel("area under the ROC curve")
        add_outside_legend(figure, places[::-1], columns=2)
    return figure


def plot_steering_sweep(swept: pd.DataFrame, *, columns: int = 3) -> Figure:
    """Draw errors over how far perceptual tokens were moved, a panel for each metric.

    Parameters
    ----------
    swept : pandas.DataFrame
        From :func:`ima.interventions.steering.sweep_steering`.
    columns : int
        Panels in a row.

    Returns
    -------
    matplotlib.figure.Figure
        Toward text and in a random direction, with 95 % intervals.
    """
    looks = {"toward text": ("#D55E00", "o", "-"), "random direction": ("#7F7F7F", "s", "--")}
    metrics = list(dict.fromkeys(swept["metric"]))
    with open_panel_grid(len(metrics), columns=columns, base=0.8, row=2.4) as (
        figure,
        grid,
        places,
    ):
        for axes, metric in zip(places, metrics, strict=True):
            for direction, look in looks.items():
                own = swept[(swept["metric"] == metric) & (swept["direction"] == direction)]
                plot_interval_line(axes, own, x="amount", label=direction, look=look)
            axes.axvline(0, color="0.8", linewidth=0.8, zorder=0)
            axes.set(title=metric.replace("_", " "), xlabel="moved by (distances of the means)")
            axes.xaxis.label.set_fontsize("small")
        for axes in grid[:, 0]:
            axes.set_ylabel("share")
        add_outside_legend(figure, places[0], columns=2)
    return figure


def plot_pairwise_cost(timed: pd.DataFrame) -> Figure:
    """Draw how the cost of a mean over all pairs grows with the number of samples.

    Parameters
    ----------
    timed : pandas.DataFrame
        From ``ima.bench.speed.tabulate_pairwise_cost``.

    Returns
    -------
    matplotlib.figure.Figure
        Seconds over samples, a curve a way, on logarithmic scales.
    """
    looks = {
        "means": ("#000000", "s", "product of means"),
        "pairs": ("#D55E00", "X", "pair by pair"),
    }
    with open_figure(height=3.0) as (figure, grid):
        axes = grid[0, 0]
        for way, (colour, marker, label) in looks.items():
            own = timed[timed["way"] == way]
            axes.plot(own["samples"], own["seconds"], color=colour, marker=marker, label=label)
        axes.set(xscale="log", yscale="log", xlabel="samples", ylabel="seconds")
        counts = sorted(set(timed["samples"]))
        axes.set_xticks(counts, [str(n) for n in counts])
        axes.minorticks_off()
        add_outside_legend(figure, axes, columns=2)
    return figure
