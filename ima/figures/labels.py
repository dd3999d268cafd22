"""Names of series: at the ends of their lines where they fit, and in a legend where not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import fill
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from ima.figures.contrast import darken_for_text
from ima.figures.phone import SMALL_TEXT, count_legend_columns, is_narrow

#: A panel holds at most this many series: more lines cannot be told apart.
MOST_SERIES = 6
# Letters of a line of a label, and the widest label, as a fraction of the figure.
_LETTERS, _LETTERS_NARROW, _WIDEST, _WIDEST_NARROW = 20, 16, 0.22, 0.32
_WIDEST_BETWEEN = 45.0  # points
# Points: between labels, from a line to its label, and how far a label may leave its line.
_GAP, _DISTANCE, _FARTHEST = 1.5, 6.0, 34.0
# A label as near as this to the end of its line needs no line that leads to it.
_NEAR = 3.0
_SLOT_LETTERS = 26
_LEGEND_ROW = 0.17  # inches
_POINTS_PER_INCH = 72
# Where the name of a point may stand, in points: the first place that is free is taken.
_NAME_PLACES = tuple(
    (dx * side, dy)
    for distance in (4, 13, 22, 31, 40, 49, 58)
    for dx, dy in ((5, distance), (5, -distance - 5), (distance + 3, -3), (distance + 3, distance))
    for side in (1, -1)
)
_Item = TypeVar("_Item")


class _Label(NamedTuple):
    """The label of a line, where the line ends, and where the label stands, in points."""

    text: str
    colour: str
    end: tuple[float, float]
    height: float
    place: float = 0.0


def split_series(series: Sequence[_Item]) -> list[list[_Item]]:
    """Split the series of a panel into as few panels as hold at most six each, evenly.

    Parameters
    ----------
    series : sequence
        The series.

    Examples
    --------
    >>> split_series("abcdefg")
    [['a', 'b', 'c', 'd'], ['e', 'f', 'g']]
    """
    count = max(1, -(-len(series) // MOST_SERIES))
    size = -(-len(series) // count)
    return [list(series[start : start + size]) for start in range(0, max(len(series), 1), size)]


def number_title(title: str, part: int, parts: int) -> str:
    """Return the title of a panel that holds a part of the series.

    Examples
    --------
    >>> number_title("image", 0, 2), number_title("image", 0, 1)
    ('image (1 of 2)', 'image')
    """
    return f"{title} ({part + 1} of {parts})".lstrip() if parts > 1 else title


def name_series(
    figure: Figure, panels: Sequence[Axes], *, slot: Axes | None = None, columns: int = 3
) -> None:
    """Write the name of each series of some panels once.

    Names stand at the right ends of lines if all series are lines and the names cover neither
    each other nor too much of the figure. Otherwise, a legend lists them: in a free place of the
    grid, or below the panels.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    panels : sequence of Axes
        Axes whose labelled artists are named, each label once.
    slot : Axes or None
        Axes without data, which hold the legend.
    columns : int
        Columns of a legend below the panels.

    Examples
    --------
    >>> name_series(figure, panels, columns=2)  # doctest: +SKIP
    """
    if slot is not None:
        slot.set_axis_off()
        _fill_slot(slot, panels)
    elif not label_lines(figure, panels):
        add_outside_legend(figure, panels, columns=columns)


def label_lines(figure: Figure, panels: Sequence[Axes]) -> bool:
    """Write the label of each line at its right end, and return whether there is room.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    panels : sequence of Axes
        Panels whose labels are written, each once: in the panel farthest to the right that has it,
        the upper ones first.

    Returns
    -------
    bool
        False if a labelled series is no line, or if labels would cover each other; nothing is
        written then.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> figure, axes = plt.subplots()
    >>> _ = axes.plot([0, 1], [0, 1], label="a rising line")
    >>> label_lines(figure, [axes])
    True
    >>> axes.texts[0].get_text()
    'a rising line'
    >>> plt.close(figure)
    """
    if not all(_is_line(artist) for axes in panels for artist in _list_labelled(axes)):
        return False
    figure.draw_without_rendering()  # the sizes of the panels decide which labels overlap
    # A label in an inner column takes its room between two panels.
    rights = [round(axes.get_position().x0, 2) for axes in panels]
    order = sorted(range(len(panels)), key=lambda at: -rights[at])
    seen, placed = set[str](), list[tuple[Axes, list[_Label]]]()
    for axes in (panels[at] for at in order):
        lines = [line for line in _list_labelled(axes) if str(line.get_label()) not in seen]
        seen.update(str(line.get_label()) for line in lines)
        if lines:
            labels = _place_labels(axes, lines)
            if labels is None:
                return False
            placed.append((axes, labels))
    widest = _WIDEST_NARROW if is_narrow() else _WIDEST
    points = figure.get_figwidth() * _POINTS_PER_INCH * widest
    for axes, labels in placed:
        # Between narrow panels there is room for short names.
        is_inner = len(set(rights)) > 2 and round(axes.get_position().x0, 2) < max(rights)
        most = _WIDEST_BETWEEN if is_inner else points
        if any(_measure_width(each.text) > most for each in labels):
            return False
    for axes, labels in placed:
        for label in labels:
            _write_label(axes, label)
    return True


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
    entries = _list_entries(panels)
    if is_narrow():
        columns = count_legend_columns(list(entries), columns)
    if entries:
        # The legend takes its room from the panels: give back what is more than two rows.
        rows = -(-len(entries) // columns)
        figure.set_figheight(figure.get_figheight() + max(0, rows - 2) * _LEGEND_ROW)
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns)


def name_points(axes: Axes, points: Iterable[tuple[float, float, str]]) -> None:
    """Write a name beside each point of a panel, where it covers no other name.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        The panel, whose limits and size are final.
    points : iterable of tuple
        ``x``, ``y`` and the name. The first places are taken by the first points.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> figure, axes = plt.subplots()
    >>> name_points(axes, [(0.5, 0.5, "one"), (0.5, 0.5, "other")])
    >>> [text.get_text() for text in axes.texts]
    ['one', 'other']
    >>> plt.close(figure)
    """
    pixels = axes.get_figure(root=True).dpi / _POINTS_PER_INCH  # type: ignore[union-attr]
    inside, taken = axes.get_window_extent(), list[Bbox]()
    for x, y, name in points:
        text = axes.annotate(
            fill(name, _SLOT_LETTERS), (x, y), xytext=(0, 0), textcoords="offset points",
            fontsize=SMALL_TEXT,
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip
        box = text.get_window_extent()
        for dx, dy in _NAME_PLACES:
            left = dx if dx > 0 else dx - box.width / pixels
            moved = box.translated(left * pixels, dy * pixels)
            is_inside = inside.x0 <= moved.x0 and moved.x1 <= inside.x1
            is_inside &= inside.y0 <= moved.y0 and moved.y1 <= inside.y1
            if is_inside and not any(map(moved.padded(1).overlaps, taken)):
                break
        text.set_position((left, dy))
        taken.append(moved)


def _fill_slot(slot: Axes, panels: Sequence[Axes]) -> None:
    entries = _list_entries(panels)
    if entries:
        names = [fill(name, _SLOT_LETTERS) for name in entries]
        slot.legend(entries.values(), names, loc="center left", fontsize=SMALL_TEXT)


def _list_entries(panels: Iterable[Axes]) -> dict[str, Any]:
    """Return an artist for each label of some panels."""
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
        if legend := axes.get_legend():
            legend.remove()
    return entries


def _list_labelled(axes: Axes) -> list[Any]:
    return list(axes.get_legend_handles_labels()[0])


def _is_line(artist: Any) -> bool:
    return isinstance(artist, Line2D) and str(artist.get_linestyle()) not in ("None", "", " ")


def _place_labels(axes: Axes, lines: Sequence[Line2D]) -> list[_Label] | None:
    """Return the labels of lines where they cover no other, or None if there is no such place."""
    scale = _POINTS_PER_INCH / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    box = axes.get_window_extent()
    labels = []
    for line in lines:
        end = _find_end(axes, line)
        if end is None:
            return None
        letters = _LETTERS_NARROW if is_narrow() else _LETTERS
        text = fill(str(line.get_label()), letters, break_long_words=False, break_on_hyphens=False)
        height = 1.2 * SMALL_TEXT * len(text.splitlines()) + _GAP
        colour = darken_for_text(line.get_color())
        x, y = (end[0] - box.x0) * scale, (end[1] - box.y0) * scale
        labels.append(_Label(text, colour, (x, y), height))
    labels.sort(key=lambda label: label.end[1])
    heights = np.array([label.height for label in labels])
    ends = np.array([label.end[1] for label in labels])
    places = _spread(ends, heights)
    low, high = places[0] - heights[0] / 2, places[-1] + heights[-1] / 2
    places += max(0.0, -_FARTHEST / 2 - low) - max(0.0, high - box.height * scale - _FARTHEST / 2)
    if np.abs(places - ends).max() > _FARTHEST or heights.sum() > box.height * scale:
        return None
    return [label._replace(place=at) for label, at in zip(labels, places, strict=True)]


def _find_end(axes: Axes, line: Line2D) -> tuple[float, float] | None:
    """Return the right end of a line in pixels; that of a straight one is the panel's edge."""
    points = line.get_transform().transform(np.column_stack(line.get_data()))
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return None
    box = axes.get_window_extent()
    x, y = points[np.argmax(points[:, 0])]
    inside = box.y0 - 1 <= y <= box.y1 + 1 and x <= box.x1 + 1
    return (float(x), float(y)) if inside else None


def _spread(ends: npt.NDArray[Any], heights: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the places nearest to the ends, which ascend, at which no label covers another."""
    offsets = np.concatenate([[0.0], np.cumsum((heights[:-1] + heights[1:]) / 2)])
    # Pool neighbours that are out of order: the isotonic regression of what is left to place.
    blocks: list[list[float]] = []
    for value in ends - offsets:
        blocks.append([value, 1.0])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (left, n), (right, m) = blocks[-2:]
            blocks[-2:] = [[(left * n + right * m) / (n + m), n + m]]
    pooled = np.repeat([value for value, _ in blocks], [int(count) for _, count in blocks])
    return np.asarray(pooled + offsets)


def _measure_width(text: str) -> float:
    """Return about how wide a text is, in points: a letter is six tenths as wide as high."""
    return 0.6 * SMALL_TEXT * max(map(len, text.splitlines()))


def _write_label(axes: Axes, label: _Label) -> None:
    box = axes.get_window_extent()
    points = _POINTS_PER_INCH / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    width, height = box.width * points, box.height * points
    end = label.end[0] / width, label.end[1] / height
    moved = abs(label.place - label.end[1]) > _NEAR or width - label.end[0] > _DISTANCE * 3
    arrow = {"arrowstyle": "-", "color": label.colour, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 3}
    arrow["relpos"] = (0, 0.5)  # from the left edge of the label
    axes.annotate(
        label.text, end, (1 + _DISTANCE / width, label.place / height), "axes fraction",
        "axes fraction", color=label.colour, fontsize=SMALL_TEXT, ha="left", va="center",
        annotation_clip=False, arrowprops=arrow if moved else None, linespacing=1.0,
    )  # fmt: skip
