"""Figures of benchmarks."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ima.figures.palette import SERIES_COLOURS, get_list_style
from ima.figures.phone import also_for_phones
from ima.figures.style import open_axes

_ROW_HEIGHT = 0.38


@also_for_phones
def plot_bench_ratios(records: pd.DataFrame) -> Figure:
    """Plot the ratios of benchmarks and the limits that they should keep.

    Parameters
    ----------
    records : pandas.DataFrame
        From :func:`ima.bench.records.read_records`, of one run.

    Returns
    -------
    matplotlib.figure.Figure
        A row per benchmark, a point per model or store; a bar marks the limit. Points beyond it
        are crosses. A third kind of point is the smallest ratio that the machine allows.

    Examples
    --------
    >>> plot_bench_ratios(read_records(["_build/bench.json"]))  # doctest: +SKIP
    """
    names = list(dict.fromkeys(records["name"]))
    height = 0.9 + _ROW_HEIGHT * len(names)
    with open_axes(height, xlabel="ratio to what is needed anyway (log scale)") as (figure, axes):
        looks = ((True, "keeps the limit, or has none"), (False, "beyond the limit"))
        for number, (met, label) in enumerate(looks):
            own = records[records["met"] == met]
            places = [names.index(name) for name in own["name"]]
            if places:
                style = get_list_style(number)
                axes.plot(own["ratio"], places, linestyle="", label=label, **style)
        limited = records.dropna(subset=["limit"]).drop_duplicates(["name", "limit"])
        axes.plot(
            limited["limit"],
            [names.index(name) for name in limited["name"]],
            "|",
            markersize=16,
            markeredgewidth=2,
            linestyle="",
            color=SERIES_COLOURS["null"],
            label="limit",
        )
        known = records.dropna(subset=["floor"])
        axes.plot(
            known["floor"],
            [names.index(name) for name in known["name"]],
            linestyle="",
            label="the least that the machine allows",
            **get_list_style(len(looks)),
        )
        axes.set_yticks(range(len(names)), names)
        axes.set(xscale="log", ylim=(len(names) - 0.5, -0.5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return figure
