"""Style of the book: one theme, panels in a grid, and curves with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ima.figures.figure_data import CSV, format_csv
from ima.figures.labels import name_series
from ima.figures.palette import SERIES_COLOURS, SERIES_LABELS, get_series_style
from ima.figures.phone import (
    FLATTER,
    NARROW_SVG,
    NARROW_WIDTH,
    fit_text,
    format_narrow_svg,
    is_narrow,
)
from ima.stats.intervals import compute_percentile_interval

_RATIOS = ("width_ratios", "height_ratios")
FIGURE_WIDTH = 7.2  # inches: the text column of the book
# Letters of a title, by the number of panels in a row.
_TITLE_LETTERS = (80, 40, 29, 22)
# Numbers between the powers of ten stand on an axis that has few of these.
_MANY_TIMES = 200
# Inches of a row of panels: less leaves nothing between its title and the words below.
_LEAST_HEIGHT = 1.3
# More columns leave no room for the numbers on the axes.
_MOST_COLUMNS = 4
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
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.07,
    # The same figure is the same bytes.
    "svg.hashsalt": "ima",
}


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
    """Yield a figure with a panel per title in a grid; at the end, name the series of all panels.

    No place of the grid stays empty: the number of columns is that next to the wanted one which
    fills all places, or all but one, which then holds the legend.

    Parameters
    ----------
    titles : iterable of str
        Titles of the panels.
    columns : int
        The wanted number of panels in a row.
    base_height, row_height : float
        The figure is ``base_height + rows * row_height`` inches high.
    xlabel, ylabel : str
        Label of each x axis, and of the y axis of the first panel of each row.
    legend_columns : int
        Columns of a legend below the panels. It lists each label of the panels once.
    **subplot_options
        Passed to :func:`open_figure`.

    Yields
    ------
    figure, panels
        The axes in the order of the titles.

    Examples
    --------
    >>> with open_panel_grid(["image", "audio"], xlabel="layer") as (figure, panels):
    ...     for axes in panels:
    ...         axes.plot([0, 1], [0, 1])  # doctest: +SKIP
    """
    names = list(titles)
    # Panels with numbers of their own are wider.
    most = _MOST_COLUMNS if subplot_options.get("sharey") else _MOST_COLUMNS - 1
    columns = choose_columns(len(names), wanted=columns, most=most)
    if is_narrow():
        columns, row_height = 1, row_height * FLATTER
    rows = -(-len(names) // columns)
    height = base_height + max(row_height, _LEAST_HEIGHT) * rows
    with open_figure(rows=rows, columns=columns, height=height, **subplot_options) as (
        figure,
        grid,
    ):
        panels, free = list(grid.flat[: len(names)]), list(grid.flat[len(names) :])
        for axes, name in zip(panels, names, strict=True):
            letters = _TITLE_LETTERS[min(columns, _MOST_COLUMNS) - 1]
            axes.set_xlabel(fill(xlabel, letters - 5))
            axes.set_title(fill(name, letters), fontsize=9 if columns > 2 else 10)
        for axes in free[1:]:
            axes.remove()
        for axes in grid[:, 0]:
            axes.set_ylabel(ylabel)
        for axes in panels[len(panels) - columns :]:
            # Also above the legend.
            axes.tick_params(labelbottom=True)
        yield figure, panels
        name_series(figure, panels, slot=free[0] if free else None, columns=legend_columns)


def choose_columns(panels: int, *, wanted: int, most: int = _MOST_COLUMNS) -> int:
    """Return the number of columns near the wanted one that leaves at most one place empty.

    Parameters
    ----------
    panels : int
        Number of panels.
    wanted : int
        The number of columns where every number leaves the same number of empty places.
    most : int
        The largest number of columns, unless more are wanted.

    Examples
    --------
    >>> choose_columns(7, wanted=3), choose_columns(4, wanted=3), choose_columns(2, wanted=3)
    (4, 2, 2)
    """
    if panels <= wanted:
        return max(panels, 1)
    more, fewer = [max(wanted, min(wanted + 1, most))], list(range(wanted - 1, 1, -1))
    # Many panels lie in more columns rather than in more rows.
    near = [wanted, *more, *fewer] if panels > 2 * wanted else [wanted, *fewer, *more]
    # At most one is as good as none: of equals, the first.
    at = min(range(len(near)), key=lambda place: (max(-panels % near[place], 1), place))
    return near[at]


@contextmanager
def open_axes(
    height: float, *, xlabel: str = "", ylabel: str = "", legend_columns: int = 3
) -> Iterator[tuple[Figure, Axes]]:
    """Yield a figure with one panel; at the end, name its series.

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
        name_series(figure, [axes], columns=legend_columns)


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
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))


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
    ends = make_error_bars(table[y], low=table["low"], high=table["high"])
    axes.errorbar(x, table[y], yerr=ends, elinewidth=0.8, **style)


def make_error_bars(
    value: npt.ArrayLike, *, low: npt.ArrayLike, high: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Return the lengths of error bars, for ``xerr`` and ``yerr`` of Matplotlib.

    Parameters
    ----------
    value, low, high : array_like
        ``(point,)`` or one number each: the values and the ends of their intervals.

    Returns
    -------
    ndarray
        ``(2, point)``: from the value down to ``low``, and up to ``high``. A length is 0 where the
        value lies outside its interval, as the value of a percentile bootstrap may, so that the
        bar reaches from the value to the end beyond; NaN where there is no interval.

    Examples
    --------
    >>> make_error_bars([0.5, 0.5], low=[0.25, 0.75], high=[1.0, 1.0]).tolist()
    [[0.25, 0.0], [0.5, 0.5]]
    """
    value, low, high = (np.asarray(each, float).reshape(-1) for each in (value, low, high))
    # Matplotlib refuses bars of negative length.
    return np.maximum([value - low, high - value], 0)


def plot_null_line(axes: Axes, value: float, *, label: str) -> None:
    """Plot the null value of a claim as a dotted horizontal line.

    Examples
    --------
    >>> plot_null_line(axes, 0.5, label="chance")  # doctest: +SKIP
    """
    axes.axhline(value, color=SERIES_COLOURS["null"], linestyle=":", linewidth=1.4, label=label)


def set_log_scale(axes: Axes) -> None:
    """Give the y axis of drawn data a log scale with plain numbers: raised ones are too small.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        The axes.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> figure, axes = plt.subplots()
    >>> set_log_scale(axes)
    >>> axes.yaxis.get_major_formatter()(0.01)
    '0.01'
    >>> plt.close(figure)
    """
    axes.set_yscale("log")
    own = axes.yaxis
    low, high = own.get_view_interval()
    few = high / low < _MANY_TIMES
    own.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    own.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    own.set_minor_formatter(NullFormatter())
