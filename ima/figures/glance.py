"""The book in one picture: how a frozen language model sees, and what its activations show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image

from ima.figures.labels import name_series
from ima.figures.palette import SERIES_COLOURS, get_list_style, get_series_style
from ima.figures.phone import NARROW_WIDTH, SMALL_TEXT, also_for_phones, is_narrow
from ima.figures.style import FIGURE_WIDTH

_FROZEN, _TRAINED, _EDGE = "#E8E8EC", "#F6ECD2", "#4D4D4D"
_TEXT = 9
_COSINES = (0, 0.5, 1)
# More would hide each other, and their names the curves.
_MOST_CURVES = 4
# More than it covers on the page.
_PICTURE_PIXELS = 144
_CURVES = {
    "P intra": "perceptual – perceptual",
    "T intra": "text – text",
    "PvsT": "perceptual – text",
}


class _Box(NamedTuple):
    """A part of the model: its middle, width and height, words and colour."""

    x: float
    y: float
    width: float
    height: float
    words: str
    colour: str


@also_for_phones
def plot_glance(
    picture: npt.NDArray[np.uint8],
    *,
    parts: Sequence[str],
    prompt: str,
    words: str,
    cones: xr.Dataset,
    overlap: pd.DataFrame,
    alignment: Mapping[str, xr.DataArray],
) -> Figure:
    """Draw a picture's way through a model, and below it one result of each finding.

    Parameters
    ----------
    picture : ndarray
        ``(height, width, 3)``, uint8.
    parts : sequence of str
        Names of the encoder, the connector and the language model.
    prompt : str
        The text that follows the perceptual tokens.
    words : str
        What the model generates.
    cones : xarray.Dataset
        ``estimate`` ``(curve, layer)``, cosines; the curves P intra, T intra and PvsT.
    overlap : pandas.DataFrame
        By model, ``value``, ``low`` and ``high`` of the share of the attainable overlap of weights.
    alignment : mapping of str to xarray.DataArray
        By model, PvsT ``(layer,)``, a cosine; the first four are shown.

    Returns
    -------
    matplotlib.figure.Figure
        The way on top, three panels below it.

    Examples
    --------
    >>> plot_glance(sample.load(), parts=["DINOv2", "connector", "SmolLM2"], prompt="a drawing of",
    ...             words="a cat", cones=cones, overlap=overlap,
    ...             alignment={"smollm2": curve})  # doctest: +SKIP
    """
    if is_narrow():
        figure = plt.figure(figsize=(NARROW_WIDTH, 7.6), layout="constrained")
        # The names beside the panels take no room from the way.
        (above,), (below,) = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.4, 3))
        way, panels = above.subplots(), list(below.subplots(3, 1, height_ratios=(1, 0.9, 1)))
        draw_way = _draw_way_down
    else:
        figure = plt.figure(figsize=(FIGURE_WIDTH, 4.3), layout="constrained")
        (above,), (below,) = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.25))
        way, panels = above.subplots(), list(below.subplots(1, 3))
        draw_way = _draw_way_across
    draw_way(way, picture, parts=parts, prompt=prompt, words=words)
    _plot_cones(panels[0], cones)
    _plot_overlap(panels[1], overlap)
    _plot_alignment(panels[2], alignment)
    for axes in panels:
        axes.tick_params(labelsize=SMALL_TEXT)
        axes.xaxis.label.set_size(SMALL_TEXT)
        axes.yaxis.label.set_size(SMALL_TEXT)
    for axes in (panels[0], panels[2]):
        name_series(figure, [axes])
    plt.close(figure)
    return figure


def _draw_way_across(
    axes: Axes, picture: Any, *, parts: Sequence[str], prompt: str, words: str
) -> None:
    axes.set(xlim=(0, 10), ylim=(0, 2.4))
    _show_picture(axes, picture, (0.0, 0.5, 1.5, 1.5))
    encoder, connector, language = parts
    boxes = [
        _Box(2.45, 1.25, 1.1, 0.9, f"{encoder}\nfrozen", _FROZEN),
        _Box(4.0, 1.25, 1.15, 0.9, f"{connector}\ntrained", _TRAINED),
        _Box(6.9, 1.25, 1.5, 1.3, f"{language}\nfrozen", _FROZEN),
    ]
    _draw_boxes(axes, boxes)
    _draw_arrow(axes, (1.55, 1.25), (1.85, 1.25))
    _draw_arrow(axes, (3.03, 1.25), (3.38, 1.25))
    _draw_tokens(axes, 4.75, 1.42, colour=SERIES_COLOURS["perceptual"])
    _draw_tokens(axes, 4.75, 0.92, colour=SERIES_COLOURS["textual"])
    axes.text(5.2, 1.72, "perceptual tokens", ha="center", fontsize=SMALL_TEXT)
    axes.text(5.2, 0.62, "tokens of the text", ha="center", fontsize=SMALL_TEXT)
    axes.text(5.2, 0.3, f"“{prompt}”", ha="center", fontsize=SMALL_TEXT, style="italic")
    _draw_arrow(axes, (5.8, 1.25), (6.12, 1.25))
    _draw_arrow(axes, (7.68, 1.25), (7.98, 1.25))
    axes.text(8.08, 1.25, fill(f"“{words}”", 22), va="center", fontsize=_TEXT, weight="bold")
    axes.set_axis_off()


def _draw_way_down(
    axes: Axes, picture: Any, *, parts: Sequence[str], prompt: str, words: str
) -> None:
    axes.set(xlim=(0, 4), ylim=(0, 3.6))
    _show_picture(axes, picture, (0.0, 2.2, 1.3, 1.3))
    encoder, connector, language = parts
    boxes = [
        _Box(2.0, 2.85, 0.9, 0.8, f"{encoder}\nfrozen", _FROZEN),
        _Box(3.4, 2.85, 1.0, 0.8, f"{connector}\ntrained", _TRAINED),
        _Box(2.2, 1.15, 3.4, 0.6, f"{language}, frozen", _FROZEN),
    ]
    _draw_boxes(axes, boxes)
    _draw_arrow(axes, (1.33, 2.85), (1.52, 2.85))
    _draw_arrow(axes, (2.48, 2.85), (2.87, 2.85))
    _draw_tokens(axes, 3.0, 1.95, colour=SERIES_COLOURS["perceptual"])
    _draw_tokens(axes, 0.3, 1.95, colour=SERIES_COLOURS["textual"], count=3)
    axes.text(2.92, 1.98, "perceptual tokens", ha="right", fontsize=SMALL_TEXT)
    axes.text(0.24, 1.98, "text", ha="right", fontsize=SMALL_TEXT)
    _draw_arrow(axes, (3.4, 2.42), (3.4, 2.15))
    _draw_arrow(axes, (3.4, 1.9), (3.4, 1.5))
    _draw_arrow(axes, (0.62, 1.9), (0.62, 1.5))
    _draw_arrow(axes, (2.2, 0.82), (2.2, 0.58))
    text = fill(f"“{prompt} … {words}”", 46)
    axes.text(2.0, 0.5, text, ha="center", va="top", fontsize=_TEXT, weight="bold")
    axes.set_axis_off()


def _show_picture(axes: Axes, picture: Any, place: tuple[float, float, float, float]) -> None:
    shown = Image.fromarray(picture)
    shown.thumbnail((_PICTURE_PIXELS, _PICTURE_PIXELS))
    inset = axes.inset_axes(place, transform=axes.transData)
    inset.imshow(shown)
    inset.set_axis_off()


def _draw_boxes(axes: Axes, boxes: Sequence[_Box]) -> None:
    for box in boxes:
        corner = (box.x - box.width / 2, box.y - box.height / 2)
        style = "round,pad=0,rounding_size=0.08"
        patch = FancyBboxPatch(
            corner, box.width, box.height, boxstyle=style, facecolor=box.colour, edgecolor=_EDGE
        )
        axes.add_patch(patch)
        axes.text(box.x, box.y, box.words, ha="center", va="center", fontsize=SMALL_TEXT)


def _draw_arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    arrow = {"arrowstyle": "-|>", "color": _EDGE, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=end, xytext=start, arrowprops=arrow)


def _draw_tokens(axes: Axes, x: float, y: float, *, colour: str, count: int = 4) -> None:
    for index in range(count):
        axes.add_patch(Rectangle((x + 0.24 * index, y), 0.17, 0.17, color=colour))


def _plot_cones(axes: Axes, cones: xr.Dataset) -> None:
    layers = cones["layer"].to_numpy()
    for name, label in _CURVES.items():
        values = cones["estimate"].sel(curve=name).to_numpy()
        style = {**get_series_style(name), "marker": ""}
        axes.plot(layers, values, label=label, **style)
    axes.set(xlabel="layer", ylabel="mean cosine", yticks=_COSINES)
    axes.set_title("Cones apart")


def _plot_overlap(axes: Axes, overlap: pd.DataFrame) -> None:
    for place, (_, row) in enumerate(overlap.iterrows()):
        axes.hlines(place, row["low"], row["high"], color=SERIES_COLOURS["PvsT"])
        axes.plot(row["value"], place, "o", color=SERIES_COLOURS["PvsT"], markersize=6)
    axes.axvline(1, color=SERIES_COLOURS["null"], linestyle=":")
    axes.set_yticks(range(len(overlap)), list(overlap.index))
    axes.set(ylim=(len(overlap) - 0.5, -0.5), xlim=(0, 1.12))
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("overlap perceptual – text\n(1: that of two texts)")
    axes.set_title("Weights shared")


def _plot_alignment(axes: Axes, alignment: Mapping[str, xr.DataArray]) -> None:
    shown = dict(list(alignment.items())[:_MOST_CURVES])
    for number, (name, curve) in enumerate(shown.items()):
        depth = np.linspace(0, 1, curve.sizes["layer"])
        style = {**get_list_style(number), "marker": ""}
        axes.plot(depth, curve.to_numpy(), label=name, **style)
    axes.set(xlabel="depth (0: first, 1: last)", ylabel="mean cosine", yticks=_COSINES)
    axes.set_title("Perceptual – text")
