"""The verdicts on one reading of a claim: an interval per model, against null and margin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ima.figures.palette import SERIES_COLOURS

_WIDTH, _BASE_HEIGHT, _ROW_HEIGHT = 3.5, 0.75, 0.27  # inches; two stand side by side
_GREY, _FONT = "#4D4D4D", 9
# The colours of the style sheet on white; the marker says the same.
_STYLES: Mapping[str, Mapping[str, Any]] = {
    "supported": {"color": "#00664b", "marker": "o"},
    "contradicted": {"color": "#a33b00", "marker": "X"},
    "no effect within the margin": {"color": _GREY, "marker": "s"},
    "inconclusive": {"color": _GREY, "marker": "o", "markerfacecolor": "white"},
    "not testable here": {"color": "#8C8C8C", "marker": "D", "markerfacecolor": "white"},
}
# Where the lowest and the highest seed of a model are.
_TICK: Mapping[str, Any] = {"marker": "|", "markersize": 11, "markeredgewidth": 1.2}


def plot_verdicts(
    table: pd.DataFrame, *, null: float, margin: float, direction: str, title: str = ""
) -> Figure:
    """Plot the interval of each model against the null and the margin of a reading.

    Parameters
    ----------
    table : pandas.DataFrame
        A row per model, by its name: ``value``, ``low``, ``high`` and ``verdict``. Where it has
        ``lowest`` and ``highest``, ticks show between which values the seeds of a model lie.
    null : float
        The value that neither supports nor contradicts the claim.
    margin : float
        The smallest effect that counts; the band around the null.
    direction : {"greater", "less"}
        The side of the null on which the claim expects the statistic.
    title : str
        Title of the panel.

    Returns
    -------
    matplotlib.figure.Figure
        One panel, half a column wide: it is legible on a phone.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {"value": 0.2, "low": 0.1, "high": 0.3, "verdict": "supported"}, index=["llama"]
    ... )
    >>> figure = plot_verdicts(table, null=0, margin=0.02, direction="greater")
    """
    shown = table[table["value"].notna()]
    height = _BASE_HEIGHT + _ROW_HEIGHT * max(len(shown), 1)
    figure, axes = plt.subplots(figsize=(_WIDTH, height), layout="constrained")
    if margin:
        axes.axvspan(null - margin, null + margin, color="#E6E6E6", linewidth=0, zorder=0)
    axes.axvline(null, color=SERIES_COLOURS["null"], linestyle=":", linewidth=1.2, zorder=1)
    for place, (_, row) in enumerate(shown.iterrows()):
        style = dict(_STYLES[row["verdict"]])
        axes.hlines(place, row["low"], row["high"], color=style["color"], linewidth=1.6)
        axes.plot(row["value"], place, linestyle="none", markersize=5.5, **style)
        seeds = [row[name] for name in ("lowest", "highest") if pd.notna(row.get(name))]
        if seeds:
            tick = {**_TICK, "color": style["color"]}
            axes.plot(seeds, [place] * 2, linestyle="none", **tick)
    axes.set_yticks(np.arange(len(shown)), list(shown.index))
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(labelsize=_FONT)
    axes.locator_params(axis="x", nbins=4)
    axes.set_title(title, fontsize=_FONT + 1)
    greater = direction == "greater"
    arrow = "supports the claim →" if greater else "← supports the claim"
    axes.set_xlabel(arrow, fontsize=_FONT, color=_GREY, loc="right" if greater else "left")
    plt.close(figure)
    return figure
