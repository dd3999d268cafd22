"""Figures that compare models (I1, I2): scores against proxies, object detection, steering."""

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

#: The names of more points would overlap.
_MAX_NAMED_MODELS = 9


def plot_models_by_proxy(
    comparisons: Sequence[ModelComparison], *, name: str, xlabel: str, columns: int = 3
) -> Figure:
    """Plot the score of models against a proxy, a panel for each comparison.

    Parameters
    ----------
    comparisons : sequence of ModelComparison
        At least one.
    name : str
        The proxy on the x axis.
    xlabel : str
        Label of the x axis.
    columns : int
        Panels in a row.

    Returns
    -------
    matplotlib.figure.Figure
        A point per model with 95 % intervals over samples, in the colour of its modality. A line
        joins the checkpoints of a training run; the last one is black.

    Examples
    --------
    >>> plot_models_by_proxy(comparisons, name="IMA score", xlabel="cosine")  # doctest: +SKIP
    """
    with open_panel_grid(len(comparisons), columns=columns, base_height=0.9, row_height=2.5) as (
        figure,
        grid,
        places,
    ):
        for axes, comparison in zip(places, comparisons, strict=True):
            _plot_comparison(axes, comparison, name)
            axes.set_title(_break_title(comparison.title), fontsize="small")
            axes.set_ylabel(comparison.metric.replace("_", " "))
        for axes in places[-grid.shape[1] :]:
            axes.set_xlabel(xlabel)
        shown = {_get_modality(own) for each in comparisons for own in each.summaries.values()}
        handles = [
            Line2D(
                [], [], color=SERIES_COLOURS[modality], marker=SERIES_MARKERS[modality],
                linestyle="", label=modality,
            )
            for modality in ("image", "video", "audio")
            if modality in shown
        ]  # fmt: skip
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _plot_comparison(axes: Axes, comparison: ModelComparison, name: str) -> None:
    metric, is_training = comparison.metric, comparison.kind == "training"
    scored = {t: own for t, own in comparison.summaries.items() if metric in own.scores}
    xs = [_make_interval(own.proxies[name], own) for own in scored.values()]
    ys = [_make_interval(own.scores[metric], own) for own in scored.values()]
    if is_training:
        axes.plot([x.value for x in xs], [y.value for y in ys], color="0.6", linewidth=0.9)
    for (title, summary), x, y in zip(scored.items(), xs, ys, strict=True):
        modality = _get_modality(summary)
        is_last = is_training and title == list(scored)[-1]
        axes.errorbar(
            x.value, y.value,
            xerr=[[x.value - x.low], [x.high - x.value]],
            yerr=[[y.value - y.low], [y.high - y.value]],
            color=SERIES_COLOURS[modality], marker=SERIES_MARKERS[modality], elinewidth=0.7,
            markerfacecolor="black" if is_last else SERIES_COLOURS[modality],
        )  # fmt: skip
        if len(scored) <= _MAX_NAMED_MODELS and not is_training:
            axes.annotate(
                title, (x.value, y.value), xytext=(4, 4), textcoords="offset points",
                fontsize="xx-small",
            )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.margins(0.15)


def _make_interval(values: FloatArray, summary: ModelSummary) -> Interval:
    draws = values[1:] if len(values) > 1 else values
    return Interval.of_draws(values[0], draws, n=summary.samples)


def _get_modality(summary: ModelSummary) -> str:
    return next((m for m in SERIES_COLOURS if m in summary.dataset.split("-")), "text")


def _break_title(title: str) -> str:
    """Break a long title after a comma, slash or space near its middle."""
    if len(title) < 30:
        return title
    places = [i + 1 for i, letter in enumerate(title) if letter in ",/ "]
    middle = min(places, key=lambda place: abs(place - len(title) / 2), default=len(title))
    return f"{title[:middle].rstrip()}\n{title[middle:].lstrip()}"


def plot_proxy_correlations(table: pd.DataFrame, *, level: float = 0.05) -> Figure:
    """Plot the correlation of each proxy with the score in each comparison as a heat map.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`ima.studies.model_comparison.correlate_comparisons`.
    level : float
        Numbers with an adjusted p below this level have a star.

    Returns
    -------
    matplotlib.figure.Figure
        Spearman's correlations, comparisons in rows with their number of models.

    Examples
    --------
    >>> plot_proxy_correlations(correlate_comparisons(comparisons))  # doctest: +SKIP
    """
    spearman = table[table["coefficient"] == "spearman"]
    order = list(dict.fromkeys(spearman["comparison"]))
    proxies = list(dict.fromkeys(spearman["proxy"]))
    values = spearman.pivot_table(index="comparison", columns="proxy", values="value")
    p = spearman.pivot_table(index="comparison", columns="proxy", values="p adjusted")
    stars = p < level
    values, stars = values.loc[order, proxies], stars.loc[order, proxies]
    cells = values.map(lambda value: "" if np.isnan(value) else f"{value:.2f}") + stars.map(
        lambda star: "*" if star else ""
    )
    counts = spearman.drop_duplicates("comparison").set_index("comparison")["models"]
    values.index = [f"{title} ({counts[title]})" for title in order]
    with open_figure(height=0.34 * len(order) + 1.9) as (figure, grid):
        axes = grid[0, 0]
        sns.heatmap(
            values, ax=axes, annot=cells.to_numpy(), fmt="", cmap="RdBu_r", vmin=-1, vmax=1,
            annot_kws={"fontsize": "x-small"}, cbar_kws={"label": "Spearman correlation"},
        )  # fmt: skip
        axes.set(xlabel="", ylabel="")
        axes.tick_params(left=False, bottom=False, labelsize="x-small")
        axes.set_xticklabels(axes.get_xticklabels(), rotation=30, ha="right")
    return figure


def plot_object_auc(auc_by_model: Mapping[str, pd.DataFrame]) -> Figure:
    """Plot how well perceptual tokens separate the words of present objects from other words.

    Parameters
    ----------
    auc_by_model : mapping of str to pandas.DataFrame
        By model, ``layer``, ``estimate``, ``low``, ``high`` and a constant ``modality``.

    Returns
    -------
    matplotlib.figure.Figure
        A panel per modality, a curve per model with its 95 % interval. At 0.5 the tokens do not
        separate the words.

    Examples
    --------
    >>> auc = compute_object_auc(tokens, words, present=present)  # doctest: +SKIP
    >>> table = auc.to_dataframe().reset_index().assign(modality="image")  # doctest: +SKIP
    >>> plot_object_auc({"opt-mini/vit/image-caption": table})  # doctest: +SKIP
    """
    by_modality: dict[str, dict[str, pd.DataFrame]] = {}
    for title, curve in auc_by_model.items():
        by_modality.setdefault(str(curve["modality"].iloc[0]), {})[title] = curve
    with open_panel_grid(
        len(by_modality), columns=3, base_height=1.6, row_height=2.4, sharey=True
    ) as (figure, grid, places):
        for axes, (modality, curves) in zip(places, by_modality.items(), strict=True):
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


def plot_steering_sweep(sweep: pd.DataFrame, *, columns: int = 3) -> Figure:
    """Plot error rates over the length of the steering vector, a panel for each metric.

    Parameters
    ----------
    sweep : pandas.DataFrame
        From :func:`ima.interventions.steering.sweep_steering`.
    columns : int
        Panels in a row.

    Returns
    -------
    matplotlib.figure.Figure
        A curve toward text and a curve in a random direction, with 95 % intervals.

    Examples
    --------
    >>> plot_steering_sweep(sweep_steering(model, vectors, ...))  # doctest: +SKIP
    """
    styles = {"toward text": ("#D55E00", "o", "-"), "random direction": ("#7F7F7F", "s", "--")}
    metrics = list(dict.fromkeys(sweep["metric"]))
    with open_panel_grid(
        len(metrics), columns=columns, base_height=0.8, row_height=2.4, ylabel="fraction"
    ) as (figure, _, places):
        for axes, metric in zip(places, metrics, strict=True):
            for direction, style in styles.items():
                rows = sweep[(sweep["metric"] == metric) & (sweep["direction"] == direction)]
                plot_interval_line(axes, rows, x="amount", label=direction, style=style)
            axes.axvline(0, color="0.8", linewidth=0.8, zorder=0)
            axes.set(title=metric.replace("_", " "), xlabel="shift (distances between the means)")
            axes.xaxis.label.set_fontsize("small")
        add_outside_legend(figure, places[0], columns=2)
    return figure


def plot_pairwise_cost(costs: pd.DataFrame) -> Figure:
    """Plot how the cost of a mean over all pairs grows with the number of samples.

    Parameters
    ----------
    costs : pandas.DataFrame
        From :func:`ima.bench.speed.tabulate_pairwise_cost`.

    Returns
    -------
    matplotlib.figure.Figure
        Seconds over samples, a curve per way, on logarithmic scales.

    Examples
    --------
    >>> plot_pairwise_cost(tabulate_pairwise_cost(timings))  # doctest: +SKIP
    """
    styles = {
        "means": ("#000000", "s", "product of means"),
        "pairs": ("#D55E00", "X", "pair by pair"),
    }
    with open_figure(height=3.0) as (figure, grid):
        axes = grid[0, 0]
        for way, (colour, marker, label) in styles.items():
            rows = costs[costs["way"] == way]
            axes.plot(rows["samples"], rows["seconds"], color=colour, marker=marker, label=label)
        axes.set(xscale="log", yscale="log", xlabel="samples", ylabel="seconds")
        counts = sorted(set(costs["samples"]))
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
        add_outside_legend(figure, axes, columns=2)
    return figure
