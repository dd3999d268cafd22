"""Figures that compare models (I1, I2): scores against proxies, object detection, steering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ima.figures.contrast import set_readable_numerals
from ima.figures.labels import name_points, number_title, split_series
from ima.figures.palette import SERIES_COLOURS, SERIES_MARKERS, get_list_style
from ima.figures.phone import SMALL_TEXT, also_for_phones
from ima.figures.style import (
    make_error_bars,
    open_axes,
    open_panel_grid,
    plot_interval_line,
    plot_interval_points,
    plot_null_line,
    set_log_scale,
)
from ima.stats import FloatArray
from ima.stats.correlation import MIN_STRATUM_MODELS, correlate_rows
from ima.stats.intervals import Interval
from ima.studies.model_families import ComparedModel

#: What the measures of the ladder are counted in.
_UNITS = {
    **dict.fromkeys(("IMA score", "IMA score (input)", "matched minus all"), "cosine"),
    "retrieval@1": "fraction of samples",
    "linear CKA": "CKA (1: the same)",
    "exact captions": "fraction of captions",
}
#: The names of more points would overlap.
_MAX_NAMED_MODELS = 9


@also_for_phones
def plot_models_by_proxy(
    panels: Mapping[str, Sequence[ComparedModel]], *, ylabel: str, named: bool = False
) -> Figure:
    """Plot the score of models against their IMA score.

    Parameters
    ----------
    panels : mapping of str to sequence of ComparedModel
        The models of each panel by its title.
    ylabel : str
        The score.
    named : bool
        Whether to name the models of panels that hold few.

    Returns
    -------
    matplotlib.figure.Figure
        A point per model with 95 % intervals over samples, in the colour of its modality. Finished
        models are filled, short runs are small. A line joins the steps of a training run. Titles
        give Spearman's rho and the number of models.

    Examples
    --------
    >>> families = group_families(summaries, metrics={"qa": "exact_match"})  # doctest: +SKIP
    >>> plot_models_by_proxy(families, ylabel="exact answers")  # doctest: +SKIP
    """
    # Names need room.
    columns, height = (2, 2.7) if named else (3, 2.3)
    with open_panel_grid(
        panels, columns=columns, row_height=height, xlabel="IMA score (cosine)", ylabel=ylabel
    ) as (
        figure,
        places,
    ):
        for axes, (title, models) in zip(places, panels.items(), strict=True):
            _plot_compared_models(axes, models)
            axes.set_title(f"{title}\n{_describe_correlation(models)}", fontsize=9)
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.margins(0.15)
        if named:
            figure.draw_without_rendering()  # the sizes of the panels decide which names overlap
            for axes, models in zip(places, panels.values(), strict=True):
                if len(models) <= _MAX_NAMED_MODELS:
                    high_first = sorted(models, key=lambda model: -float(model.score[0]))
                    name_points(axes, [(m.ima_score[0], m.score[0], m.name) for m in high_first])
    return figure


def _plot_compared_models(axes: Axes, models: Sequence[ComparedModel]) -> None:
    runs: dict[tuple[str, str], list[ComparedModel]] = {}
    for model in models:
        runs.setdefault((model.run, model.dataset), []).append(model)
    for steps in runs.values():
        xs, ys = ([float(getattr(m, name)[0]) for m in steps] for name in ("ima_score", "score"))
        axes.plot(xs, ys, color="0.6", linewidth=0.9, zorder=1)
    for model in models:
        x, y = (_make_interval(v, model) for v in (model.ima_score, model.score))
        colour = SERIES_COLOURS[model.modality]
        axes.errorbar(
            x.value, y.value,
            xerr=make_error_bars(x.value, low=x.low, high=x.high),
            yerr=make_error_bars(y.value, low=y.low, high=y.high),
            color=colour, marker=SERIES_MARKERS[model.modality], linestyle="", elinewidth=0.5,
            markersize=3 if model.stage == "short run" else 5, label=model.modality,
            markerfacecolor=colour if model.stage == "finished" else "white",
        )  # fmt: skip


def _make_interval(values: FloatArray, model: ComparedModel) -> Interval:
    draws = values[1:] if len(values) > 1 else values
    return Interval.of_draws(values[0], draws, n=model.samples)


def _describe_correlation(models: Sequence[ComparedModel]) -> str:
    """Return Spearman's rho if there is one, and the number of models."""
    x, y = (np.array([[getattr(m, name)[0] for m in models]]) for name in ("ima_score", "score"))
    count = f"n = {len(models)}"
    if len(models) < MIN_STRATUM_MODELS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return count
    return f"ρ = {correlate_rows(x, y)[0]:.2f}, {count}"


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
    with open_axes(0.34 * len(values) + 2.2) as (figure, axes):
        sns.heatmap(
            values, ax=axes, annot=cells.fillna("").to_numpy(), fmt="", cmap="RdBu_r", vmin=-1,
            vmax=1, annot_kws={"fontsize": SMALL_TEXT}, cbar_kws={"label": "Spearman correlation"},
        )  # fmt: skip
        set_readable_numerals(axes)
        axes.set(xlabel="", ylabel="")
        axes.tick_params(left=False, bottom=False, labelsize=SMALL_TEXT)
        axes.set_xticklabels(axes.get_xticklabels(), rotation=30, ha="right")
    return figure


@also_for_phones
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
    looks = {damage: get_list_style(number) for number, damage in enumerate(titles)}
    looks["random"] = {"color": SERIES_COLOURS["random blocks"], "marker": "P"}
    losses = table[table["measure"] == loss].set_index("rung")["value"]
    with open_panel_grid(
        measures.values(),
        row_height=2.5,
        xlabel="loss on captions (nats)",
        legend_columns=4,
    ) as (figure, places):
        for axes, measure in zip(places, measures, strict=True):
            axes.set_ylabel(_UNITS.get(measures[measure], measures[measure]))
            own = table[table["measure"] == measure]
            for damage, title in titles.items():
                rungs = own[own["damage"] == damage]
                x = losses[rungs["rung"]].to_numpy()
                plot_interval_points(axes, x, rungs, linestyle="", label=title, **looks[damage])
            axes.invert_xaxis()
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.margins(0.12)
        figure.draw_without_rendering()  # the sizes of the panels decide which names overlap
        numbered = table[table["damage"].isin(["bits", "blocks"])]
        for axes, measure in zip(places, measures, strict=True):
            own = numbered[numbered["measure"] == measure]
            names = own["rung"].str.partition("-")[0]
            name_points(axes, zip(losses[own["rung"]], own["value"], names, strict=True))
    return figure


@also_for_phones
def plot_object_auc(auc: pd.DataFrame) -> Figure:
    """Plot how well perceptual tokens separate the words of present objects from other words.

    Parameters
    ----------
    auc : pandas.DataFrame
        ``panel``, ``line``, ``layer``, ``estimate``, ``low`` and ``high``.

    Returns
    -------
    matplotlib.figure.Figure
        Curves with their 95 % intervals, at most six in a panel; a line looks the same in all
        panels. At 0.5 the tokens do not separate the words.

    Examples
    --------
    >>> curve = compute_object_auc(tokens, words, present).to_dataframe()  # doctest: +SKIP
    >>> table = curve.reset_index().assign(panel="opt-mini, image", line="vit")  # doctest: +SKIP
    >>> plot_object_auc(table)  # doctest: +SKIP
    """
    styles = {str(name): get_list_style(i) for i, name in enumerate(auc["line"].unique())}
    panels = {}
    for title, own in auc.groupby("panel", sort=False):
        parts = split_series(list(own["line"].unique()))
        for number, names in enumerate(parts):
            panels[number_title(str(title), number, len(parts))] = own[own["line"].isin(names)]
    with open_panel_grid(
        panels, row_height=2.1, xlabel="layer", ylabel="area under the ROC curve",
        legend_columns=4, sharey=True,
    ) as (figure, places):  # fmt: skip
        for axes, own in zip(places, panels.values(), strict=True):
            for name, curve in own.groupby("line", sort=False):
                plot_interval_line(
                    axes, curve, x="layer", y="estimate", markersize=3, label=name,
                    **styles[str(name)],
                )  # fmt: skip
            plot_null_line(axes, 0.5, label="no difference")
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    return figure


@also_for_phones
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
    with open_axes(3.0, xlabel="samples", ylabel="time (s)") as (figure, axes):
        for i, (way, rows) in enumerate(costs.groupby("way", sort=False)):
            axes.plot(rows["samples"], rows["seconds"], label=way, **get_list_style(i))
        set_log_scale(axes)
        axes.set_xscale("log")
        counts = sorted(set(costs["samples"]))
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
    return figure
