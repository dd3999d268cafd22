"""Style of the book: one theme, and one colour, marker and name per thing shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
import numpy.typing as npt
import pandas as pd
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

#: Colour, marker and line style.
CurveStyle = tuple[Any, str, str]

# Okabe & Ito's palette, distinguishable with every kind of colour vision; never colour alone.
SERIES_COLOURS: Mapping[str, str] = {
    "text": "#000000",
    "image": "#0072B2",
    "video": "#D55E00",
    "audio": "#009E73",
    "perceptual": "#CC79A7",
    "textual": "#000000",
    "PvsT": "#D55E00",
    "PvsP": "#0072B2",
    "TvsT": "#000000",
    "P intra": "#56B4E9",
    "T intra": "#7F7F7F",
    "KL(P‖T)": "#D55E00",
    "KL(P‖P')": "#0072B2",
    "KL(T‖T')": "#000000",
    "KL(T halves)": "#7F7F7F",
    "same layer": "#D55E00",
    "fixed": "#000000",
    "released": "#D55E00",
    "as it is": "#D55E00",
    "noise": "#56B4E9",
    "random blocks": "#7F7F7F",
    "separated": "#0072B2",
    "input": "#0072B2",
    "ln1": "#56B4E9",
    "attn_out": "#0072B2",
    "resid_mid": "#7F7F7F",
    "ln2": "#E69F00",
    "mlp_post": "#CC79A7",
    "mlp_out": "#009E73",
    "resid_post": "#000000",
    "null": "#7F7F7F",
}
SERIES_MARKERS: Mapping[str, str] = {
    "text": "s",
    "image": "o",
    "video": "^",
    "audio": "D",
    "perceptual": "o",
    "textual": "s",
    "PvsT": "X",
    "PvsP": "o",
    "TvsT": "s",
    "P intra": "o",
    "T intra": "s",
    "KL(P‖T)": "X",
    "KL(P‖P')": "o",
    "KL(T‖T')": "s",
    "same layer": "X",
    "fixed": "s",
    "released": "X",
    "as it is": "X",
    "noise": "v",
    "random blocks": "P",
    "separated": "o",
    "input": "o",
    "ln1": "v",
    "attn_out": "o",
    "resid_mid": "P",
    "ln2": "^",
    "mlp_post": "D",
    "mlp_out": "X",
    "resid_post": "s",
}
_SERIES_DASHES: Mapping[str, tuple[int, ...]] = {
    "P intra": (3, 1),
    "T intra": (3, 1),
    "KL(T halves)": (3, 1),
    "released": (3, 1),
    "null": (1, 1),
}
# Labels wherever a short name would not explain itself.
SERIES_LABELS: Mapping[str, str] = {
    "PvsT": "perceptual–textual (PvsT)",
    "PvsP": "perceptual–perceptual (PvsP)",
    "TvsT": "textual–textual (TvsT)",
    "P intra": "perceptual, halves of a set",
    "T intra": "textual, halves of a set",
    "fixed": "as computed here",
    "released": "as in the released code",
    "noise": "noise for percepts",
    "separated": "kinds separated in all blocks",
    "same layer": "perceptual tokens of the same layer",
    "input": "perceptual tokens at the model's input",
    "ln1": "ln1: what attention reads",
    "attn_out": "attn_out: what attention adds",
    "resid_mid": "resid_mid: stream after attention",
    "ln2": "ln2: what the network reads",
    "mlp_post": "mlp_post: hidden units",
    "mlp_out": "mlp_out: what the network adds",
    "resid_post": "resid_post: stream after the block",
    "KL(P‖T)": "perceptual from textual, KL(P‖T)",
    "KL(P‖P')": "perceptual between data sets",
    "KL(T‖T')": "textual between data sets",
    "KL(T halves)": "textual, halves of a set (null)",
}
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

#: Markers of things that are no modality, told apart by their number.
_NUMBERED = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")


def set_theme() -> None:
    """Apply the book's theme, and SVG output where a notebook is running."""
    sns.set_theme(context="notebook", style="ticks", font_scale=0.85, rc=dict(_STYLE))
    from IPython import get_ipython

    if get_ipython() is not None:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats(  # type: ignore[no-untyped-call]
            "svg", metadata={"Date": None}, pad_inches=0.15
        )


@contextmanager
def open_figure(
    *, rows: int = 1, columns: int = 1, height: float = 3.0, **given: Any
) -> Iterator[tuple[Figure, npt.NDArray[Any]]]:
    """Yield a figure of the book's width with its axes, and close it at the end.

    Parameters
    ----------
    rows, columns : int
        Grid of axes.
    height : float
        Height of the figure in inches.
    **given
        Passed on to :func:`matplotlib.pyplot.subplots`.
    """
    figure, axes = plt.subplots(
        rows, columns, figsize=(FIGURE_WIDTH, height), squeeze=False, **given
    )
    yield figure, axes
    # A notebook shows the figure that a cell returns; one that stayed open would appear twice.
    plt.close(figure)


@contextmanager
def open_panel_grid(
    count: int, *, columns: int = 3, base: float, row: float, **given: Any
) -> Iterator[tuple[Figure, npt.NDArray[Any], list[Axes]]]:
    """Yield a figure with so many panels in a grid, without the ones that would stay empty.

    Parameters
    ----------
    count : int
        How many panels.
    columns : int
        At most so many in a row.
    base, row : float
        Height of the figure in inches: what it has anyhow, and for each row.
    **given
        Passed on to :func:`open_figure`.

    Yields
    ------
    figure, grid, panels
        ``grid`` has rows and columns; ``panels`` are its axes in order, as many as asked for.
    """
    columns = min(columns, count)
    rows = -(-count // columns)
    with open_figure(rows=rows, columns=columns, height=base + row * rows, **given) as (
        figure,
        grid,
    ):
        for axes in grid.flat[count:]:
            axes.remove()
        yield figure, grid, list(grid.flat[:count])


def add_outside_legend(
    figure: Figure, axes: Axes | Iterable[Axes], *, columns: int = 3, title: str = ""
) -> None:
    """Put one legend of some axes below the figure, outside the data."""
    seen: dict[str, Any] = {}
    for one in (axes,) if isinstance(axes, Axes) else axes:
        handles, texts = one.get_legend_handles_labels()
        seen = {**dict(zip(texts, handles, strict=True)), **seen}
        if own := one.get_legend():
            own.remove()
    figure.legend(
        seen.values(), seen.keys(), loc="outside lower center", ncols=columns, title=title or None
    )


def plot_layer_curve(
    axes: Axes,
    *,
    values: xr.DataArray,
    name: str,
    low: xr.DataArray | None = None,
    high: xr.DataArray | None = None,
    label: str | None = None,
    dim: str = "layer",
) -> None:
    """Draw one curve over layers with its interval.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where.
    values, low, high : xarray.DataArray
        ``(layer,)``.
    name : str
        What it is: chooses colour, marker and dashes.
    label : str or None
        Text of the legend; None takes the name's own.
    dim : str
        The dim along the x axis.
    """
    x = values[dim].to_numpy()
    colour = SERIES_COLOURS[name]
    axes.plot(
        x,
        values,
        color=colour,
        marker=SERIES_MARKERS.get(name, ""),
        dashes=_SERIES_DASHES.get(name, (1, 0)),
        label=SERIES_LABELS.get(name, name) if label is None else label,
    )
    if low is not None and high is not None:
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def plot_interval_line(
    axes: Axes, rows: pd.DataFrame, *, x: str, label: str, look: CurveStyle
) -> None:
    """Draw ``value`` over a column with the interval from ``low`` to ``high``, in order of x.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where.
    rows : pandas.DataFrame
        Columns ``value``, ``low``, ``high`` and ``x``.
    x, label : str
        The column along the x axis, and the text of the legend.
    look : tuple
        Colour, marker and line style.
    """
    colour, marker, line = look
    rows = rows.sort_values(x)
    axes.plot(rows[x], rows["value"], color=colour, marker=marker, linestyle=line, label=label)
    axes.fill_between(rows[x], rows["low"], rows["high"], color=colour, alpha=0.18, linewidth=0)


def get_numbered_style(at: int) -> dict[str, Any]:
    """Return a colour and a marker that no other number has: filled first, then open."""
    colours = sns.color_palette("colorblind", len(_NUMBERED))
    colour = colours[at % len(colours)]
    face = colour if at < len(_NUMBERED) else "none"
    return {"color": colour, "marker": _NUMBERED[at % len(_NUMBERED)], "markerfacecolor": face}


def plot_null_line(axes: Axes, value: float, *, label: str) -> None:
    """Draw the value at which a claim says nothing."""
    axes.axhline(value, color=SERIES_COLOURS["null"], linestyle=":", linewidth=1.4, label=label)
