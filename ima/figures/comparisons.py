"""Figures that compare models (I1, I2): scores against proxies, object detection, steering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ima.figures.style import (
    SERIES_COLOURS,
    SERIES_LABELS,
    SERIES_MARKERS,
    get_numbered_style,
    open_axes,
    open_panel_grid,
    plot_interval_line,
    plot_interval_points,
    plot_null_line,
)
from ima.stats import FloatArray
from ima.stats.intervals import Interval
from ima.studies.model_comparison import ModelComparison
from ima.studies.model_summary import IMA_SCORE, ModelSummary

#: The names of more points would overlap.
_MAX_NAMED_MODELS = 9


def plot_models_by_proxy(comparisons: Sequence[ModelComparison]) -> Figure:
    """Plot the score of models against their IMA score, a panel for each comparison.

    Parameters
    ----------
    comparisons : sequence of ModelComparison
        At least one.

    Returns
    -------
    matplotlib.figure.Figure
        A point per model with 95 % intervals over samples, in the colour of its modality. A line
        joins the checkpoints of a training run; the last one is black.

    Examples
    --------
    >>> plot_models_by_proxy(comparisons)  # doctest: +SKIP
    """
    titles = [comparison.title for comparison in comparisons]
    with open_panel_grid(titles, row_height=2.5, xlabel="IMA score (cosine)") as (figure, places):
        for axes, comparison in zip(places, comparisons, strict=True):
            _plot_comparison(axes, comparison)
            axes.set_title(_break_title(comparison.title), fontsize="small")
            axes.set_ylabel(comparison.metric.replace("_", " "))
    return figure


def _plot_comparison(axes: Axes, comparison: ModelComparison) -> None:
    metric, is_training = comparison.metric, comparison.kind == "training"
    scored = {t: own for t, own in comparison.summaries.items() if metric in own.scores}
    xs = [_make_interval(own.proxies[IMA_SCORE], own) for own in scored.values()]
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
            markerfacecolor="black" if is_last else SERIES_COLOURS[modality], linestyle="",
            label=modality,
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


def plot_proxy_correlations(table: pd.DataFrame) -> Figure:
    """Plot the correlation of each proxy with the score in each comparison as a heat map.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`ima.studies.model_comparison.correlate_comparisons`.

    Returns
    -------
    matplotlib.figure.Figure
        Spearman's correlations, comparisons in rows with their number of models. Those with an
        adjusted p below 0.05 have a star.

    Examples
    --------
    >>> plot_proxy_correlations(correlate_comparisons(comparisons))  # doctest: +SKIP
    """
    spearman = table[table["coefficient"] == "spearman"]
    stars = np.where(spearman["p adjusted"] < 0.05, "*", "")
    spearman = spearman.assign(
        row=spearman["comparison"] + spearman["models"].map(" ({})".format),
        cell=spearman["value"].map("{:.2f}".format) + stars,
    )
    wide = spearman.pivot_table(
        index="row", columns="proxy", values=["value", "cell"], aggfunc="first"
    ).loc[spearman["row"].unique()]
    values, cells = (wide[name][spearman["proxy"].unique()] for name in ("value", "cell"))
    with open_axes(0.34 * len(values) + 1.9) as (figure, axes):
        sns.heatmap(
            values, ax=axes, annot=cells.fillna("").to_numpy(), fmt="", cmap="RdBu_r", vmin=-1,
            vmax=1, annot_kws={"fontsize": "x-small"}, cbar_kws={"label": "Spearman correlation"},
        )  # fmt: skip
        axes.set(xlabel="", ylabel="")
        axes.tick_params(left=False, bottom=False, labelsize="x-small")
        axes.set_xticklabels(axes.get_xticklabels(), rotation=30, ha="right")
    return figure


def plot_ladder(table: pd.DataFrame, measures: Mapping[str, str], *, loss: str) -> Figure:
    """Plot measures of damaged language models over a loss of each, a panel for each measure.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`ima.studies.ladder.tabulate_ladder`.
    measures : mapping of str to str
        Titles of the panels, by measure of the table.
    loss : str
        The measure along the x axis. It falls from left to right.

    Returns
    -------
    matplotlib.figure.Figure
        A point per rung with its 95 % interval over samples, in the colour of the damage.

    Examples
    --------
    >>> plot_ladder(table, {"exact_set": "exact captions"}, loss=VALIDATION_LOSS)  # doctest: +SKIP
    """
    titles = {
        "none": "whole",
        "bits": "rounded (bits)",
        "blocks": "first blocks only",
        "random": "random weights",
    }
    losses = table[table["measure"] == loss].set_index("rung")["value"]
    with open_panel_grid(
        measures.values(),
        row_height=2.5,
        xlabel="loss on captions (nats)",
        legend_columns=4,
    ) as (figure, places):
        for axes, measure in zip(places, measures, strict=True):
            own = table[table["measure"] == measure]
            for number, (damage, title) in enumerate(titles.items()):
                rungs = own[own["damage"] == damage]
                x = losses[rungs["rung"]].to_numpy()
                style = get_numbered_style(number)
                plot_interval_points(axes, x, rungs, linestyle="", label=title, **style)
                if damage in {"bits", "blocks"}:
                    numbers = rungs["rung"].str.partition("-")[0]
                    for number_text, *point in zip(numbers, x, rungs["value"], strict=True):
                        axes.annotate(
                            number_text, (point[0], point[1]), xytext=(4, 3),
                            textcoords="offset points", fontsize="xx-small",
                        )  # fmt: skip
            axes.invert_xaxis()
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.margins(0.12)
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
    titles = [SERIES_LABELS.get(modality, modality) for modality in by_modality]
    with open_panel_grid(
        titles, base_height=1.6, xlabel="layer", ylabel="area under the ROC curve",
        legend_columns=2, sharey=True,
    ) as (figure, places):  # fmt: skip
        for axes, (modality, curves) in zip(places, by_modality.items(), strict=True):
            shades = sns.light_palette(SERIES_COLOURS[modality], len(curves) + 2)[2:]
            for shade, line, (title, curve) in zip(
                shades, cycle(("-", "--", "-.", ":")), curves.items(), strict=False
            ):
                plot_interval_line(
                    axes, curve, x="layer", y="estimate", color=shade, linestyle=line,
                    marker=SERIES_MARKERS[modality], markersize=3, label=title,
                )  # fmt: skip
            plot_null_line(axes, 0.5, label="no difference")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
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
    with open_axes(3.0, xlabel="samples", ylabel="seconds") as (figure, axes):
        for i, (way, rows) in enumerate(costs.groupby("way", sort=False)):
            axes.plot(rows["samples"], rows["seconds"], label=way, **get_numbered_style(i))
        axes.set(xscale="log", yscale="log")
        counts = sorted(set(costs["samples"]))
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
    return figure
