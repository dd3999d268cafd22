"""Figure of simulated verdicts: how often they are wrong, and how often they find an effect."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ima.figures.labels import add_outside_legend
from ima.figures.palette import SERIES_COLOURS, get_list_style
from ima.figures.phone import also_for_phones, is_narrow
from ima.figures.style import open_figure

_PANELS = {"false": "null true: any verdict", "power": "effect planted: supported"}


@also_for_phones
def plot_error_rates(table: pd.DataFrame, *, highest: float) -> Figure:
    """Plot the rates of verdicts on simulated data, a row for each claim.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`ima.claims.error_rates.tabulate_error_rates`.
    highest : float
        The error rate that a simulation of the nominal level may show, marked in the left panel.

    Returns
    -------
    matplotlib.figure.Figure
        Left, the fraction of false verdicts; right, the power. Filled: before Holm's method; open:
        after it.

    Examples
    --------
    >>> plot_error_rates(table, highest=0.083)  # doctest: +SKIP
    """
    rows = range(len(table))
    with open_figure(columns=2, height=0.28 * len(table) + 1.4) as (figure, grid):
        for axes, (name, title) in zip(grid.flat, _PANELS.items(), strict=True):
            for number, (suffix, label) in enumerate({"": "alone", ", adjusted": "Holm"}.items()):
                style = {**get_list_style(number), "linestyle": "none"}
                # Beside each other, or equal rates would hide each other.
                places = [row + 0.24 * (number - 0.5) for row in rows]
                axes.plot(table[name + suffix], places, label=label, **style)
            axes.set(title=title, xlim=(-0.03, 1.03), xlabel="fraction of simulated models")
            is_first = name == "false" or is_narrow()
            axes.set_yticks(rows, table.index if is_first else [""] * len(table))
            axes.invert_yaxis()
        low = grid.flat[0]
        low.set_xlim(-0.01, max(0.12, 1.2 * float(table["false"].max())))
        low.axvline(
            highest,
            color=SERIES_COLOURS["null"],
            linestyle=":",
            label="at most, if the level holds",
        )
        add_outside_legend(figure, grid.flat)
    return figure
