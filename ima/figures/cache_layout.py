"""Picture of a cache: how an array is divided into files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ima.figures.phone import SMALL_TEXT, also_for_phones
from ima.figures.style import open_axes

# Neighbouring files differ; the shades mean nothing else.
_SHADES = ("#DCE9F2", "#F4F4F4")
_EDGE, _TEXT = "#4D4D4D", "#000000"
#: Fewer files than this are named.
_MOST_NAMES = 12


@also_for_phones
def plot_cache_layout(
    shape: Sequence[int], *, chunks: Sequence[int], shards: Sequence[int] | None = None
) -> Figure:
    """Draw the files of an array whose first dim is the sample and whose third is the layer.

    Parameters
    ----------
    shape, chunks, shards : sequence of int
        Sizes of a mean's array ``(sample, kind, layer, hidden)``, of its chunks and of its files;
        without `shards`, a file is a chunk.

    Returns
    -------
    matplotlib.figure.Figure
        Samples over layers: a box is a file, and a dotted line divides it into the chunks that
        can be read alone.

    Examples
    --------
    >>> given = {"chunks": (8, 2, 1, 128), "shards": (8, 2, 13, 128)}
    >>> figure = plot_cache_layout((32, 2, 13, 128), **given)
    >>> len(figure.axes[0].patches)
    4
    """
    files = chunks if shards is None else shards
    (samples, layers), rows, columns = (shape[0], shape[2]), files[0], files[2]
    count = -(-samples // rows) * -(-layers // columns)
    with open_axes(2.6, xlabel="layer", ylabel="sample") as (figure, axes):
        for top in range(0, samples, rows):
            for left in range(0, layers, columns):
                height, width = min(rows, samples - top), min(columns, layers - left)
                place = (top // rows, 0, left // columns, 0)
                shade = _SHADES[sum(place) % 2]
                axes.add_patch(
                    Rectangle((left, top), width, height, facecolor=shade, edgecolor=_EDGE)
                )
                if count <= _MOST_NAMES:
                    name = "c/" + "/".join(map(str, place))
                    middle = (left + width / 2, top + height / 2)
                    axes.text(*middle, name, ha="center", va="center", fontsize=SMALL_TEXT)
        inner = np.arange(chunks[2], layers, chunks[2])
        axes.vlines(inner, 0, samples, color=_EDGE, linewidth=0.4, linestyle=":")
        axes.set(xlim=(0, layers), ylim=(samples, 0))
        axes.grid(visible=False)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
    return figure
