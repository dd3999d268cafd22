"""The map of systems: what each costs and does to score and alignment, on the same axes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ima.figures.palette import SERIES_COLOURS, get_list_style
from ima.figures.phone import SMALL_TEXT, also_for_phones
from ima.figures.style import make_error_bars, open_panel_grid

_ROW = 0.36  # inches: a row has two lines of words


@also_for_phones
def plot_system_map(table: pd.DataFrame) -> Figure:
    """Plot the effects of systems as rows of dots, a panel for each quantity.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`ima.systems.overview.tabulate_map`: ``system``, ``where``, ``change``,
        ``panel``, ``unit``, ``value``, ``low``, ``high``; NaN where there is no number.

    Returns
    -------
    matplotlib.figure.Figure
        Every panel has a row for each system and place, in the same order; dotted at what a
        system is compared with. Colour and marker say what a system changes. Bars are 95 %
        intervals.

    Examples
    --------
    >>> one = {"system": "VTW", "where": "m, d", "change": "tokens", "panel": "cost"}
    >>> row = one | {"unit": "fraction", "value": -0.3, "low": -0.3, "high": -0.3}
    >>> figure = plot_system_map(pd.DataFrame([row]))
    >>> figure.axes[0].get_yticklabels()[0].get_text().splitlines()
    ['VTW:', 'm, d']
    """
    rows = list(dict.fromkeys(zip(table["system"], table["where"], strict=True)))
    names = [f"{system}:\n{where}" for system, where in rows]
    changes = list(dict.fromkeys(table["change"]))
    parts = {name: own for name, own in table.groupby("panel", sort=False) if _has_numbers(own)}
    with open_panel_grid(
        map(str, parts), base_height=1.0, row_height=0.5 + _ROW * len(rows), sharey=True,
        legend_columns=4,
    ) as (figure, panels):  # fmt: skip
        for axes, own in zip(panels, parts.values(), strict=True):
            axes.axvline(0, color=SERIES_COLOURS["null"], linestyle=":")
            for number, change in enumerate(changes):
                dots = own[(own["change"] == change) & own["value"].notna()]
                keys = zip(dots["system"], dots["where"], strict=True)
                places = np.array([rows.index(key) for key in keys], float)
                ends = make_error_bars(dots["value"], low=dots["low"], high=dots["high"])
                if len(places):
                    axes.errorbar(
                        dots["value"], places, xerr=ends, linestyle="", elinewidth=0.8,
                        label=f"changes {change}", **get_list_style(number),
                    )  # fmt: skip
            axes.set_xlabel(own["unit"].iloc[0])
            axes.xaxis.set_major_locator(MaxNLocator(3))
            axes.set_yticks(range(len(rows)), names, fontsize=SMALL_TEXT)
            axes.set_ylim(len(rows) - 0.5, -0.5)
    return figure


def _has_numbers(table: pd.DataFrame) -> bool:
    return bool(table["value"].notna().any())
