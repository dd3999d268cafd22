"""Style of the book: one theme, and one colour, marker and label per series."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ima.figures.figure_data import CSV, format_csv
from ima.figures.phone import (
    FLATTER,
    NARROW_SVG,
    NARROW_WIDTH,
    count_legend_columns,
    fit_text,
    format_narrow_svg,
    is_narrow,
)
from ima.stats.intervals import compute_percentile_interval

# Okabe & Ito's palette, distinguishable with every kind of colour vision; never colour alone.
_BLACK, _GREY, _BLUE, _SKY = "#000000", "#7F7F7F", "#0072B2", "#56B4E9"
_GREEN, _ORANGE, _VERMILION, _PURPLE = "#009E73", "#E69F00", "#D55E00", "#CC79A7"
_DASHED = (3, 1)


class _Series(NamedTuple):
    colour: str
    marker: str = ""
    label: str = ""  # empty: the name explains itself
    dashes: tuple[int, ...] = (1, 0)


_SERIES: Mapping[str, _Series] = {
    "text": _Series(_BLACK, "s"),
    "image": _Series(_BLUE, "o"),
    "video": _Series(_VERMILION, "^"),
    "audio": _Series(_GREEN, "D"),
    "perceptual": _Series(_PURPLE, "o"),
    "textual": _Series(_BLACK, "s"),
    "PvsT": _Series(_VERMILION, "X", "perceptual–textual (PvsT)"),
    "PvsP": _Series(_BLUE, "o", "perceptual between data sets (PvsP)"),
    "TvsT": _Series(_BLACK, "s", "textual between data sets (TvsT)"),
    "P intra": _Series(_SKY, "o", "perceptual within data sets (P intra)", _DASHED),
    "T intra": _Series(_GREY, "s", "textual within data sets (T intra)", _DASHED),
    "JS(P, T)": _Series(_VERMILION, "X", "perceptual and textual, JS(P, T)"),
    "JS(P, P')": _Series(_BLUE, "o", "perceptual between data sets"),
    "JS(T, T')": _Series(_BLACK, "s", "textual between data sets"),
    "own text": _Series(_VERMILION, "X", "a word that only the percept's own text has"),
    "another text": _Series(_BLACK, "s", "a word that only another text has", _DASHED),
    "same layer": _Series(_VERMILION, "X", "perceptual tokens of the same layer"),
    "input": _Series(_BLUE, "o", "perceptual tokens at the input of the model"),
    "matched minus all": _Series(_VERMILION, "X", "matched pairs minus all pairs"),
    "stream of the same layer": _Series(_GREY, "s", "minus the stream of the same layer"),
    "stream that it reads": _Series(_VERMILION, "o", "minus the stream that the block reads"),
    "fixed": _Series(_BLACK, "s", "as computed here"),
    "released": _Series(_VERMILION, "X", "as in the released code", _DASHED),
    "as it is": _Series(_VERMILION, "X"),
    "noise": _Series(_SKY, "v", "noise inputs"),
    "random blocks": _Series(_GREY, "P", "random weights"),
    "separated": _Series(_BLUE, "o", "blocked attention"),
    "ln1": _Series(_SKY, "v", "ln1: input of attention"),
    "attn_out": _Series(_BLUE, "o", "attn_out: output of attention"),
    "resid_mid": _Series(_GREY, "P", "resid_mid: residual stream after attention"),
    "ln2": _Series(_ORANGE, "^", "ln2: input of the MLP"),
    "mlp_post": _Series(_PURPLE, "D", "mlp_post: hidden units of the MLP"),
    "mlp_out": _Series(_GREEN, "X", "mlp_out: output of the MLP"),
    "resid_post": _Series(_BLACK, "s", "resid_post: residual stream after the block"),
    "raw": _Series(_BLACK, "s", "raw: mean over all tokens"),
    "without sinks": _Series(_BLUE, "o"),
    "without rogue dimensions": _Series(_GREEN, "D", "without sinks and rogue dimensions"),
    "standardised": _Series(_VERMILION, "X", "standardised, without sinks"),
    "all": _Series(_BLACK, "s", "PvsT as the paper measures it"),
    "sinks": _Series(_BLUE, "o", "what sinks add"),
    "rogue dimensions": _Series(_ORANGE, "^"),
    "other dimensions": _Series(_GREEN, "D", "all other dimensions"),
    "separated trained": _Series(_VERMILION, "X", "trained connector"),
    "equal length": _Series(_PURPLE, "D", "trained, among texts of equal length"),
    "seed 1": _Series(_ORANGE, "^", "trained with seed 1"),
    "seed 2": _Series(_GREEN, "v", "trained with seed 2"),
    "permuted": _Series(_BLACK, "s", "trained on captions of other pictures", _DASHED),
    "before training": _Series(_BLUE, "o"),
    "random blocks, separated": _Series(_GREY, "P", "random blocks"),
    "toward text": _Series(_VERMILION, "o"),
    "random directions": _Series(_GREY, "s", "", _DASHED),
    "not updated": _Series(_BLUE, "o"),
    "pruned": _Series(_VERMILION, "X", "", _DASHED),
    "null": _Series(_GREY, "", "", (1, 1)),
}
SERIES_COLOURS: Mapping[str, str] = {name: series.colour for name, series in _SERIES.items()}
SERIES_MARKERS: Mapping[str, str] = {
    name: series.marker for name, series in _SERIES.items() if series.marker
}
SERIES_LABELS: Mapping[str, str] = {
    name: series.label for name, series in _SERIES.items() if series.label
}
_RATIOS = ("width_ratios", "height_ratios")
FIGURE_WIDTH = 7.2  # inches: the text column of the book
_STYLE: Mapping[str, Any] = {
    # Opaque white with a margin: a card on the dark page, seamless on the light one.
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.15,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "axes.edgecolor": "#4D4D4D",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "figure.constrained_layout.use": True,
    # The same figure is the same bytes.
    "svg.hashsalt": "ima",
}

#: Markers of series that have no entry in the table above, by number.
_NUMBERED_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")


def set_theme() -> None:
    """Apply the book's theme; in a notebook, figures are SVG and carry their numbers.

    The output of a figure then has its numbers as CSV and, for phones, a narrow drawing.

    Examples
    --------
    >>> set_theme()  # doctest: +SKIP
    """
    sns.set_theme(context="notebook", style="ticks", font_scale=0.85, rc=dict(_STYLE))
    # What a sample says is never markup.
    pd.set_option("styler.format.escape", "html")
    from IPython import get_ipython

    shell = get_ipython()
    if shell is not None:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats(  # type: ignore[no-untyped-call]
            "svg", metadata={"Date": None}, pad_inches=0.15
        )
        _add_figure_output(shell, CSV, format_csv)
        _add_figure_output(shell, NARROW_SVG, format_narrow_svg)


def _add_figure_output(
    shell: Any, mime_type: str, format_figure: Callable[[Figure], str | None]
) -> None:
    """Let each figure that a notebook shows carry one more form of itself."""
    from IPython.core.formatters import BaseFormatter
    from traitlets import ObjectName, Unicode

    class FigureFormatter(BaseFormatter):
        """Formats figures."""

        format_type = Unicode(mime_type)
        print_method = ObjectName("_no_method_of_objects_")

    formatter = FigureFormatter(parent=shell.display_formatter)
    formatter.for_type(Figure, format_figure)  # type: ignore[no-untyped-call]
    shell.display_formatter.formatters[mime_type] = formatter


@contextmanager
def open_figure(
    *, rows: int = 1, columns: int = 1, height: float = 3.0, **subplot_options: Any
) -> Iterator[tuple[Figure, npt.NDArray[Any]]]:
    """Yield a figure of the book's width and its axes, and close the figure at the end.

    Parameters
    ----------
    rows, columns : int
        Grid of axes.
    height : float
        Height of the figure in inches.
    **subplot_options
        Passed to :func:`matplotlib.pyplot.subplots`.

    Yields
    ------
    figure, grid
        ``grid`` is the array of axes ``(row, column)``.

    Examples
    --------
    >>> with open_figure(columns=2) as (figure, grid):  # doctest: +SKIP
    ...     grid[0, 0].plot([0, 1], [0, 1])
    """
    shape, width = (rows, columns), FIGURE_WIDTH
    if is_narrow():
        width = NARROW_WIDTH
        if columns > 1:
            # The panels lie below each other, and ratios of rows and columns no longer hold.
            height *= columns * FLATTER
            rows, columns = rows * columns, 1
            subplot_options = {k: v for k, v in subplot_options.items() if k not in _RATIOS}
    figure, axes = plt.subplots(
        rows, columns, figsize=(width, height), squeeze=False, **subplot_options
    )
    yield figure, axes.reshape(shape)
    if is_narrow():
        fit_text(figure)
    # A notebook shows the figure that a cell returns. An open figure would be shown twice.
    plt.close(figure)


@contextmanager
def open_panel_grid(
    titles: Iterable[str],
    *,
    columns: int = 3,
    base_height: float = 0.8,
    row_height: float = 2.4,
    xlabel: str = "",
    ylabel: str = "",
    legend_columns: int = 3,
    **subplot_options: Any,
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure with a panel per title in a grid; at the end, add a legend below them.

    Parameters
    ----------
    titles : iterable of str
        Titles of the panels.
    columns : int
        Largest number of panels in a row.
    base_height, row_height : float
        The figure is ``base_height + rows * row_height`` inches high.
    xlabel, ylabel : str
        Label of each x axis, and of the y axis of the first panel of each row.
    legend_columns : int
        Columns of the legend. It lists each label of the panels once.
    **subplot_options
        Passed to :func:`open_figure`.

    Yields
    ------
    figure, panels
        The axes in the order of the titles; places of the grid without a title stay empty.

    Examples
    --------
    >>> with open_panel_grid(["image", "audio"], xlabel="layer") as (figure, panels):
    ...     for axes in panels:
    ...         axes.plot([0, 1], [0, 1])  # doctest: +SKIP
    """
    names = list(titles)
    columns = min(columns, len(names))
    if is_narrow():
        columns, row_height = 1, row_height * FLATTER
    rows = -(-len(names) // columns)
    height = base_height + row_height * rows
    with open_figure(rows=rows, columns=columns, height=height, **subplot_options) as (
        figure,
        grid,
    ):
        for axes, name in zip(grid.flat, names, strict=False):
            axes.set(title=name, xlabel=xlabel)
        for axes in grid.flat[len(names) :]:
            axes.remove()
        for axes in grid[:, 0]:
            axes.set_ylabel(ylabel)
        panels = list(grid.flat[: len(names)])
        yield figure, panels
        add_outside_legend(figure, panels, columns=legend_columns)


@contextmanager
def open_axes(
    height: float, *, xlabel: str = "", ylabel: str = "", legend_columns: int = 3
) -> Iterator[tuple[Figure, Axes]]:
    """Yield a figure with one panel; at the end, add a legend below it.

    Parameters
    ----------
    height : float
        Height of the figure in inches.
    xlabel, ylabel : str
        Labels of the axes.
    legend_columns : int
        Columns of the legend.

    Examples
    --------
    >>> with open_axes(3.0, xlabel="layer") as (figure, axes):
    ...     axes.plot([0, 1], [0, 1], label="a line")  # doctest: +SKIP
    """
    with open_figure(height=height) as (figure, grid):
        axes = grid[0, 0]
        axes.set(xlabel=xlabel, ylabel=ylabel)
        yield figure, axes
        add_outside_legend(figure, [axes], columns=legend_columns)


def add_outside_legend(figure: Figure, panels: Iterable[Axes], *, columns: int = 3) -> None:
    """Add one legend for several axes below the figure, outside the data.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    panels : iterable of Axes
        Axes whose labelled artists the legend lists, each label once.
    columns : int
        Columns of the legend.

    Examples
    --------
    >>> add_outside_legend(figure, panels, columns=2)  # doctest: +SKIP
    """
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
        if legend := axes.get_legend():
            legend.remove()
    if is_narrow():
        columns = count_legend_columns(list(entries), columns)
    if entries:
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns)


def plot_layer_curve(
    axes: Axes,
    *,
    values: xr.DataArray,
    name: str,
    low: xr.DataArray | None = None,
    high: xr.DataArray | None = None,
    label: str | None = None,
) -> None:
    """Plot one curve over layers with its interval.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        The axes.
    values, low, high : xarray.DataArray
        ``(layer,)``.
    name : str
        Name of the series, which selects colour, marker and dashes: a key of
        :data:`SERIES_COLOURS`.
    label : str or None
        Text of the legend; None takes that of the series.

    Examples
    --------
    >>> plot_layer_curve(axes, values=curves["estimate"], name="PvsT")  # doctest: +SKIP
    """
    x, style = values["layer"].to_numpy(), get_series_style(name)
    axes.plot(x, values, label=SERIES_LABELS.get(name, name) if label is None else label, **style)
    if low is not None and high is not None:
        axes.fill_between(x, low, high, color=style["color"], alpha=0.18, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def plot_named_curves(axes: Axes, curves: xr.Dataset, *, dim: str, suffix: str = "") -> None:
    """Plot a curve over layers for each label of a dim, which is the name of the series.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        The axes.
    curves : xarray.Dataset
        ``estimate`` ``(dim, layer)``, and either its interval, ``low`` and ``high``, or ``draws``
        ``(draw, dim, layer)``, whose 95 % percentile interval is plotted, or neither. A curve
        without a finite value is left out.
    dim : str
        The dim.
    suffix : str
        Appended to the names in the legend; empty takes the labels of the series.

    Examples
    --------
    >>> plot_named_curves(axes, norms, dim="kind")  # doctest: +SKIP
    """
    if "draws" in curves and "low" not in curves:
        low, high = compute_percentile_interval(curves["draws"])
        curves = curves.assign(low=low, high=high)
    for name in map(str, curves[dim].to_numpy()):
        own = curves.sel({dim: name})
        if np.isfinite(own["estimate"]).any():
            plot_layer_curve(
                axes,
                values=own["estimate"],
                low=own.get("low"),
                high=own.get("high"),
                name=name,
                label=name + suffix if suffix else None,
            )


def plot_interval_line(
    axes: Axes, table: pd.DataFrame, *, x: str, y: str = "value", **style: Any
) -> None:
    """Plot the column ``y`` over the column ``x``, with the interval from ``low`` to ``high``.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        The axes.
    table : pandas.DataFrame
        Columns ``low``, ``high`` and those named by ``x`` and ``y``.
    x, y : str
        The columns along the axes.
    **style
        Passed to :meth:`matplotlib.axes.Axes.plot`; ``color`` is also that of the interval.

    Examples
    --------
    >>> plot_interval_line(axes, sweep, x="layer", **get_series_style("pruned"))  # doctest: +SKIP
    """
    table = table.sort_values(x)
    axes.plot(table[x], table[y], **style)
    axes.fill_between(
        table[x], table["low"], table["high"], color=style["color"], alpha=0.18, linewidth=0
    )


def plot_interval_points(axes: Axes, x: Any, table: Any, *, y: str = "value", **style: Any) -> None:
    """Plot values with error bars.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        The axes.
    x : array_like
        Places along the x axis.
    table : pandas.DataFrame or mapping
        The values by ``y``, the ends of their intervals by ``low`` and ``high``.
    y : str
        The column of values.
    **style
        Passed to :meth:`matplotlib.axes.Axes.errorbar`.

    Examples
    --------
    >>> plot_interval_points(axes, 3, {"value": 0.5, "low": 0.4, "high": 0.6})  # doctest: +SKIP
    """
    ends = np.reshape([table[y] - table["low"], table["high"] - table[y]], (2, -1))
    axes.errorbar(x, table[y], yerr=ends, elinewidth=0.8, **style)


def get_series_style(name: str) -> dict[str, Any]:
    """Return the colour, marker and dashes of a series.

    Examples
    --------
    >>> get_series_style("perceptual")
    {'color': '#CC79A7', 'marker': 'o', 'dashes': (1, 0)}
    """
    series = _SERIES[name]
    return {"color": series.colour, "marker": series.marker, "dashes": series.dashes}


def get_numbered_style(index: int) -> dict[str, Any]:
    """Return the colour and marker of a number; markers are filled first, then open.

    Examples
    --------
    >>> get_numbered_style(0)["marker"], get_numbered_style(10)["markerfacecolor"]
    ('o', 'none')
    """
    count = len(_NUMBERED_MARKERS)
    colour, marker = sns.color_palette("colorblind", count)[index % count], index % count
    face = colour if index < count else "none"
    return {"color": colour, "marker": _NUMBERED_MARKERS[marker], "markerfacecolor": face}


def plot_null_line(axes: Axes, value: float, *, label: str) -> None:
    """Plot the null value of a claim as a dotted horizontal line.

    Examples
    --------
    >>> plot_null_line(axes, 0.5, label="chance")  # doctest: +SKIP
    """
    axes.axhline(value, color=SERIES_COLOURS["null"], linestyle=":", linewidth=1.4, label=label)
