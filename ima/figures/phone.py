"""Figures for phones: the same panels, drawn narrow and below each other."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from textwrap import fill
from typing import Any, ParamSpec

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

#: Type of the output that holds the narrow drawing of a figure, an SVG.
NARROW_SVG = "application/vnd.ima.narrow+svg"
NARROW_WIDTH = 3.9  # inches: the text column on a phone, at the size of the letters
#: Panels that lie beside each other in the wide drawing lie below each other, a little flatter.
FLATTER = 0.85
#: Points: smaller text is hard to read. A phone shrinks the narrow drawing to seven eighths.
SMALL_TEXT = 8
_TITLE_LETTERS, _ROW_LETTERS, _NAME_LETTERS = 42, 20, 22
_LEGEND_LETTERS = 20
_POINTS_PER_INCH, _LINE_HEIGHT = 72, 1.25
_LEGEND_ROW = 0.2  # inches
_AROUND_PANEL = 0.75  # inches: a title above and the words below

_narrow: ContextVar[bool] = ContextVar("narrow", default=False)
_Arguments = ParamSpec("_Arguments")


def is_narrow() -> bool:
    """Return whether figures are being drawn for a phone.

    Examples
    --------
    >>> is_narrow()
    False
    """
    return _narrow.get()


@contextmanager
def draw_narrow() -> Iterator[None]:
    """Draw figures for a phone.

    Examples
    --------
    >>> with draw_narrow():
    ...     is_narrow()
    True
    """
    token = _narrow.set(True)
    try:
        yield
    finally:
        _narrow.reset(token)


def also_for_phones(plot: Callable[_Arguments, Figure]) -> Callable[_Arguments, Figure]:
    """Let a function draw its figure twice in a notebook: wide, and narrow for phones.

    Parameters
    ----------
    plot : callable
        Returns a figure that was opened by a function of :mod:`ima.figures.style`.

    Returns
    -------
    callable
        Returns the wide figure. In a notebook that shows figures as SVG, the narrow one is its
        attribute ``narrow``.

    Examples
    --------
    >>> @also_for_phones
    ... def plot_nothing():
    ...     return Figure()
    >>> hasattr(plot_nothing(), "narrow")  # not in a notebook
    False
    """

    @functools.wraps(plot)
    def draw(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Figure:
        figure = plot(*args, **kwargs)
        if not is_narrow() and _shows_narrow():
            with draw_narrow():
                figure.narrow = plot(*args, **kwargs)  # type: ignore[attr-defined]
        return figure

    return draw


def _shows_narrow() -> bool:
    from IPython import get_ipython

    shell = get_ipython()
    return shell is not None and NARROW_SVG in shell.display_formatter.formatters


def fit_text(figure: Figure) -> None:
    """Break the titles of a narrow figure, and the words beside its rows, into lines.

    Where these need more room than the rows have, the figure grows.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> figure, axes = plt.subplots()
    >>> _ = axes.set_title("a long title " * 4, loc="left")
    >>> fit_text(figure)
    >>> plt.close(figure)
    >>> len(axes.get_title("left").splitlines())
    2
    """
    for axes in figure.axes:
        title = axes.get_title("left")
        lines = [fill(line, _TITLE_LETTERS) for line in title.splitlines()]
        if lines != title.splitlines():
            axes.set_title("\n".join(lines), loc="left")
        axes.set_ylabel(fill(axes.get_ylabel(), _NAME_LETTERS))
        labels = [label.get_text() for label in axes.get_yticklabels()]
        if isinstance(axes.yaxis.get_major_locator(), FixedLocator) and any(
            len(label) > _ROW_LETTERS for label in labels
        ):
            axes.set_yticks(axes.get_yticks(), [_break_label(label) for label in labels])
    growth = max((_compute_growth(axes) for axes in figure.axes), default=1.0)
    figure.set_figheight(figure.get_figheight() * max(growth, 1.0))


def _compute_growth(axes: Axes) -> float:
    """Return by how much a panel must grow for the words beside its rows; 1 if there are none."""
    labels, spec = axes.get_yticklabels(), axes.get_subplotspec()
    lines = max((len(label.get_text().splitlines()) for label in labels), default=0)
    figure = axes.get_figure(root=True)
    if lines < 2 or spec is None or figure is None:
        return 1.0
    size = float(labels[0].get_fontsize())
    needed = len(labels) * lines * _LINE_HEIGHT * size / _POINTS_PER_INCH + _AROUND_PANEL
    ratios = np.asarray(spec.get_gridspec().get_height_ratios(), float)
    share = float(ratios[list(spec.rowspan)].sum() / ratios.sum())
    # A legend below takes its room from the panels.
    rows = [-(-len(each.get_texts()) // each._ncols) for each in figure.legends]  # type: ignore[attr-defined]
    legends = float(sum(rows))
    height = figure.get_figheight()
    return (needed / share + legends * _LEGEND_ROW) / height


def _break_label(label: str) -> str:
    """Break a label at spaces, hyphens and slashes."""
    pieces = fill(label.replace("/", "/ "), _ROW_LETTERS).split("\n")
    return "\n".join(piece.replace("/ ", "/") for piece in pieces)


def count_legend_columns(labels: list[str], columns: int) -> int:
    """Return the columns of a legend that a narrow figure has room for.

    Examples
    --------
    >>> count_legend_columns(["text", "image"], 4), count_legend_columns(["a" * 40], 4)
    (2, 1)
    """
    longest = max(map(len, labels), default=0)
    return min(columns, 1 if longest > _LEGEND_LETTERS else 2)


def format_narrow_svg(figure: Figure) -> str | None:
    """Return the narrow drawing of a figure as SVG; None if it has none.

    Examples
    --------
    >>> format_narrow_svg(Figure()) is None
    True
    """
    narrow: Any = getattr(figure, "narrow", None)
    if narrow is None:
        return None
    drawn = io.StringIO()
    narrow.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()
