"""Figures that take the place of long tables: a row of dots for each row of numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ima.figures.palette import SERIES_COLOURS, get_list_style
from ima.figures.phone import also_for_phones
from ima.figures.style import make_error_bars, open_panel_grid

_ROW, _APART = 0.2, 0.24  # inches of a row; the distance of two series of a row, in rows


@also_for_phones
def plot_values_by_row(
    table: pd.DataFrame,
    *,
    panel: str,
    row: str,
    series: str,
    xlabel: str | Mapping[str, str],
    columns: int = 3,
    reference: float | None = None,
) -> Figure:
    """Plot numbers with their intervals as a table of dots.

    Parameters
    ----------
    table : pandas.DataFrame
        ``value``, ``low`` and ``high``, NaN where a number has no interval, and the columns that
        are named below.
    panel, row, series : str
        The columns that tell apart the panels, the rows of a panel, and the dots of a row.
    xlabel : str or mapping of str to str
        Quantity and unit, of all panels or by panel. By panel, each has a scale of its own.
    columns : int
        The wanted number of panels in a row.
    reference : float or None
        A value to mark in each panel.

    Returns
    -------
    matplotlib.figure.Figure
        Every panel has all rows. The names of series are left out if there is only one.

    Examples
    --------
    >>> one = {"model": "a", "mask": "random", "what": "gap", "value": 0.5, "low": 0.4, "high": 0.6}
    >>> figure = plot_values_by_row(
    ...     pd.DataFrame([one]), panel="model", row="mask", series="what", xlabel="gap (fraction)"
    ... )
    >>> figure.axes[0].get_yticklabels()[0].get_text()
    'random'
    """
    panels, rows, kinds = (list(dict.fromkeys(table[name])) for name in (panel, row, series))
    shared = isinstance(xlabel, str)
    with open_panel_grid(
        map(str, panels), columns=columns, base_height=0.8, row_height=0.6 + _ROW * len(rows),
        sharey=True, sharex=shared,
    ) as (figure, places):  # fmt: skip
        for axes, name in zip(places, panels, strict=True):
            own = table[table[panel] == name]
            for number, kind in enumerate(kinds):
                dots = own[own[series] == kind]
                at = np.array([rows.index(each) for each in dots[row]], float)
                at += _APART * (number - (len(kinds) - 1) / 2)
                ends = make_error_bars(dots["value"], low=dots["low"], high=dots["high"])
                axes.errorbar(
                    dots["value"], at, xerr=np.nan_to_num(ends), linestyle="", elinewidth=0.8,
                    label=str(kind) if len(kinds) > 1 else None, **get_list_style(number),
                )  # fmt: skip
            if reference is not None:
                axes.axvline(reference, color=SERIES_COLOURS["null"], linestyle=":")
            axes.set_xlabel(xlabel if isinstance(xlabel, str) else xlabel[name])
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.set_yticks(range(len(rows)), list(map(str, rows)))
            axes.set_ylim(len(rows) - 0.5, -0.5)
    return figure
