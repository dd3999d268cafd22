"""Figure of simulated verdicts: how often they are wrong, and how often they find an effect."""

from __future__ import annotations

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from ima.figures.labels import add_outside_legend
from ima.figures.palette import SERIES_COLOURS, get_list_style
from ima.figures.phone import also_for_phones, is_narrow
from ima.figures.style import make_error_bars, open_figure
from ima.stats.intervals import compute_wilson_interval

_PANELS = {
    "false": "at the null: any verdict",
    "false at margin": "at the margin: supported",
    "power": "effect planted: supported",
}


@also_for_phones
def plot_error_rates(table: pd.DataFrame, *, highest: float, families: int) -> Figure:
    """Plot the rates of verdicts on simulated data, a row for each claim.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`ima.claims.error_rates.tabulate_error_rates`.
    highest : float
        The error rate that a simulation of the nominal level may show, marked where verdicts are
        false.
    families : int
        Number of simulated models, for Wilson's intervals of the rates.

    Returns
    -------
    matplotlib.figure.Figure
        The fraction of false verdicts at the null and at the margin, and the power, before and
        after Holm's method.

    Examples
    --------
    >>> plot_error_rates(table, highest=0.083, families=400)  # doctest: +SKIP
    """
    rows = range(len(table))
    rates = table[["false", "false at margin"]].to_numpy()
    _, highest_end = compute_wilson_interval(xr.DataArray(rates.max()), n=families)
    with open_figure(columns=3, height=0.28 * len(table) + 1.4) as (figure, grid):
        for axes, (name, title) in zip(grid.flat, _PANELS.items(), strict=True):
            for number, (suffix, label) in enumerate({"": "alone", ", adjusted": "Holm"}.items()):
                style = {**get_list_style(number), "linestyle": "none", "elinewidth": 0.8}
                # Beside each other, or equal rates would hide each other.
                places = [row + 0.24 * (number - 0.5) for row in rows]
                rate = table[name + suffix].to_xarray()
                low, high = compute_wilson_interval(rate, n=families)
                ends = make_error_bars(rate, low=low, high=high)
                axes.errorbar(rate, places, xerr=ends, label=label, **style)
            axes.set(title=title, xlim=(-0.03, 1.03), xlabel="fraction of simulated models")
            is_first = name == "false" or is_narrow()
            axes.set_yticks(rows, table.index if is_first else [""] * len(table))
            axes.invert_yaxis()
        for axes in grid.flat[:2]:
            axes.set_xlim(-0.01, max(0.12, 1.05 * float(highest_end)))
            axes.axvline(
                highest,
                color=SERIES_COLOURS["null"],
                linestyle=":",
                label="at most, if the level holds",
            )
        add_outside_legend(figure, grid.flat)
    return figure
