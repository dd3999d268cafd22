"""The numbers behind a figure, read from what it shows, so that no page has to keep them twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.collections import (
    FillBetweenPolyCollection,
    LineCollection,
    PathCollection,
    QuadMesh,
)
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, ScalarFormatter

_COLUMNS = (
    *("panel", "series", "mark", "x_label", "x", "y_label", "y"),
    *("x_low", "x_high", "low", "high", "value"),
)
#: Type of the output that holds the numbers of a figure.
CSV = "text/csv"
_ALWAYS = ("panel", "series", "mark", "x", "y")
_DIGITS = 6
# Half of the distance of neighbours on an axis of words.
_NEAR = 0.5


def tabulate_figure(figure: Figure) -> pd.DataFrame:
    """Return the numbers that a figure shows, a row per mark.

    Lines, points, error bars, bands, bars and the cells of heat maps are read; pictures,
    spectrograms and colour bars are not.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        A figure, which may be closed.

    Returns
    -------
    pandas.DataFrame
        ``panel`` is the title of the panel, or its number; ``series`` the label in the legend;
        ``mark`` one of line, point, interval, bar and cell. ``x`` and ``y`` are in data units, or
        the label of the tick where a panel names its places; ``x_label`` and ``y_label`` are those
        of the axes. ``low`` and ``high`` (``x_low``, ``x_high``) are the ends of the interval along
        y (x), and ``value`` is what colour encodes. Columns without a value are left out, except
        the first five.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> figure, axes = plt.subplots()
    >>> _ = axes.plot([0, 1], [0.5, 0.25], label="text")
    >>> plt.close(figure)
    >>> print(tabulate_figure(figure).to_csv(index=False), end="")
    panel,series,mark,x,y
    1,text,line,0,0.5
    1,text,line,1,0.25
    """
    names = _list_styles(figure)
    rows = [
        {"panel": _get_title(axes) or str(number), **_describe_axes(axes)} | row
        for number, axes in enumerate(figure.axes, start=1)
        if axes.get_label() != "<colorbar>"
        for row in _list_marks(axes, names)
    ]
    # As objects, whole numbers stay whole beside missing ones.
    table = pd.DataFrame(rows, columns=list(_COLUMNS), dtype=object)
    kept = [
        name for name in _COLUMNS if name in _ALWAYS or table[name].replace("", None).notna().any()
    ]
    return table[kept]


def format_csv(figure: Figure) -> str | None:
    """Return the numbers of a figure as CSV, with six significant digits; None if it has none.

    Examples
    --------
    >>> format_csv(Figure()) is None
    True
    """
    table = tabulate_figure(figure)
    if table.empty:
        return None
    return table.to_csv(index=False, lineterminator="\n")


def _get_title(axes: Any) -> str:
    return _join_lines(axes.get_title("left") or axes.get_title())


def _describe_axes(axes: Any) -> dict[str, str]:
    return {"x_label": _join_lines(axes.get_xlabel()), "y_label": _join_lines(axes.get_ylabel())}


def _list_styles(figure: Figure) -> dict[tuple[str, ...], str]:
    """Return the label of each style of line: a legend may name a series in one panel only."""
    handles: list[Any] = [line for axes in figure.axes for line in axes.lines]
    for legend in [*figure.legends, *(axes.get_legend() for axes in figure.axes)]:
        handles += legend.legend_handles if legend is not None else []
    return {
        _get_style(line): str(line.get_label())
        for line in handles
        if isinstance(line, Line2D) and _is_public(line.get_label())
    }


def _get_style(line: Any) -> tuple[str, ...]:
    return to_hex(line.get_color()), str(line.get_marker()), str(line.get_linestyle())


def _is_public(label: object) -> bool:
    return bool(label) and not str(label).startswith("_")


def _list_marks(axes: Any, names: Mapping[tuple[str, ...], str]) -> Iterator[dict[str, Any]]:
    """Yield a row per mark of a panel, with the places that ticks name in words."""
    x_words, y_words = _read_tick_labels(axes.xaxis), _read_tick_labels(axes.yaxis)
    for row in _list_numbers(axes, names):
        ends = {name: _round(row[name]) for name in row if name not in ("x", "y")}
        yield ends | {"x": _find_word(row["x"], x_words), "y": _find_word(row["y"], y_words)}


def _find_word(place: Any, words: Mapping[float, str]) -> Any:
    """Return the word of the nearest tick: series that share a place stand beside it."""
    if not words or not isinstance(place, int | float | np.number):
        return _round(place)
    tick = min(words, key=lambda each: abs(each - place))
    return words[tick] if abs(tick - place) < _NEAR else _round(place)


def _round(value: Any) -> Any:
    """Return a number with six significant digits, as an integer where it is one."""
    if not isinstance(value, int | float | np.number):
        return value
    rounded = float(f"{float(value):.{_DIGITS}g}")
    return int(rounded) if rounded.is_integer() else rounded


def _read_tick_labels(axis: Any) -> dict[float, str]:
    """Return the words that stand at places of an axis; empty if numbers do."""
    formatter = axis.get_major_formatter()
    if not isinstance(axis.get_major_locator(), FixedLocator) or isinstance(
        formatter, ScalarFormatter
    ):
        return {}
    places = axis.get_majorticklocs()
    words = map(_join_lines, formatter.format_ticks(places))
    return {place: word for place, word in zip(places, words, strict=True) if word}


def _join_lines(text: Any) -> str:
    # Tick labels may be the numbers that name rows.
    return " ".join(str(text).split())


def _list_numbers(axes: Any, names: Mapping[tuple[str, ...], str]) -> Iterator[dict[str, Any]]:
    bars: list[Any] = [each for each in axes.containers if isinstance(each, ErrorbarContainer)]
    of_bars = {id(part) for each in bars for part in _list_parts(each)}
    bands = [each for each in axes.collections if isinstance(each, FillBetweenPolyCollection)]
    for line in axes.lines:
        if id(line) not in of_bars:
            yield from _read_line(axes, line, names=names, bands=bands)
    for each in bars:
        yield from _read_error_bars(each, names=names)
    for bar in (each for each in axes.containers if isinstance(each, BarContainer)):
        yield from _read_bars(bar)
    for collection in axes.collections:
        if isinstance(collection, LineCollection) and id(collection) not in of_bars:
            for segment in collection.get_segments():
                yield {"series": _name(collection), "mark": "interval", **_read_segment(segment)}
        elif isinstance(collection, PathCollection):
            for x, y in np.ma.filled(np.ma.asarray(collection.get_offsets(), float), np.nan):
                yield {"series": _name(collection), "mark": "point", "x": x, "y": y}
        elif isinstance(collection, QuadMesh):
            yield from _read_cells(collection)


def _name(artist: Any) -> str:
    return str(artist.get_label()) if _is_public(artist.get_label()) else ""


def _list_parts(bars: Any) -> list[Any]:
    line, caps, lines = bars.lines
    return [line, *caps, *lines]


def _read_line(
    axes: Any,
    line: Any,
    *,
    names: Mapping[tuple[str, ...], str],
    bands: list[Any],
) -> Iterator[dict[str, Any]]:
    series = _name(line) or names.get(_get_style(line), "")
    x, y = (np.asarray(values, float) for values in (line.get_xdata(), line.get_ydata()))
    mark = "point" if line.get_linestyle() in ("None", "", " ") else "line"
    if line.get_transform() != axes.transData:
        # It goes through the whole panel: one of its coordinates is a fraction of the axes.
        across = line.get_transform() == axes.get_yaxis_transform(which="grid")
        yield {"series": series, "mark": "line"} | (
            {"x": "", "y": y[0]} if across else {"x": x[0], "y": ""}
        )
        return
    ends = next((own for band in bands if (own := _read_band(band, line, x)) is not None), None)
    for index in np.flatnonzero(np.isfinite(x) & np.isfinite(y)):
        row = {"series": series, "mark": mark, "x": x[index], "y": y[index]}
        if ends is not None:
            row |= {"low": ends[0][index], "high": ends[1][index]}
        yield row


def _read_band(
    band: Any, line: Any, x: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
    """Return the ends of a band at the places of its line, or None if it is another's."""
    if to_hex(band.get_facecolor()[0][:3]) != to_hex(line.get_color()):
        return None
    low, high = np.full(len(x), np.nan), np.full(len(x), np.nan)
    points = np.concatenate([path.vertices for path in band.get_paths()])
    for index, place in enumerate(x):
        found = points[points[:, 0] == place, 1]
        if len(found):
            low[index], high[index] = found.min(), found.max()
    return (low, high) if np.isfinite(low).any() else None


def _read_error_bars(
    bars: Any, *, names: Mapping[tuple[str, ...], str]
) -> Iterator[dict[str, Any]]:
    line, _, lines = bars.lines
    series = _name(bars) or (names.get(_get_style(line), "") if line is not None else "")
    segments = [_read_segment(each) for part in lines for each in part.get_segments()]
    if line is None:
        yield from ({"series": series, "mark": "interval", **each} for each in segments)
        return
    for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True):
        row = {"series": series, "mark": "point"}
        for each in segments:
            if each["x"] == x and each.get("low", np.inf) <= y <= each.get("high", -np.inf):
                row |= each
            if each["y"] == y and each.get("x_low", np.inf) <= x <= each.get("x_high", -np.inf):
                row |= each
        yield row | {"x": x, "y": y}


def _read_segment(segment: Any) -> dict[str, Any]:
    """Return a straight line as an interval along x or along y."""
    (x_low, low), (x_high, high) = segment[0], segment[-1]
    ends = {"x": (x_low + x_high) / 2, "y": (low + high) / 2}
    if x_low == x_high:
        return ends | {"low": min(low, high), "high": max(low, high)}
    return ends | {"x_low": min(x_low, x_high), "x_high": max(x_low, x_high)}


def _read_bars(bars: Any) -> Iterator[dict[str, Any]]:
    upright = bars.orientation == "vertical"
    for bar in bars.patches:
        across, along = bar.get_x() + bar.get_width() / 2, bar.get_height()
        if not upright:
            across, along = bar.get_width(), bar.get_y() + bar.get_height() / 2
        yield {"series": _name(bars), "mark": "bar", "x": across, "y": along}


def _read_cells(mesh: Any) -> Iterator[dict[str, Any]]:
    corners = mesh.get_coordinates()
    centres = (corners[:-1, :-1] + corners[1:, 1:]) / 2
    values: npt.NDArray[Any] = np.ma.filled(np.ma.asarray(mesh.get_array(), float), np.nan)
    for place, value in zip(centres.reshape(-1, 2), values.reshape(-1), strict=True):
        if np.isfinite(value):
            yield {"series": "", "mark": "cell", "x": place[0], "y": place[1], "value": value}
